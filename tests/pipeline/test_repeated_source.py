"""Increments of one and the same source never count twice by accident."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl.errors import RepeatedSourceError, StateError
from etl.job.spec import Job
from etl.pipeline.plan import plan_job
from etl.pipeline.run import run_job
from etl.pipeline.settings import Settings
from etl.reader import open_source
from etl.run_events import Event, Summary, Warned
from etl.sandbox import Sandbox, running_sandbox
from tests.examples import combinations
from tests.pipeline.making import KEY, QUICK
from tests.pipeline.nights import KilledError, held, job_in, killed, quiet, send, users, write

OPERATORS: dict[str, Any] = {
    "$add": {"points": "score"},
    "$append": {"log": "plan"},
    "$prepend": {"log": "plan"},
}


def counting(folder: Path, operator: str = "$add", transport: str = "batch", **others: object) -> Job:
    identification = {"user_id": "id", "user_properties": {operator: OPERATORS[operator]}}
    return job_in(folder, identification, destination={"transport": transport}, **others)


def points(sandbox: Sandbox) -> list[int]:
    return [row["points"] for row in held(sandbox).values()]


@pytest.mark.parametrize(("operator", "transport"), combinations([*OPERATORS], ["identify", "batch"]))
def test_the_very_source_of_the_last_run_is_refused(
    tmp_path: Path, sandbox: Sandbox, operator: str, transport: str
) -> None:
    job = counting(tmp_path / "job", operator, transport)
    path = write(job.folder / "users.csv", users(range(9)))
    send(job, sandbox, [path])
    before = held(sandbox)
    for _ in range(2):
        with pytest.raises(RepeatedSourceError, match=rf"\{operator} would count twice") as caught:
            send(job, sandbox, [path])
        assert caught.value.exit_code == 4
        assert "--again" in str(caught.value.hint)
    told = plan_job(job, open_source([path]), settings=Settings(endpoint=sandbox.url)).refused
    assert isinstance(told, RepeatedSourceError)
    assert held(sandbox) == before
    heard: list[Event] = []
    send(job, sandbox, [path], again=True, listener=heard.append)
    assert "again" in [event.code for event in heard if isinstance(event, Warned)]
    assert held(sandbox) != before


def touched(path: Path) -> list[Path]:
    os.utime(path, ns=(1, 1))
    return [path]


def copied(path: Path) -> list[Path]:
    return [Path(shutil.copy(path, path.with_name("tomorrow.csv")))]


def rewritten(path: Path) -> list[Path]:
    path.write_bytes(path.read_bytes())
    return [path]


@pytest.mark.parametrize("how", [touched, copied, rewritten])
def test_the_content_is_what_counts(
    tmp_path: Path, sandbox: Sandbox, how: Callable[[Path], list[Path]]
) -> None:
    job = counting(tmp_path / "job")
    path = write(job.folder / "users.csv", users(range(9)))
    send(job, sandbox, [path])
    with pytest.raises(RepeatedSourceError):
        send(job, sandbox, how(path))


def test_a_byte_in_the_middle_makes_it_another_one(tmp_path: Path, sandbox: Sandbox) -> None:
    job = counting(tmp_path / "job")
    path = write(job.folder / "users.csv", users(range(600), note="x" * 400))
    size = path.stat().st_size
    send(job, sandbox, [path], batch_size=2000)
    path.write_bytes(path.read_bytes().replace(b"user-00300,plan 0,300", b"user-00300,plan 0,301"))
    assert path.stat().st_size == size > 200_000
    send(job, sandbox, [path], batch_size=2000)
    assert held(sandbox)["user-00300"]["points"] == 601


def test_some_files_of_the_last_run_are_told_of(tmp_path: Path, sandbox: Sandbox) -> None:
    job, heard = counting(tmp_path / "job"), list[Event]()
    paths = [write(job.folder / f"{n}.csv", users([n])) for n in (1, 2, 3)]
    send(job, sandbox, paths[:2])
    send(job, sandbox, paths[1:], listener=heard.append)
    (warning,) = [event for event in heard if isinstance(event, Warned)]
    assert warning.message.startswith("some of these files were sent before")
    with pytest.raises(RepeatedSourceError):
        send(job, sandbox, [paths[2], paths[1]])


def test_tables_are_looked_at_as_a_whole(tmp_path: Path, sandbox: Sandbox) -> None:
    job = counting(tmp_path / "job")

    def run(rows: list[dict[str, Any]]) -> Summary:
        settings = Settings(endpoint=sandbox.url, rate=None, backoff=QUICK)
        return run_job(job, open_source([pa.Table.from_pylist(rows)]), KEY, settings=settings)

    run(users(range(3)))
    with pytest.raises(RepeatedSourceError):
        run(users(range(3)))
    assert run([*users([0]), *users([1], score=7), *users([2])]).tally.accepted == 3


def test_what_didn_t_count_may_come_again(tmp_path: Path, sandbox: Sandbox) -> None:
    setting = job_in(tmp_path / "job", {"user_id": "id", "user_properties": {"plan": "plan"}})
    path = write(setting.folder / "users.csv", users(range(3)))
    send(setting, sandbox, [path])
    # The job had no increments then,
    send(counting(tmp_path / "job"), sandbox, [path])
    with pytest.raises(RepeatedSourceError):
        send(counting(tmp_path / "job"), sandbox, [path])
    # or nothing of it arrived, or it went elsewhere.
    bad = write(setting.folder / "bad.csv", users(range(3), score="much"))
    typed = {"user_id": "id", "user_properties": {"$add": {"points": {"column": "score", "type": "integer"}}}}
    for _ in range(2):
        assert send(job_in(tmp_path / "job", typed), sandbox, [bad]).tally.rejected == 3
    with running_sandbox() as other:
        send(counting(tmp_path / "job"), other, [path])


def test_between_two_runs_of_an_export_rejects_may_be_sent(tmp_path: Path, sandbox: Sandbox) -> None:
    typed = {"user_id": "id", "user_properties": {"$add": {"points": {"column": "score", "type": "integer"}}}}
    job = job_in(tmp_path / "job", typed)
    path = write(job.folder / "users.csv", [*users([1]), *users([2], score="many")])
    send(job, sandbox, [path])
    mended = tmp_path / "mended.ndjson"
    mended.write_text((job.state_dir / "rejects.ndjson").read_text().replace('"many"', '"2"'))
    send(job, sandbox, [mended])
    for again in ([path], [mended]):
        with pytest.raises(RepeatedSourceError):
            send(job, sandbox, again)
    assert points(sandbox) == [1, 2]


@pytest.mark.parametrize("point", ["committed", "publishing", "renewing", "renewed", "finishing", "finished"])
def test_killed_near_its_end_and_started_again_it_counts_once(
    tmp_path: Path, sandbox: Sandbox, point: str
) -> None:
    job = counting(tmp_path / "job")
    path = write(job.folder / "users.csv", users(range(9)))
    with killed(point) as listener, pytest.raises(KilledError):
        send(job, sandbox, [path], listener=listener)
    quiet(sandbox)
    if point != "finished":
        assert send(job, sandbox, [path]).tally.accepted == 9
    with pytest.raises(RepeatedSourceError):
        send(job, sandbox, [path])
    assert points(sandbox) == list(range(9))


def test_a_finished_run_stays_finished_whatever_fails_then(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk as the checkpoint is made small, or as anything else is tidied up."""
    import sqlite3

    from etl.checkpoint import store

    job = counting(tmp_path / "job")
    path = write(job.folder / "users.csv", users(range(9)))

    class Full(sqlite3.Connection):
        def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
            if statement.startswith(("VACUUM", "DELETE", "PRAGMA wal")):
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(statement, *arguments)

    def connect(where: Path) -> sqlite3.Connection:
        return sqlite3.connect(where, isolation_level=None, check_same_thread=False, factory=Full)

    with monkeypatch.context() as patch:
        patch.setattr(store, "connect", connect)
        assert send(job, sandbox, [path]).status == "finished"
    with pytest.raises(RepeatedSourceError):
        send(job, sandbox, [path])


def test_a_run_whose_finish_can_t_be_written_is_finished_by_the_next(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from etl.checkpoint import Checkpoint

    job = counting(tmp_path / "job")
    path = write(job.folder / "users.csv", users(range(9)))

    def full(self: Checkpoint) -> None:
        raise StateError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "finish", full)
        with pytest.raises(StateError):
            send(job, sandbox, [path])
    assert send(job, sandbox, [path]).tally.accepted == 9
    assert points(sandbox) == list(range(9))
