"""The tests' own guard: neither they nor the commands they begin can talk to another machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance import exports
from tests.commands import Propsync
from tests.forking import PATH
from tests.guard.sitecustomize import OutsideError


def test_no_test_talks_to_another_machine() -> None:
    with socket.socket() as one, pytest.raises(OutsideError):
        one.connect(("192.0.2.1", 80))
    with pytest.raises(OutsideError):
        socket.getaddrinfo("amplitude.example", 443)


def test_no_command_of_a_test_talks_to_another_machine(propsync: Propsync, tmp_path: Path) -> None:
    exports.write_csv(tmp_path / "users.csv", 1)
    job = exports.write_job(tmp_path, source="users.csv")
    finished = propsync.process("run", job, "--endpoint", "https://192.0.2.1", "--max-outage", "0s")
    assert "OutsideError" in finished.err


def test_nor_does_one_that_begins_in_full() -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(PATH)},
        capture_output=True,
        text=True,
    )
    assert "OutsideError" in done.stderr
