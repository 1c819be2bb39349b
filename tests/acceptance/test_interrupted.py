"""Ctrl-C and SIGTERM let what is in flight end and keep the rest for later; twice means now."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.acceptance.sending import holds_the_law
from tests.commands import QUICK, Propsync, until

ROWS = 5_000
LIMITS = ("--batch-size", "100", "--concurrency", "4")


def run(sandbox: Sandbox, job: Path) -> tuple[str | Path, ...]:
    return ("run", job, "--endpoint", sandbox.url, *QUICK, *LIMITS)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    exports.write_csv(tmp_path / "users.csv", ROWS)
    return exports.write_job(tmp_path, source="users.csv")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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
    assert "to take it up again: propsync run" in stopped.err

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
    with propsync.begin(*run(sandbox, job), "--rate", "20") as running:
        until(lambda: sandbox.stats.requests >= 1)
        time.sleep(0.1)
        running.send(signal.SIGINT)
        try:
            running.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            pytest.fail("it waits")
        assert running.wait().code == 130


# More than the reader takes at once, whatever that is: rows are handed on.
BEGUN = "id,plan,score,notes\n" + "".join(f"user-{n},a,1,{'x' * 5000}\n" for n in range(1_500))


@pytest.mark.parametrize(
    "begun",
    [pytest.param("", id="before any row"), pytest.param(BEGUN, id="with rows under way")],
)
def test_a_stream_that_stalls_is_left(propsync: Propsync, sandbox: Sandbox, job: Path, begun: str) -> None:
    with propsync.begin(*run(sandbox, job), "-") as running:
        assert running.process.stdin is not None
        running.process.stdin.write(begun)
        running.process.stdin.flush()
        if begun:
            until(lambda: sandbox.stats.requests >= 1)
        else:
            time.sleep(2.5)  # until it waits for its input, which nobody can see
        running.send(signal.SIGINT)
        time.sleep(0.2)
        running.send(signal.SIGINT)
        running.process.wait(timeout=1.5)
        running.process.stdin.close()
        running.process.stdin = None
        assert running.wait().code == 130


def test_the_command_to_take_it_up_does_not_drop_the_checkpoint(
    propsync: Propsync, sandbox: Sandbox, job: Path
) -> None:
    sandbox.begin_outage("503")
    stopped = propsync(*run(sandbox, job), "--restart", "--max-outage", "0.05s")
    assert stopped.code == 5
    (line,) = [line for line in stopped.err.splitlines() if "take it up again" in line]
    assert "--restart" not in line
    assert "--batch-size 100" in line


def test_a_stream_is_not_said_to_be_taken_up(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.begin_outage("503")
    stopped = propsync.process(
        *run(sandbox, job), "-", "--max-outage", "0.05s", stdin="id,plan,score\nuser-1,a,1\n"
    )
    assert stopped.code == 5
    assert "a stream can't be taken up" in stopped.err
    assert "to take it up again" not in stopped.err


def test_json_log_lines_tell_of_the_interruption(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.change(latency="100ms")
    with propsync.begin(*run(sandbox, job), "--log-format", "json") as running:
        until(lambda: sandbox.stats.requests >= 1)
        running.send(signal.SIGTERM)
        stopped = running.wait()
    assert stopped.code == 130
    events = [json.loads(line)["event"] for line in stopped.err.splitlines()]
    assert events == ["started", "ended", "unfinished", "failed"]
