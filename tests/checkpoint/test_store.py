"""What is committed stays committed; what can't be trusted is refused with a remedy."""

from __future__ import annotations

import random
import resource
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etl.checkpoint import Checkpoint, PastRun, past_of
from etl.checkpoint.database import create_database
from etl.errors import ExitCode, StaleCheckpointError, StateError
from etl.model import CommittedRows
from etl.tally import RowRange, Tally
from tests.checkpoint.builders import IDENTITY, committed, reject
from tests.examples import each_row


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.sqlite"


def loaded(path: Path) -> Checkpoint:
    checkpoint = Checkpoint.load(path)
    assert checkpoint is not None
    return checkpoint


def test_there_is_none_before_it_was_begun(path: Path) -> None:
    assert Checkpoint.load(path) is None


def test_commits_add_up_and_survives_reopening(path: Path) -> None:
    with Checkpoint.create(path, IDENTITY) as checkpoint:
        checkpoint.commit([committed(1, 10), committed(21, 5, rejects=(reject(22),))], Tally(requests=3), 1.5)
        checkpoint.commit([committed(11, 10)], Tally(requests=1, retries=1, bytes=99), 0.5)
    with loaded(path) as again:
        progress = again.progress()
        assert progress.tally == Tally(rows=25, accepted=24, rejected=1, requests=4, retries=1, bytes=99)
        assert progress.seconds == pytest.approx(2.0)
        assert progress.identity == IDENTITY
        assert not progress.finished
        assert list(again.committed()) == [RowRange(0, 1, 11), RowRange(0, 11, 21), RowRange(0, 21, 26)]
        assert list(again.rejects()) == [reject(22)]


def test_rejects_come_in_source_order_and_are_counted_by_code(path: Path) -> None:
    with Checkpoint.create(path, IDENTITY) as checkpoint:
        checkpoint.commit([committed(5, 2, rejects=(reject(6), reject(5, "bad_date")))], Tally(), 0)
        checkpoint.commit([committed(1, 2, rejects=(reject(2),))], Tally(), 0)
        assert [found.row for found in checkpoint.rejects()] == [2, 5, 6]
        assert checkpoint.rejects_by_code() == {"missing_id": 2, "bad_date": 1}


def test_a_chunk_is_never_committed_twice(path: Path) -> None:
    with Checkpoint.create(path, IDENTITY) as checkpoint:
        checkpoint.commit([committed(1, 10)], Tally(), 0)
        with pytest.raises(StateError):
            checkpoint.commit([committed(11, 5), committed(1, 10)], Tally(requests=1), 0)
        assert list(checkpoint.committed()) == [RowRange(0, 1, 11)]
        assert checkpoint.progress().tally == Tally(rows=10, accepted=10)


def test_a_finished_one_says_so(path: Path) -> None:
    with Checkpoint.create(path, IDENTITY) as checkpoint:
        checkpoint.finish()
    with loaded(path) as again:
        assert again.progress().finished


def test_creating_anew_forgets_the_old_one(path: Path) -> None:
    with Checkpoint.create(path, IDENTITY) as checkpoint:
        checkpoint.commit([committed(1, 10)], Tally(), 0)
        with Checkpoint.create(path, IDENTITY) as new:
            assert list(new.committed()) == []


def test_only_the_owner_can_read_it(path: Path) -> None:
    with Checkpoint.create(path, IDENTITY) as checkpoint:
        checkpoint.commit([committed(1, 10)], Tally(), 0)
        modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert modes == {0o600}


@pytest.mark.parametrize(
    "content", [b"", b"not a database", b"\0" * 5000, b"SQLite format 3\0" + b"x" * 5000]
)
def test_rubbish_is_refused_with_a_remedy(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StaleCheckpointError) as caught:
        loaded(path)
    assert str(path) in str(caught.value)
    assert "--restart" in str(caught.value)
    assert caught.value.exit_code == ExitCode.SOURCE


def test_somebody_else_s_database_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(StaleCheckpointError, match="not a checkpoint of propsync"):
        loaded(path)


