"""Sets of positions and of keys, a bit each."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from etl.snapshot.sorted_file import BitSet, KeyFilter

POSITIONS = st.lists(st.integers(-1, 40), max_size=60)


@given(st.lists(POSITIONS, max_size=4), POSITIONS)
def test_what_was_added_is_in_and_nothing_else(added: list[list[int]], asked: list[int]) -> None:
    bits = BitSet(41)
    for positions in added:
        bits.add(np.array(positions, dtype=np.int64))
    held = set().union(*added) - {-1} if added else set()
    assert bits.has(np.array(asked, dtype=np.int64)).tolist() == [position in held for position in asked]


def test_an_empty_set_has_nothing() -> None:
    nowhere = np.full((3, 2), -1)
    assert not BitSet(0).has(nowhere).any()
    BitSet(0).add(nowhere)


@given(POSITIONS, POSITIONS)
def test_two_sets_are_united_subtracted_and_counted(one: list[int], other: list[int]) -> None:
    mine, theirs = set(one) - {-1}, set(other) - {-1}
    for change, expected in (("update", mine | theirs), ("subtract", mine - theirs)):
        bits, others = BitSet(41), BitSet(41)
        bits.add(np.array(one, dtype=np.int64))
        others.add(np.array(other, dtype=np.int64))
        assert bits.shared(others) == len(mine & theirs)
        getattr(bits, change)(others)
        assert len(bits) == len(expected)
        again = BitSet.read(41, bytes(bits))
        assert again is not None
        assert np.flatnonzero(again.has(np.arange(41))).tolist() == sorted(expected)


def test_a_set_of_another_number_of_positions_is_not_read() -> None:
    assert BitSet.read(80, bytes(BitSet(41))) is None


def test_a_key_filter_has_what_was_added_and_takes_memory_only_then() -> None:
    keys = np.array([5, 2**64 - 1, 7], dtype=np.uint64)
    found = KeyFilter()
    found.add(keys[:0])
    assert not found
    assert not found.has(keys).any()
    found.add(keys[:2])
    assert found
    assert found.has(keys).tolist() == [True, True, False]
