"""Exit code 8: what has to be written can't be, and what is committed is kept."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
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


@contextmanager
def only_readable(folder: Path, top: Path) -> Iterator[None]:
    """Take the right to write there from this process, which may be root's."""
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    modes |= {path: path.stat().st_mode for path in (top, *top.parents) if path.owner() == folder.owner()}
    for path, mode in modes.items():
        path.chmod(mode | 0o055 if folder.is_relative_to(path) and path != folder else mode & ~0o222 | 0o055)
    effective = os.geteuid()
    try:
        if effective == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(effective)
        for path, mode in modes.items():
            path.chmod(mode)


def test_who_only_looks_needs_no_right_to_write(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    assert send(propsync, sandbox, job, "--limit", "300").code == 0
    state = tmp_path / ".propsync" / "job"
    looks = [
        ("status", job, "--json"),
        ("explain", job, "--user", "user-000001", "--json"),
        ("check", job, "--endpoint", sandbox.url, "--json"),
        ("runs", job, "--json"),
    ]
    with closing(sqlite3.connect(state / "checkpoint.sqlite")) as connection:
        connection.execute("UPDATE run SET seconds = seconds + 1")
        connection.commit()
        assert (state / "checkpoint.sqlite-wal").stat().st_size  # as a run leaves it that was killed
        before = [propsync(*look) for look in looks]
        with only_readable(state, tmp_path):
            after = [propsync(*look) for look in looks]
            assert propsync("run", job, "--endpoint", sandbox.url).code == 8
    assert [one.code for one in after] == [one.code for one in before] == [0] * len(looks)
    status, again = (found[0].summary for found in (before, after))
    assert again | {"snapshot": None} == status | {"snapshot": None}
    assert [found.out for found in before[1:2]] == [found.out for found in after[1:2]]
