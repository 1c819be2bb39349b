"""A disk that is really full: told with exit 8, and nothing lost once there is room."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.commands import QUICK, Propsync


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 1024)
    return filler


def test_a_full_disk_is_told_before_anything_is_sent(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, small_disk: Path
) -> None:
    exports.write_csv(tmp_path / "users.csv", 300)
    job = exports.write_job(tmp_path, source="users.csv")
    filler = fill(small_disk)
    state = ("--state-dir", small_disk / "state")
    finished = propsync("run", job, "--endpoint", sandbox.url, *QUICK, *state)
    assert finished.code == 8
    assert "No space left" in finished.err
    assert sandbox.stats.requests == 0
    filler.unlink()
    assert propsync("run", job, "--endpoint", sandbox.url, *QUICK, *state).code == 0


def test_a_disk_that_runs_full_stops_the_run_and_loses_nothing(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, small_disk: Path
) -> None:
    bad = tuple(range(2, 4_000, 4))
    exports.write_csv(tmp_path / "users.csv", 4_000, bad=bad)
    job = exports.write_job(tmp_path, source="users.csv")
    arguments = ("run", job, "--endpoint", sandbox.url, *QUICK, "--batch-size", "100", "--json")
    state = ("--state-dir", small_disk / "state")
    stopped = propsync(*arguments, *state)
    assert stopped.code == 8
    assert "can't be written" in stopped.err
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    finished = propsync(*arguments, *state)
    assert finished.code == 3
    assert finished.summary["rows"] == 4_000
    assert finished.summary["resumed_rows"] > 0
    rejects = (small_disk / "state" / "rejects.ndjson").read_text().splitlines()
    assert [json.loads(line)["row"] for line in rejects] == list(bad)
    assert len(sandbox.profiles.users) == 4_000 - len(bad)
