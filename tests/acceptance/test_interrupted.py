"""Ctrl-C and SIGTERM let what is in flight end and keep the rest for later; twice means now."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import termios
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO
from unittest.mock import patch

import pytest

from etl.checkpoint import Checkpoint
from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.acceptance.sending import holds_the_law
from tests.acceptance.test_exit_faults import can_be_written
from tests.commands import QUICK, SECONDS, Finished, Propsync, Running, until
from tests.examples import rarely

ROWS = 2_500
LIMITS = ("--batch-size", "100", "--concurrency", "4")


def run(sandbox: Sandbox, job: Path) -> tuple[str | Path, ...]:
    return ("run", job, "--endpoint", sandbox.url, *QUICK, *LIMITS)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    exports.write_csv(tmp_path / "users.csv", ROWS)
    return exports.write_job(tmp_path, source="users.csv")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, *rarely(signal.SIGTERM)])
def test_what_is_in_flight_is_settled_and_the_rest_kept(
    propsync: Propsync, sandbox: Sandbox, job: Path, number: signal.Signals
) -> None:
    sandbox.change(latency="100ms")
    with propsync.begin(*run(sandbox, job), "--json") as running:
        until(lambda: sandbox.stats.requests >= 6)
        running.send(number)
        stopped = running.wait()

    assert stopped.code == 130
    assert stopped.summary["status"] == "interrupted"
    assert 0 < stopped.summary["rows"] < ROWS
    assert holds_the_law(stopped.summary)
    assert stopped.summary["accepted"] == len(sandbox.profiles)
    assert "to resume it: propsync run" in stopped.err

    sandbox.change(latency="0ms")
    finished = propsync(*run(sandbox, job), "--json")
    assert finished.code == 0
    assert finished.summary["resumed_rows"] == stopped.summary["rows"]
    assert finished.summary["accepted"] == len(sandbox.profiles) == ROWS
    bodies = [entry.sha256 for entry in sandbox.requests]
    assert len(bodies) == len(set(bodies)), "something was sent twice"


def test_a_second_one_ends_at_once(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.change(outage="stall")
    with propsync.begin(*run(sandbox, job)) as running:
        until(lambda: sandbox.stats.requests >= 1)
        running.send(signal.SIGINT)
        time.sleep(0.2)
        assert running.process.poll() is None, "the first one waits for what is in flight"
        running.send(signal.SIGINT)
        stopped = running.wait()
    assert stopped.code == 130
    sandbox.end_outage()
    assert propsync(*run(sandbox, job)).code == 0
    assert len(sandbox.profiles) == ROWS


def test_no_pause_is_waited_for(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.change(outage="503")
    with propsync.begin(*run(sandbox, job), "--retry-wait", "5m") as running:
        until(lambda: sandbox.stats.requests >= 1)
        time.sleep(0.1)
        running.send(signal.SIGINT)
        assert running.wait().code == 130


def test_no_rate_is_waited_for(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    with propsync.begin(*run(sandbox, job), "--rate", "1") as running:
        until(lambda: sandbox.stats.requests >= 1)
        time.sleep(0.1)
        running.send(signal.SIGINT)
        assert running.wait().code == 130


# More than the reader takes at once, whatever that is: rows are handed on.
BEGUN = "id,plan,score,notes\n" + "".join(f"user-{n},a,1,{'x' * 5000}\n" for n in range(1_500))


def is_empty(pipe: IO[str]) -> bool:
    """Whether everything that was written to the pipe has been read, and its reader waits for more."""
    return fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)) == bytes(4)


@pytest.mark.parametrize(
    "begun",
    [pytest.param("id,plan", id="before any row"), pytest.param(BEGUN, id="with rows under way")],
)
def test_a_stream_that_stalls_is_left(propsync: Propsync, sandbox: Sandbox, job: Path, begun: str) -> None:
    with propsync.begin(*run(sandbox, job), "-") as running:
        stdin = running.process.stdin
        assert stdin is not None
        stdin.write(begun)
        stdin.flush()
        until(lambda: is_empty(stdin))
        if begun == BEGUN:
            until(lambda: sandbox.stats.requests >= 1)
        running.send(signal.SIGINT)
        time.sleep(0.2)
        running.send(signal.SIGINT)
        running.process.wait(timeout=SECONDS)
        stdin.close()
        running.process.stdin = None
        assert running.wait().code == 130


def test_the_command_to_take_it_up_does_not_drop_the_checkpoint(
    propsync: Propsync, sandbox: Sandbox, job: Path
) -> None:
    sandbox.begin_outage("503")
    stopped = propsync(*run(sandbox, job), "--restart", "--max-outage", "0.05s")
    assert stopped.code == 5
    (line,) = [line for line in stopped.err.splitlines() if "to resume it" in line]
    assert "--restart" not in line
    assert "--batch-size 100" in line


def test_a_stream_is_not_said_to_be_taken_up(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.begin_outage("503")
    stopped = propsync.process(
        *run(sandbox, job), "-", "--max-outage", "0.05s", stdin="id,plan,score\nuser-1,a,1\n"
    )
    assert stopped.code == 5
    assert "a stream can't be resumed" in stopped.err
    assert "to resume it" not in stopped.err


TOLD = ("--json", "--metrics-file", "run.prom", "--report", "run.html")


def is_told(stopped: Finished, folder: Path) -> None:
    """Summary, metrics and page say that the run was interrupted."""
    assert stopped.code == stopped.summary["exit_code"] == 130
    assert stopped.summary["status"] == "interrupted"
    metrics = (folder / "run.prom").read_text()
    assert 'propsync_run_status{job="job",status="interrupted"} 1' in metrics
    assert 'propsync_exit_code{job="job"} 130' in metrics
    assert "interrupted, exit code 130" in (folder / "run.html").read_text()


def hears_signals(running: Running) -> bool:
    """Whether it has a handler for SIGTERM by now."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it is seen in /proc alone")