CHUNKS = [committed(first, 20, rejects=(reject(first),)) for first in range(1, 4000, 20)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint file with all chunks."""
    path = tmp_path_factory.mktemp("state") / "checkpoint.sqlite"
    with Checkpoint.create(path, IDENTITY) as checkpoint:
        for at in range(0, len(CHUNKS), 50):
            checkpoint.commit(CHUNKS[at : at + 50], Tally(requests=1), 0.1)
    return path.read_bytes()


@pytest.mark.parametrize("seed", range(40))
def test_damage_anywhere_is_refused_or_harmless(path: Path, whole: bytes, seed: int) -> None:
    chance = random.Random(seed)
    content = bytearray(whole)
    if seed % 2:
        del content[chance.randrange(1, len(content)) :]
    else:
        at = chance.randrange(len(content))
        content[at : at + 64] = chance.randbytes(64)
    path.write_bytes(content)
    # A flipped byte in free space or inside a text may go unnoticed; damaged structure never does.
    with suppress(StaleCheckpointError), loaded(path) as again:
        assert list(again.committed()) == [chunk.row_range for chunk in CHUNKS]
        assert len(list(again.rejects())) == len(CHUNKS)


@contextmanager
def _files_end_at(size: int) -> Iterator[None]:
    """A full disk, as far as this process can tell."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_nothing_that_was_committed(path: Path) -> None:
    with Checkpoint.create(path, IDENTITY) as checkpoint:
        checkpoint.commit([committed(1, 10)], Tally(), 0)
        with _files_end_at(path.with_name(path.name + "-wal").stat().st_size):
            many = tuple(reject(row, values='{"a":"' + "x" * 500 + '"}') for row in range(11, 311))
            with pytest.raises(StateError, match="can't be written") as caught:
                checkpoint.commit([committed(11, 300, rejects=many)], Tally(), 0)
        assert caught.value.exit_code == ExitCode.STATE
        checkpoint.commit([committed(11, 300)], Tally(), 0)  # there is room again
    with loaded(path) as again:
        assert list(again.committed()) == [RowRange(0, 1, 11), RowRange(0, 11, 311)]


def test_a_folder_that_isn_t_there_is_a_state_error(tmp_path: Path) -> None:
    with pytest.raises(StateError):
        Checkpoint.create(tmp_path / "absent" / "checkpoint.sqlite", IDENTITY)
    assert list(tmp_path.iterdir()) == []


def test_rows_that_are_held_are_named_until_they_have_their_end(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.sqlite"

    def left() -> list[tuple[RowRange, list[int]]]:
        with Checkpoint.load(path) or pytest.fail("gone") as found:
            return [(one.row_range, one.rows.tolist()) for one in found.held()]

    row_range = RowRange(0, 1, 11)
    parts = [
        CommittedRows(row_range, Tally(rows=7, accepted=7), held=np.array([2, 5, 9])),
        CommittedRows(row_range, Tally(rows=1, accepted=1), held=np.array([2, 9]), again=True),
        CommittedRows(row_range, Tally(rows=2, accepted=2), again=True),
    ]
    expected = [[(row_range, [2, 5, 9])], [(row_range, [2, 9])], []]
    with Checkpoint.create(path, IDENTITY) as checkpoint:
        for part, rows in zip(parts, expected, strict=True):
            checkpoint.commit([part], Tally(), 0.0)
            assert left() == rows
            assert list(checkpoint.committed()) == [row_range]
        assert checkpoint.progress().tally.rows == 10


ABOUT = {"endpoint": "http://here", "files": 1, "counts": True, "resent": False}


def test_a_finished_run_is_remembered_by_the_next_one(path: Path) -> None:
    older = PastRun("http://there", resent=True, rows=3, number=1, counted=False, marks=("x", None))
    identity = {"source": [["a.csv", 5, None, "x"], ["b.csv", 6, None, "y"]]}
    begun = Checkpoint.create(path, identity, number=2, about=ABOUT, past=[older], digests={0: "early"})
    with begun as checkpoint:
        assert checkpoint.digests() == {0: "early"}
        # Rows of further files are users who left.
        checkpoint.commit([committed(1, 10), committed(1, 2, file=1)], Tally(), 0.0)
        checkpoint.keep_digests({0: "abc"})
        assert checkpoint.digests() == {0: "abc"}
        checkpoint.complete()
        assert checkpoint.progress().complete
        checkpoint.finish()
    this = PastRun("http://here", resent=False, rows=10, number=2, counted=True, marks=("5:abc",))
    assert set(past_of(path)) == {older, this}
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    with loaded(path) as again:
        assert set(again.past()) == {older, this}
    path.unlink()
    assert past_of(path) == ()
    assert not path.exists()


def test_what_was_skipped_or_unchanged_is_remembered(path: Path) -> None:
    with Checkpoint.create(path, IDENTITY) as checkpoint:
        assert checkpoint.unchanged() is None
        for data, first in ((b"old", 1), (b"new", 11)):
            skipped = (("fee", "bad_number", 2), ("day", "bad_date", first))
            checkpoint.commit([replace(committed(first, 10), skipped=skipped)], Tally(), 0.0)
            checkpoint.keep_unchanged(data)
        assert checkpoint.skipped_values() == {"day": {"bad_date": 12}, "fee": {"bad_number": 4}}
        assert checkpoint.unchanged() == b"new"
        assert checkpoint.arrived() == 20
        checkpoint.finish()
        assert checkpoint.unchanged() is None


@each_row(
    ("change", "refused", "hint"),
    [
        (
            "PRAGMA user_version = 99",
            "was written by a newer propsync",
            "update propsync, or run with --restart",
        ),
        ("PRAGMA user_version = 5", "was written by an older propsync", "finish with that one, or run with"),
        ("PRAGMA application_id = 5", "is not a checkpoint of propsync", "run with --restart"),
        ("DELETE FROM run", "is damaged: it names no run", "run with --restart"),
        ("DROP TABLE sent", "can't be read (no such table: sent)", "run with --restart"),
    ],
)
def test_one_of_another_version_or_without_all_that_it_needs_is_refused(
    tmp_path: Path, change: str, refused: str, hint: str
) -> None:
    path = tmp_path / "checkpoint.sqlite"
    with Checkpoint.create(path, IDENTITY) as checkpoint:
        checkpoint.finish()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(change)
    before = path.read_bytes()
    with pytest.raises(StaleCheckpointError) as caught:
        loaded(path)
    assert caught.value.message == f"the checkpoint {path} {refused}"
    assert str(caught.value.hint).startswith(hint)
    assert path.read_bytes() == before


def test_a_new_file_has_a_log_before_anybody_can_look(tmp_path: Path) -> None:
    """To switch a file to a log takes it alone: whoever looks just then, or the run itself, would fail."""
    path = tmp_path / "checkpoint.sqlite"
    create_database(path, range(9), (), {})
    assert path.read_bytes()[18:20] == b"\x02\x02"  # the versions of the format: with a log
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
