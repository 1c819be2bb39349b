"""Who comes after a row of the same user that is sent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.snapshot import followers as module
from etl.snapshot.followers import followers

ROWS = st.lists(st.tuples(st.integers(-1, 6), st.integers(-1, 6), st.booleans(), st.booleans()), max_size=25)
Rows = list[tuple[int, int, bool, bool]]


def one_by_one(rows: Rows, width: int) -> list[bool]:
    users: set[int] = set()
    after = []
    for *own, sent, may in rows:
        known = set(own[:width]) - {-1}
        after.append(bool(users & known))
        if sent or (may and after[-1]):
            users |= known
    return after


@given(ROWS, st.sampled_from([1, 2]))
def test_followers_are_those_that_one_finds_row_by_row(rows: Rows, width: int) -> None:
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    sent, may = table[:, 2].astype(bool), table[:, 3].astype(bool)
    assert followers(table[:, :width], sent, may=may).tolist() == one_by_one(rows, width)


def test_a_long_chain_of_users_and_devices_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = np.array([(n // 2, 1000 + (n + 1) // 2) for n in range(100)])
    sent = np.arange(100) == 0
    everyone = np.ones(100, dtype=bool)
    assert followers(chain, sent, may=everyone)[1:].all()
    monkeypatch.setattr(module, "_ROUNDS", 1000)
    assert followers(chain, sent, may=everyone)[1:].all()
