"""Tallies add up field by field, and the safe point never passes an unsettled row."""

from __future__ import annotations

from dataclasses import astuple, fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.tally import HeldRows, RangeSet, RowRange, Tally

ROW_RANGES = st.lists(
    st.builds(
        lambda file, first, rows: RowRange(file, first, first + rows),
        st.integers(0, 2),
        st.integers(1, 60),
        st.integers(0, 20),
    ),
    max_size=20,
)


def test_every_count_is_added() -> None:
    one = Tally(*range(1, len(fields(Tally)) + 1))
    other = Tally(*range(100, 100 + len(fields(Tally))))
    assert astuple(one + other) == tuple(a + b for a, b in zip(astuple(one), astuple(other), strict=True))


def settled_rows(row_ranges: list[RowRange], file: int) -> set[int]:
    return {row for s in row_ranges if s.file == file for row in range(s.first, s.stop or 0)}


@given(ROW_RANGES)
def test_settled_rows_and_gaps_are_each_other_s_complement(row_ranges: list[RowRange]) -> None:
    ranges = RangeSet(row_ranges)
    for file in range(3):
        committed = settled_rows(row_ranges, file)
        gaps = ranges.gaps(file)
        assert gaps[-1].stop is None
        open_rows = {row for gap in gaps for row in range(gap.first, gap.stop or 200)}
        assert open_rows | committed >= set(range(1, 200))
        assert not open_rows & committed


@given(ROW_RANGES)
def test_never_passes_an_unsettled_row(row_ranges: list[RowRange]) -> None:
    ranges = RangeSet(row_ranges)
    for file in range(3):
        safe = ranges.safe_point(file)
        committed = settled_rows(row_ranges, file)
        assert set(range(1, safe)) <= committed
        assert safe not in committed


@given(ROW_RANGES, st.randoms())
def test_neither_order_nor_repetition_matters(row_ranges: list[RowRange], random: object) -> None:
    shuffled = row_ranges + row_ranges
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert list(RangeSet(shuffled).committed()) == list(RangeSet(row_ranges).committed())


def test_rows_counts_each_once() -> None:
    assert RangeSet([RowRange(0, 1, 5), RowRange(0, 3, 8), RowRange(1, 1, 3)]).rows() == 9


def test_size_follows_gaps_and_not_rows() -> None:
    ranges = RangeSet(RowRange(0, first, first + 1) for first in range(1, 10_001))
    assert list(ranges.committed()) == [RowRange(0, 1, 10_001)]


def test_an_open_stretch_is_refused() -> None:
    with pytest.raises(ValueError, match="open"):
        RangeSet([RowRange(0, 1)])


@given(
    st.lists(st.tuples(st.integers(1, 20), st.booleans(), st.booleans()), max_size=12),
)
def test_a_stretch_with_held_rows_is_a_gap_of_its_own(chunks: list[tuple[int, bool, bool]]) -> None:
    committed, held, expected, first = [], [], [], 1
    for rows, is_settled, is_held in chunks:
        row_range = RowRange(0, first, first + rows)
        if is_settled or is_held:
            committed.append(row_range)
        if is_held:
            held.append(HeldRows(row_range, np.array([first])))
            expected.append(row_range)
        first += rows
    ranges = RangeSet(committed, held)
    gaps = ranges.gaps(0)
    assert [gap for gap in gaps if ranges.held(gap) is not None] == expected
    assert [gap.first for gap in gaps] == sorted(gap.first for gap in gaps)
    left = [row for gap in gaps for row in range(gap.first, gap.stop or first)]
    done = {row for one in committed for row in range(one.first, one.stop or 0)}
    done -= {row for one in held for row in range(one.row_range.first, one.row_range.stop or 0)}
    assert sorted(left) == [row for row in range(1, first) if row not in done]
    assert ranges.rows() == sum((one.stop or 0) - one.first for one in committed) - len(held)


@given(ROW_RANGES, st.lists(st.tuples(st.integers(0, 2), st.integers(1, 90)), max_size=5))
def test_limits_cut_gaps_and_lose_no_row(row_ranges: list[RowRange], limits: list[tuple[int, int]]) -> None:
    whole, cut = RangeSet(row_ranges), RangeSet(row_ranges, limits=limits)
    for file in range(3):
        gaps = cut.gaps(file)
        assert not any(
            gap.first < row and (gap.stop is None or row < gap.stop)
            for gap in gaps
            for of, row in limits
            if of == file
        )
        rows = [
            [r for g in ranges.gaps(file) for r in range(g.first, g.stop or 200)] for ranges in (whole, cut)
        ]
        assert rows[0] == rows[1]
