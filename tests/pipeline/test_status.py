"""`status` of a run under way, of a dead one, and of one that only prepares."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl.checkpoint import StateDir
from etl.checkpoint.run_records import RunState
from etl.job.known_job import KnownJob
from etl.listeners.progress import RunStateWriter
from etl.pipeline.run import run_job
from etl.pipeline.settings import Settings
from etl.pipeline.status import status_of
from etl.reader import open_source
from etl.run_events import Event, Progressed, compose
from etl.sandbox import SandboxOptions, running_sandbox
from tests.commands import Propsync
from tests.pipeline.making import KEY
from tests.pipeline.nights import job_in, send, users, write

STATE = RunState(
    state="sending",
    since=1.0,
    updated=2.0,
    rows=3,
    total_rows=None,
    estimated=False,
    rows_per_second=1.0,
    average_rows_per_second=1.0,
    seconds_left=None,
)


def test_a_run_under_way_tells_how_far_it_is(tmp_path: Path) -> None:
    job, found = job_in(tmp_path), list[dict[str, Any]]()
    path = write(tmp_path / "users.ndjson", users(range(200)))
    writer = RunStateWriter(StateDir(job.state_dir).progress)

    def look(event: Event) -> None:
        if isinstance(event, Progressed) and not found:
            writer.state().save(StateDir(job.state_dir).progress)  # not a second later
            found.append(status_of(KnownJob.of(job)))

    with running_sandbox(SandboxOptions()) as sandbox:
        send(job, sandbox, [path], listener=compose(writer, look), concurrency=1)
    (live,) = found
    assert live["status"] == "unfinished"
    assert "another run of this job is active" in live["active"]
    progress = live["progress"]
    assert progress["state"] == "sending"
    assert 0 < progress["rows"] <= 200
    after = status_of(KnownJob.of(job))
    assert (after["status"], after["active"], after["progress"]) == ("finished", None, None)
    assert not StateDir(job.state_dir).progress.exists()


def test_a_dead_process_is_not_alive(tmp_path: Path, propsync: Propsync) -> None:
    job = job_in(tmp_path)
    folder = StateDir(job.state_dir)
    folder.prepare()
    STATE.save(folder.progress)  # as `kill -9` leaves it
    assert status_of(KnownJob.of(job))["progress"] is None
    with folder.hold():
        assert not folder.progress.exists()
        found = status_of(KnownJob.of(job))
        assert (found["status"], found["progress"]) == ("never run", {"state": "preparing"})


def test_a_stream_is_the_only_file_of_its_run(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    stream = pa.table({"id": ["user-1", "user-2"], "plan": ["a", "b"], "score": [1, 2]}).to_reader()
    with running_sandbox(SandboxOptions()) as sandbox:
        run_job(job, open_source([stream]), KEY, settings=Settings(endpoint=sandbox.url, rate=None))
    found = status_of(KnownJob.of(job))
    assert (found["rows"], found["safe_points"]) == (2, {"stream": 3})


def test_it_is_shown_and_watched(tmp_path: Path, propsync: Propsync, monkeypatch: pytest.MonkeyPatch) -> None:
    job_in(tmp_path)
    file = tmp_path / "job.yml"
    file.write_text("source: users.ndjson\nidentification: {user_id: id, user_properties: {plan: plan}}\n")
    folder = StateDir(tmp_path / ".propsync" / "job")
    folder.prepare()
    with folder.hold():
        STATE.save(folder.progress)
        shown = propsync("status", file, "--watch")  # on no terminal, once
        assert "sending       3 rows" in shown.out
        assert "1 now, 1 on average" in shown.out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "never run" in propsync("status", file, "--watch").out
    ready, over = threading.Event(), threading.Event()

    def hold() -> None:
        with folder.hold():
            ready.set()
            over.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(20)
    outage = replace(STATE, state="outage", reason="no \x1b]0;title\x07 connection", next_try=3.0)
    outage.save(folder.progress)

    def end(_: float) -> None:
        over.set()
        thread.join()

    monkeypatch.setattr("time.sleep", end)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    watched = propsync("status", file, "--watch").out
    assert "never run" in watched
    assert "connection" in watched
    assert "\x1b]0;title" not in watched
    assert all(len(line) < 80 for line in shown.out.splitlines() if str(folder.path) not in line)
    thread.join()
