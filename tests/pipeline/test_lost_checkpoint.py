"""A checkpoint that is emptied, torn or gone is told with a remedy, after which all counts are right."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from etl.checkpoint import Checkpoint, past_of
from etl.errors import StaleCheckpointError
from etl.job.known_job import KnownJob
from etl.job.spec import Job
from etl.pipeline import guards
from etl.pipeline.status import status_of
from etl.sandbox import Sandbox
from etl.snapshot import KnownIds, Snapshot
from tests.examples import combinations
from tests.pipeline.nights import KilledError, held, job_in, night, quiet, send, users, write
from tests.pipeline.test_failed_nights import dying_after

POINTS = {"user_id": "id", "user_properties": {"$set": {"plan": "plan"}, "$add": {"points": "score"}}}
ROWS = 60


def counting(folder: Path, transport: str = "batch") -> Job:
    return job_in(folder, POINTS, destination={"transport": transport})


def checkpoint_of(job: Job) -> Path:
    return job.state_dir / "checkpoint.sqlite"


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50] + b"\0" * 5000)


def gone(path: Path) -> None:
    path.unlink()


def gone_with_its_log(path: Path) -> None:
    for one in path.parent.glob("checkpoint.sqlite*"):
        one.unlink()


def without_its_log(path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    assert log.stat().st_size > 0
    log.unlink()


def kill_in_mid_run(job: Job, sandbox: Sandbox, rows: list[dict[str, Any]]) -> Path:
    """Some requests were committed, one is in flight, and the checkpoint's log is still there."""
    path = write(job.folder / "users.ndjson", rows)
    copy = job.state_dir.with_name("as it was when killed")

    def keep(self: Checkpoint, *_: object) -> None:
        # The log goes when a file is closed in good order, which a killed process doesn't do.
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(job.state_dir, copy)
        self._connection.close()

    with dying_after(4), patch.object(Checkpoint, "__exit__", keep), pytest.raises(KilledError):
        send(job, sandbox, [path], batch_size=10, concurrency=1)
    quiet(sandbox)
    shutil.rmtree(job.state_dir)
    copy.rename(job.state_dir)
    return path


LOSSES = [emptied, torn, overwritten, gone, gone_with_its_log, without_its_log]


@pytest.mark.parametrize(("loss", "nights"), combinations(LOSSES, [0, 1]))
def test_increments_over_batch_count_once_after_what_the_message_advises(
    tmp_path: Path, sandbox: Sandbox, loss: Callable[[Path], None], nights: int
) -> None:
    job = counting(tmp_path / "job")
    for number in range(nights):
        night(job, sandbox, users(range(ROWS), plan=f"night {number}"), batch_size=10)
    path = kill_in_mid_run(job, sandbox, users(range(ROWS)))
    loss(checkpoint_of(job))
    requests = sandbox.stats.requests
    for _ in range(2):
        with pytest.raises(StaleCheckpointError) as caught:
            send(job, sandbox, [path], batch_size=10)
    assert caught.value.exit_code == 7
    assert "checkpoint.sqlite" in caught.value.message
    assert "--restart" in str(caught.value.hint)
    assert "counts once" in str(caught.value.hint)
    assert sandbox.stats.requests == requests
    assert send(job, sandbox, [path], batch_size=10, restart=True).tally.accepted == ROWS
    assert held(sandbox) == {
        row["id"]: {"plan": row["plan"], "points": (nights + 1) * row["score"]} for row in users(range(ROWS))
    }


def test_so_they_do_when_the_second_process_is_killed_as_well(tmp_path: Path, sandbox: Sandbox) -> None:
    job = counting(tmp_path / "job")
    path = kill_in_mid_run(job, sandbox, users(range(ROWS)))
    emptied(checkpoint_of(job))
    with dying_after(2), pytest.raises(KilledError):
        send(job, sandbox, [path], batch_size=10, concurrency=1, restart=True)
    send(job, sandbox, [path], batch_size=10)
    assert [row["points"] for row in held(sandbox).values()] == list(range(ROWS))


