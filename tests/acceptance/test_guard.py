"""The tests' own guard: neither they nor the commands they begin can talk to another machine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.acceptance import exports
from tests.commands import Propsync
from tests.guard.sitecustomize import OutsideError


def test_no_test_talks_to_another_machine() -> None:
    with socket.socket() as one, pytest.raises(OutsideError):
        one.connect(("192.0.2.1", 80))
    with pytest.raises(OutsideError):
        socket.getaddrinfo("amplitude.example", 443)


@pytest.mark.parametrize("full", [False, True])
def test_no_command_of_a_test_talks_to_another_machine(
    propsync: Propsync, tmp_path: Path, full: bool
) -> None:
    exports.write_csv(tmp_path / "users.csv", 1)
    job = exports.write_job(tmp_path, source="users.csv")
    finished = propsync.process(
        "run", job, "--endpoint", "https://192.0.2.1", "--max-outage", "0s", full=full
    )
    assert "OutsideError" in finished.err
