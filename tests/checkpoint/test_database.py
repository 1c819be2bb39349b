"""What was accepted stays in the file beside the checkpoint until the snapshot has it, in source order.

A past run is known again by its files.
"""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.checkpoint import Checkpoint, PastRun, SentEntries, mark_of
from etl.checkpoint.database import SentFile, by_end, create_database
from etl.errors import StaleCheckpointError, StateError
from etl.model import CommittedRows, Sent
from etl.tally import RowRange, Tally
from tests.examples import each_row


def piece(numbers: list[int], width: int = 2, kind: type[np.unsignedinteger] = np.uint32) -> Sent:
    """Rows whose keys and fingerprints are worked out from their numbers."""
    rows = np.array(numbers, dtype=np.int64)
    fingerprints = (rows[:, None] * 10 + np.arange(width)).astype(kind)
    return Sent(rows, rows.astype(np.uint64).reshape(-1, 1) << np.uint64(40), fingerprints)


def committed(first: int, *pieces: Sent, file: int = 0) -> CommittedRows:
    rows = sum(len(one.numbers) for one in pieces)
    return CommittedRows(RowRange(file, first, first + 100), Tally(rows=rows), sent=pieces)


def numbers_of(found: SentEntries) -> list[int]:
    """The rows that the keys were worked out from."""
    return [key >> 40 for key in found.keys[:, 0].tolist()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.sqlite"


def sent_beside(path: Path) -> Path:
    return path.with_name("c.sqlite-sent")


@given(
    st.lists(st.lists(st.integers(1, 10**6), min_size=1, unique=True).map(sorted), min_size=1, max_size=4),
    st.sampled_from([np.uint32, np.uint64]),
)
def test_pieces_come_in_source_order(numbers: list[list[int]], kind: type[np.unsignedinteger]) -> None:
    (entries,) = by_end(RowRange(3, 7, 9), [piece(some, kind=kind) for some in numbers])
    wanted = piece(sorted(number for some in numbers for number in some), kind=kind)
    assert (entries.file, entries.first) == (3, 7)
    assert entries.fingerprints.dtype == kind
    np.testing.assert_array_equal(entries.keys, wanted.keys)
    np.testing.assert_array_equal(entries.fingerprints, wanted.fingerprints)


@pytest.mark.parametrize("kind", [np.uint32, np.uint64])
@pytest.mark.parametrize("width", [0, 1, 3])
def test_what_was_committed_comes_back_as_it_was(
    path: Path, width: int, kind: type[np.unsignedinteger]
) -> None:
    chunks = [list(range(first, first + first % 7 + 1)) for first in range(1, 2000, 10)]
    with Checkpoint.create(path, {}) as checkpoint:
        for start in range(0, len(chunks), 3):
            group = [committed(some[0], piece(some, width, kind)) for some in chunks[start : start + 3]]
            checkpoint.commit(group, Tally(), 0.0)
        found = list(checkpoint.sent())
    wanted = piece([number for some in chunks for number in some], width, kind)
    assert {one.fingerprints.dtype for one in found} == {np.dtype(kind)}
    np.testing.assert_array_equal(np.concatenate([one.keys for one in found]), wanted.keys)
    np.testing.assert_array_equal(np.concatenate([one.fingerprints for one in found]), wanted.fingerprints)
    assert sent_beside(path).stat().st_mode & 0o777 == 0o600


def test_rows_in_doubt_are_kept_apart_and_come_last(path: Path) -> None:
    sure, doubtful = piece([1, 4]), replace(piece([2, 3]), end="in_doubt")
    with Checkpoint.create(path, {}) as checkpoint:
        checkpoint.commit([committed(1, doubtful, sure)], Tally(), 0.0)
        found = [(one.end, numbers_of(one)) for one in checkpoint.sent()]
    assert found == [("accepted", [1, 4]), ("in_doubt", [2, 3])]


def test_chunks_come_in_source_order_whenever_they_were_committed(path: Path) -> None:
    with Checkpoint.create(path, {}) as checkpoint:
        for file, first in ((1, 1), (0, 101), (0, 1)):
            checkpoint.commit([committed(first, piece([first]), file=file)], Tally(), 0.0)
        assert [(one.file, numbers_of(one)) for one in checkpoint.sent()] == [(0, [1, 101]), (1, [1])]
        assert [numbers_of(one) for one in checkpoint.sent((0, 1), (0, 101))] == [[1]]
        assert [(one.file, one.first) for one in checkpoint.sent((0, 101))] == [(0, 101), (1, 1)]


def test_they_are_there_for_another_process_and_gone_when_the_run_is_finished(path: Path) -> None:
    with Checkpoint.create(path, {}) as checkpoint:
        checkpoint.commit([committed(1, piece(list(range(1, 20_000))))], Tally(), 0.0)
    with Checkpoint.load(path) or pytest.fail("gone") as again:
        again.commit([committed(20_000, piece([20_000]))], Tally(), 0.0)
        assert [n for one in again.sent() for n in numbers_of(one)] == list(range(1, 20_001))
        again.finish()
        assert list(again.sent()) == []
    assert not sent_beside(path).exists()
    with Checkpoint.load(path) or pytest.fail("gone") as again:
        assert again.progress().finished


def test_what_belongs_to_no_transaction_is_written_over(path: Path) -> None:
    """A process may be killed after the file has grown and before the transaction."""
    with Checkpoint.create(path, {}) as checkpoint:
        checkpoint.commit([committed(1, piece([1, 2]))], Tally(), 0.0)
    with sent_beside(path).open("ab") as file:
        file.write(b"x" * 1001)
    with Checkpoint.load(path) or pytest.fail("gone") as again:
        assert [numbers_of(one) for one in again.sent()] == [[1, 2]]
        again.commit([committed(101, piece([101, 102]))], Tally(), 0.0)
        assert [numbers_of(one) for one in again.sent()] == [[1, 2, 101, 102]]


def test_a_new_run_begins_with_nothing_whatever_an_earlier_one_left(path: Path) -> None:
    with Checkpoint.create(path, {}) as checkpoint:
        checkpoint.commit([committed(1, piece(list(range(1, 100))))], Tally(), 0.0)
    left = sent_beside(path).read_bytes()
    with Checkpoint.create(path, {}) as fresh:
        assert not sent_beside(path).exists()
        sent_beside(path).write_bytes(left)  # as if the process had been killed before it was removed
        assert list(fresh.sent()) == []
        fresh.commit([committed(1, piece([7]))], Tally(), 0.0)
        assert [numbers_of(one) for one in fresh.sent()] == [[7]]


@pytest.mark.parametrize("left", [None, 0, 10])
def test_a_checkpoint_without_what_was_sent_is_damaged(path: Path, left: int | None) -> None:
    with Checkpoint.create(path, {}) as checkpoint:
        checkpoint.commit([committed(1, piece([1, 2]))], Tally(), 0.0)
    if left is None:
        sent_beside(path).unlink()
    else:
        sent_beside(path).write_bytes(sent_beside(path).read_bytes()[:left])
    with pytest.raises(StaleCheckpointError, match="ends in -sent") as caught:
        Checkpoint.load(path)
    assert caught.value.damaged


def test_a_transaction_fails_with_the_file(path: Path) -> None:
    with Checkpoint.create(path, {}) as checkpoint:
        sent_beside(path).mkdir()  # in place of a disk that is full
        with pytest.raises(StateError, match="sqlite-sent"):
            checkpoint.commit([committed(1, piece([1]))], Tally(), 0.0)
        assert checkpoint.progress().tally.rows == 0
        assert list(checkpoint.committed()) == []


def test_a_run_that_finishes_while_another_process_opens_it_is_finished(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = SentFile.is_whole
    with Checkpoint.create(path, {}) as running:
        running.commit([committed(1, piece([1, 2]))], Tally(), 0.0)

        def finish_before(file: SentFile) -> bool:
            """What was sent goes between the question where it ends and the look at the file."""
            if sent_beside(path).exists():
                running.finish()
            return look(file)

        monkeypatch.setattr(SentFile, "is_whole", finish_before)
        with Checkpoint.look(path) as found:
            assert not sent_beside(path).exists()
            assert found is not None
            assert found.progress().finished


@each_row(
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


def test_the_columns_are_those_of_the_version(path: Path) -> None:
    """A checkpoint with other columns needs another version, by which an older one is refused in words."""
    create_database(path, [None] * 9, (), {})
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        made = connection.execute("SELECT sql FROM sqlite_master WHERE sql NOTNULL ORDER BY name").fetchall()
    words = " ".join(" ".join(sql.split()) for (sql,) in made)
    assert (version, zlib.crc32(words.encode())) == (6, 1_198_986_683)
