"""A set of positions, a bit each."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from etl.snapshot.bits import Bits

POSITIONS = st.lists(st.integers(-1, 40), max_size=60)


@given(st.lists(POSITIONS, max_size=4), POSITIONS)
def test_what_was_added_is_in_and_nothing_else(added: list[list[int]], asked: list[int]) -> None:
    bits = Bits(41)
    for positions in added:
        bits.add(np.array(positions, dtype=np.int64))
    held = set().union(*added) - {-1} if added else set()
    assert bits.has(np.array(asked, dtype=np.int64)).tolist() == [position in held for position in asked]


def test_an_empty_set_has_nothing() -> None:
    nowhere = np.full((3, 2), -1)
    assert not Bits(0).has(nowhere).any()
    Bits(0).add(nowhere)
