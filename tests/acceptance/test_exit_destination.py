"""Exit codes 5 and 6: the destination, or another run of the job, is in the way."""

from __future__ import annotations

from pathlib import Path

from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.acceptance import exports
from tests.acceptance.sending import send
from tests.commands import QUICK, Propsync, until


def test_5_for_a_wrong_key_after_one_request(propsync: Propsync, job: Path, tmp_path: Path) -> None:
    exports.write_csv(tmp_path / "users.csv", 5_000)
    options = SandboxOptions(api_keys=frozenset({"right"}), echo_key=True, record=True, latency=0.05)
    with running_sandbox(options) as strict:
        finished = send(propsync, strict, job, "--json")
        assert strict.stats.requests == 1
    assert finished.code == 5
    assert finished.summary["accepted"] == 0
    assert finished.summary["status"] == "stopped"
    assert "check the API key" in finished.err
    assert "region" in finished.err


def test_5_for_an_outage_that_is_too_long(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.begin_outage("503")
    finished = send(propsync, sandbox, job, "--max-outage", "0.3s", "--json")
    assert finished.code == 5
    assert 0.2 < finished.summary["seconds"] < 60
    assert "run the same command again" in finished.err
    sandbox.end_outage()
    again = send(propsync, sandbox, job, "--json")
    assert again.code == 0
    assert again.summary["accepted"] == 200


def test_an_outage_that_ends_in_time_is_none(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.begin_outage("reset-before", seconds=0.5)
    finished = send(propsync, sandbox, job, "--max-outage", "10s", "--json")
    assert finished.code == 0
    assert finished.summary["retries"] > 0


def test_5_when_nobody_listens(propsync: Propsync, job: Path) -> None:
    with running_sandbox() as gone:
        url = gone.url
    finished = propsync("run", job, "--endpoint", url, *QUICK, "--max-outage", "0.2s")
    assert finished.code == 5
    assert "no connection" in finished.err


def test_6_while_another_run_is_active(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.change(outage="stall")
    with propsync.begin("run", job, "--endpoint", sandbox.url, *QUICK) as running:
        until(lambda: sandbox.stats.requests >= 1)
        second = send(propsync, sandbox, job, "--restart")
        standing = propsync("status", job)
        assert running.process.poll() is None
    assert second.code == 6
    assert f"process {running.process.pid}" in second.err
    assert f"process {running.process.pid}" in standing.out
    sandbox.end_outage()
    assert send(propsync, sandbox, job).code == 0
