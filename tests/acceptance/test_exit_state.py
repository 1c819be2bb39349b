"""Exit code 8: what has to be written can't be, and what is committed is kept."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.acceptance.sending import holds_the_law, send
from tests.commands import QUICK, Propsync


def test_8_for_a_state_folder_that_can_t_be(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    finished = send(propsync, sandbox, job, "--state-dir", tmp_path / "users.csv" / "state")
    assert finished.code == 8
    assert "--state-dir" in finished.err
    assert not sandbox.stats.requests


@pytest.mark.parametrize("flag", ["--report", "--metrics-file"])
def test_2_for_a_file_without_a_folder_before_anything_is_sent(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path, flag: str
) -> None:
    finished = send(propsync, sandbox, job, flag, tmp_path / "nowhere" / "file")
    assert finished.code == 2
    assert "nowhere" in finished.err
    assert not sandbox.stats.requests


def full_disk() -> None:
    """From 60 KB on a file can't grow, which is an error and no signal."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


def test_8_for_a_full_disk_and_what_is_settled_is_kept(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    exports.write_csv(tmp_path / "users.csv", 3_000)
    sandbox.change(latency="1ms")
    command = ("run", job, "--endpoint", sandbox.url, *QUICK, "--batch-size", "20", "--json")
    with propsync.begin(*command, before=full_disk) as running:
        stopped = running.wait()
    assert stopped.code == 8
    assert "make room" in stopped.err
    assert stopped.summary["status"] == "stopped"
    assert 0 < stopped.summary["rows"] < 3_000
    seen = {entry.sha256 for entry in sandbox.requests}
    finished = propsync(*command)
    assert finished.code == 0
    assert finished.summary["resumed_rows"] >= stopped.summary["rows"]
    assert finished.summary["rows"] == len(sandbox.profiles) == 3_000
    assert holds_the_law(finished.summary)
    again = [entry for entry in sandbox.requests if entry.sha256 in seen]
    assert len(again) - len(seen) <= 8 * 2
