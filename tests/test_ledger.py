"""The safe point never passes an unsettled row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.ledger import Ledger
from etl.model import HeldRows, Stretch

STRETCHES = st.lists(
    st.builds(
        lambda file, first, rows: Stretch(file, first, first + rows),
        st.integers(0, 2),
        st.integers(1, 60),
        st.integers(0, 20),
    ),
    max_size=20,
)


def settled_rows(stretches: list[Stretch], file: int) -> set[int]:
    return {row for s in stretches if s.file == file for row in range(s.first, s.stop or 0)}


@given(STRETCHES)
def test_settled_rows_and_gaps_are_each_other_s_complement(stretches: list[Stretch]) -> None:
    ledger = Ledger(stretches)
    for file in range(3):
        settled = settled_rows(stretches, file)
        gaps = ledger.gaps(file)
        assert gaps[-1].stop is None
        open_rows = {row for gap in gaps for row in range(gap.first, gap.stop or 200)}
        assert open_rows | settled >= set(range(1, 200))
        assert not open_rows & settled


@given(STRETCHES)
def test_never_passes_an_unsettled_row(stretches: list[Stretch]) -> None:
    ledger = Ledger(stretches)
    for file in range(3):
        safe = ledger.safe_point(file)
        settled = settled_rows(stretches, file)
        assert set(range(1, safe)) <= settled
        assert safe not in settled


@given(STRETCHES, st.randoms())
def test_neither_order_nor_repetition_matters(stretches: list[Stretch], random: object) -> None:
    shuffled = stretches + stretches
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert list(Ledger(shuffled).settled()) == list(Ledger(stretches).settled())


def test_rows_counts_each_once() -> None:
    assert Ledger([Stretch(0, 1, 5), Stretch(0, 3, 8), Stretch(1, 1, 3)]).rows() == 9


def test_size_follows_gaps_and_not_rows() -> None:
    ledger = Ledger(Stretch(0, first, first + 1) for first in range(1, 10_001))
    assert list(ledger.settled()) == [Stretch(0, 1, 10_001)]


def test_an_open_stretch_is_refused() -> None:
    with pytest.raises(ValueError, match="open"):
        Ledger([Stretch(0, 1)])


@given(
    st.lists(st.tuples(st.integers(1, 20), st.booleans(), st.booleans()), max_size=12),
)
def test_a_stretch_with_held_rows_is_a_gap_of_its_own(chunks: list[tuple[int, bool, bool]]) -> None:
    settled, held, expected, first = [], [], [], 1
    for rows, is_settled, is_held in chunks:
        stretch = Stretch(0, first, first + rows)
        if is_settled or is_held:
            settled.append(stretch)
        if is_held:
            held.append(HeldRows(stretch, np.array([first])))
            expected.append(stretch)
        first += rows
    ledger = Ledger(settled, held)
    gaps = ledger.gaps(0)
    assert [gap for gap in gaps if ledger.held(gap) is not None] == expected
    assert [gap.first for gap in gaps] == sorted(gap.first for gap in gaps)
    left = [row for gap in gaps for row in range(gap.first, gap.stop or first)]
    done = {row for one in settled for row in range(one.first, one.stop or 0)}
    done -= {row for one in held for row in range(one.stretch.first, one.stretch.stop or 0)}
    assert sorted(left) == [row for row in range(1, first) if row not in done]
    assert ledger.rows() == sum((one.stop or 0) - one.first for one in settled) - len(held)