@pytest.mark.parametrize("number", [signal.SIGTERM, *rarely(signal.SIGHUP)])
def test_a_signal_while_it_still_loads_is_told_as_any_other(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with propsync.begin(*run(sandbox, job), *TOLD, full=True) as running:
        until(lambda: hears_signals(running))
        running.send(number)
        is_told(running.wait(), tmp_path)
    assert sandbox.stats.requests == 0


def test_a_signal_while_the_source_is_opened_is_told(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with propsync.begin(*run(sandbox, job), "pipe.csv", *TOLD) as running:
        writer: list[int] = []
        until(lambda: can_be_written(tmp_path / "pipe.csv", writer))
        running.send(signal.SIGTERM)
        is_told(running.wait(), tmp_path)
        os.close(writer[0])


def late(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def stop_in_the_snapshot() -> None:
    patch("etl.pipeline.run.write_snapshot", late).start()


def stop_after_the_commit() -> None:
    finish = Checkpoint.finish

    def finish_and_be_stopped(checkpoint: Checkpoint) -> None:
        finish(checkpoint)
        late()

    patch("etl.checkpoint.Checkpoint.finish", finish_and_be_stopped).start()


@pytest.mark.parametrize(("stop", "code"), [(stop_in_the_snapshot, 130), (stop_after_the_commit, 0)])
def test_a_signal_at_the_very_end_does_not_change_what_is_on_the_disk(
    propsync: Propsync, sandbox: Sandbox, job: Path, stop: Callable[[], None], code: int
) -> None:
    with propsync.begin(*run(sandbox, job), *TOLD, before=stop) as running:
        finished = running.wait()
    assert finished.code == code, finished.err
    assert finished.summary["exit_code"] == code
    assert finished.summary["accepted"] == ROWS
    stands = propsync("status", job, "--json").summary["status"]
    assert (stands, finished.summary["status"]) == {
        130: ("unfinished", "interrupted"),
        0: ("finished", "finished"),
    }[code]


def test_what_nohup_ignores_is_ignored(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.change(latency="20ms")
    ignore = partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    with propsync.begin(*run(sandbox, job), "--json", before=ignore) as running:
        until(lambda: sandbox.stats.requests >= 3)
        running.send(signal.SIGHUP)
        finished = running.wait()
    assert finished.code == 0
    assert finished.summary["accepted"] == ROWS


def test_as_the_first_process_of_a_container_it_hears_them_too(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    alone = ["unshare", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("needs the right to make a process namespace")
    sandbox.change(latency="50ms")
    with propsync.begin(*run(sandbox, job), *TOLD, under=alone) as running:
        until(lambda: sandbox.stats.requests >= 3)
        (first,) = (
            Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
        )
        os.kill(int(first), signal.SIGTERM)
        is_told(running.wait(), tmp_path)


def test_json_log_lines_tell_of_the_interruption(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.change(latency="100ms")
    with propsync.begin(*run(sandbox, job), "--log-format", "json") as running:
        until(lambda: sandbox.stats.requests >= 1)
        running.send(signal.SIGTERM)
        stopped = running.wait()
    assert stopped.code == 130
    events = [json.loads(line)["event"] for line in stopped.err.splitlines()]
    assert events == ["started", "ended", "unfinished", "failed"]
