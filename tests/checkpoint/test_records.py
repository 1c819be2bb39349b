"""What was accepted stays in the checkpoint until the snapshot has it, in source order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.checkpoint import Checkpoint, PastRun, mark_of
from etl.checkpoint.records import pack_sent, unpack_sent
from etl.model import CommittedRows, RowRange, Sent, Tally


def piece(numbers: list[int], width: int = 2, kind: type[np.unsignedinteger] = np.uint32) -> Sent:
    """Rows whose keys and fingerprints are worked out from their numbers."""
    rows = np.array(numbers, dtype=np.int64)
    fingerprints = (rows[:, None] * 10 + np.arange(width)).astype(kind)
    return Sent(rows, rows.astype(np.uint64).reshape(-1, 1) << np.uint64(40), fingerprints)


def committed(first: int, *pieces: Sent, file: int = 0) -> CommittedRows:
    rows = sum(len(one.numbers) for one in pieces)
    return CommittedRows(RowRange(file, first, first + 100), Tally(rows=rows), sent=pieces)


@given(
    st.lists(st.lists(st.integers(1, 10**6), min_size=1, unique=True).map(sorted), min_size=1, max_size=4),
    st.sampled_from([np.uint32, np.uint64]),
)
def test_pieces_come_back_in_source_order(numbers: list[list[int]], kind: type[np.unsignedinteger]) -> None:
    (row,) = pack_sent(RowRange(3, 7, 9), [piece(some, kind=kind) for some in numbers])
    entries = unpack_sent(row)
    wanted = piece(sorted(number for some in numbers for number in some), kind=kind)
    assert (entries.file, entries.first) == (3, 7)
    assert entries.fingerprints.dtype == kind
    np.testing.assert_array_equal(entries.keys, wanted.keys)
    np.testing.assert_array_equal(entries.fingerprints, wanted.fingerprints)


def test_rows_in_doubt_are_kept_apart_and_come_last() -> None:
    sure, doubtful = piece([1, 4]), replace(piece([2, 3]), end="in_doubt")
    found = [unpack_sent(row) for row in pack_sent(RowRange(0, 1, 5), [doubtful, sure])]
    assert [entries.end for entries in found] == ["accepted", "in_doubt"]
    np.testing.assert_array_equal(found[0].keys, sure.keys)
    np.testing.assert_array_equal(found[1].keys, doubtful.keys)


def test_chunks_come_in_source_order_whenever_they_were_committed(tmp_path: Path) -> None:
    with Checkpoint.create(tmp_path / "c.sqlite", {}) as checkpoint:
        for file, first in ((1, 1), (0, 101), (0, 1)):
            checkpoint.commit([committed(first, piece([first]), file=file)], Tally(), 0.0)
        assert [(found.file, found.first) for found in checkpoint.sent()] == [(0, 1), (0, 101), (1, 1)]
        assert [found.first for found in checkpoint.sent((0, 1), (0, 101))] == [1]
        assert [(found.file, found.first) for found in checkpoint.sent((0, 101))] == [(0, 101), (1, 1)]


def test_they_are_there_for_another_process_and_gone_when_the_run_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    with Checkpoint.create(path, {}) as checkpoint:
        checkpoint.commit([committed(1, piece(list(range(1, 20_000))))], Tally(), 0.0)
    large = path.stat().st_size
    with Checkpoint.load(path) or pytest.fail("gone") as again:
        assert sum(len(found.keys) for found in again.sent()) == 19_999
        again.finish()
        assert list(again.sent()) == []
    assert path.stat().st_size < large / 2


@pytest.mark.parametrize(
    ("mine", "theirs", "overlap"),
    [
        (["a", "b"], ["b", "a"], "all"),
        (["a", "b"], ["a"], "some"),
        (["a"], ["a", "a"], "some"),
        (["a", None], ["a", None], "some"),
        (["a"], ["b"], "none"),
        ([None], [None], "none"),
    ],
)
def test_a_source_overlaps_a_past_run_by_its_files(
    mine: list[str | None], theirs: list[str | None], overlap: str
) -> None:
    assert (
        PastRun("x", resent=False, rows=1, number=1, counted=True, marks=tuple(mine)).overlap(theirs)
        == overlap
    )


def test_a_file_is_marked_by_its_digest_or_else_by_all_that_is_known_of_it() -> None:
    assert mark_of(["a.csv", 5, 1.5, "x"], "abc") == mark_of(["b.csv", 5, None, "y"], "abc") == "5:abc"
    assert mark_of(["a.csv", 5, 1.5, "x"], None) == "a.csv:5:1.5:x"
    assert mark_of(["a.csv", 5, None, "x"], None) is None