def test_where_the_source_is_another_one_by_now_the_old_one_comes_first(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    job = counting(tmp_path / "job")
    path = kill_in_mid_run(job, sandbox, users(range(ROWS)))
    emptied(checkpoint_of(job))
    newer = write(job.folder / "newer.ndjson", users(range(ROWS), plan="newer"))
    with pytest.raises(StaleCheckpointError) as caught:
        send(job, sandbox, [newer], batch_size=10)
    assert "run with the source and the job file that it began with, and --restart" in str(caught.value.hint)
    send(job, sandbox, [path], batch_size=10, restart=True)
    send(job, sandbox, [newer], batch_size=10)
    assert [row["points"] for row in held(sandbox).values()] == [2 * n for n in range(ROWS)]


def test_where_it_can_t_be_put_right_the_hint_says_so(tmp_path: Path, sandbox: Sandbox) -> None:
    over_identify = counting(tmp_path / "identify", "identify")
    path = kill_in_mid_run(over_identify, sandbox, users(range(ROWS)))
    emptied(checkpoint_of(over_identify))
    with pytest.raises(StaleCheckpointError) as caught:
        send(over_identify, sandbox, [path], batch_size=10)
    assert "counts twice" in str(caught.value.hint)
    assert "from a copy" in str(caught.value.hint)
    # Over batch the server remembers for a week.
    sandbox.reset()
    late = counting(tmp_path / "batch")
    path = kill_in_mid_run(late, sandbox, users(range(ROWS)))
    emptied(checkpoint_of(late))
    with patch.object(guards, "_REMEMBERED_SECONDS", -1), pytest.raises(StaleCheckpointError) as caught:
        send(late, sandbox, [path], batch_size=10)
    assert "counts twice" in str(caught.value.hint)


@pytest.mark.parametrize("changed", [False, True])
def test_what_can_be_repeated_is_put_right_by_a_restart(
    tmp_path: Path, sandbox: Sandbox, changed: bool
) -> None:
    job = job_in(tmp_path / "job")
    night(job, sandbox, users(range(ROWS)))
    kill_in_mid_run(job, sandbox, users(range(ROWS), plan="x"))
    emptied(checkpoint_of(job))
    export = users(range(ROWS), **({} if changed else {"plan": "x"}))
    with pytest.raises(StaleCheckpointError) as caught:
        night(job, sandbox, export)
    assert "twice" not in str(caught.value.hint)
    night(job, sandbox, export, restart=True)
    assert held(sandbox) == {row["id"]: {"plan": row["plan"], "score": row["score"]} for row in export}
    assert night(job, sandbox, export).tally.accepted == 0


def test_the_file_has_its_run_from_the_first_moment_on(tmp_path: Path) -> None:
    """Whatever happens to the log beside it, it is never taken for one that was never begun."""
    path = tmp_path / "checkpoint.sqlite"
    with Checkpoint.create(path, {"source": []}, run_id="one"):
        alone = tmp_path / "alone.sqlite"
        shutil.copy(path, alone)
        with closing(sqlite3.connect(f"{alone.as_uri()}?immutable=1", uri=True)) as connection:
            assert connection.execute("SELECT id FROM run").fetchall() == [("one",)]


@pytest.mark.parametrize("step", ["fsync", "_drop_log", "replace"])
def test_an_older_one_is_there_whole_until_it_is_replaced(tmp_path: Path, step: str) -> None:
    from etl.checkpoint import database
    from etl.model import CommittedRows
    from etl.tally import RowRange, Tally

    path = tmp_path / "checkpoint.sqlite"
    old = Checkpoint.create(path, {"source": []}, run_id="old")
    old.commit([CommittedRows(RowRange(0, 1, 5), Tally(rows=4, accepted=4))], Tally(), 0.0)
    # A process that is killed leaves its log behind.
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path, killed, ignore=shutil.ignore_patterns("killed"))
    old.__exit__(None, None, None)
    left = killed / "checkpoint.sqlite"

    def die(*_: object) -> None:
        raise KilledError

    owner = {"fsync": os, "_drop_log": database, "replace": Path}[step]
    with patch.object(owner, step, die), pytest.raises(KilledError):
        Checkpoint.create(left, {"source": []}, run_id="new")
    with Checkpoint.load(left) or pytest.fail("gone") as found:
        assert found.progress().run_id == "old"
        assert found.progress().tally.accepted == 4
    Checkpoint.create(left, {"source": []}, run_id="new").__exit__(None, None, None)
    with Checkpoint.load(left) or pytest.fail("gone") as found:
        assert (found.progress().run_id, found.progress().tally.accepted) == ("new", 0)
    assert [one.name for one in killed.iterdir()] == ["checkpoint.sqlite"]


def test_one_of_an_older_version_is_in_the_way_until_it_is_dropped(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path / "job")
    night(job, sandbox, users(range(5)))
    with closing(sqlite3.connect(checkpoint_of(job))) as connection:
        connection.execute("PRAGMA user_version = 5")
    for attempt in (lambda: status_of(KnownJob.of(job)), lambda: night(job, sandbox, users(range(6)))):
        with pytest.raises(StaleCheckpointError, match="older propsync") as caught:
            attempt()
        assert "finish with that one, or run with --restart" in str(caught.value.hint)
    assert night(job, sandbox, users(range(6)), restart=True).tally.accepted > 0
    assert held(sandbox).keys() == {row["id"] for row in users(range(6))}


@pytest.mark.parametrize("look", [Checkpoint.load, past_of, Snapshot.open, KnownIds.open])
def test_what_the_system_cannot_look_at_is_not_taken_for_missing(
    tmp_path: Path, look: Callable[[Path], object]
) -> None:
    """`Path.exists` says no to any error, from Python 3.14 on."""
    assert not look(tmp_path / "none")
    with pytest.raises(OSError, match="name too long"):
        look(tmp_path / ("x" * 300))
