"""The script for cron, run as it is: what it mails of each night, and of no other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from etl.checkpoint import StateDir
from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.commands import KEY, REPOSITORY

SCRIPT = REPOSITORY / "deploy" / "cron" / "nightly.sh"
MAIL = '#!/bin/sh\n{ echo "$@"; cat; } >mail.txt\n'


@pytest.fixture
def night(sandbox: Sandbox, home: Path, tmp_path: Path) -> Callable[[], tuple[int, list[str], str]]:
    """Runs the script; returns the exit code, the lines of the mail, and what it printed."""
    exports.write_csv(tmp_path / "users.csv", 5)
    exports.write_job(tmp_path, name="nightly.yml", source="users.csv")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("mail", MAIL), ("propsync", f'#!/bin/sh\nexec "{sys.executable}" -m etl "$@"\n')):
        (tools / name).write_text(text)
        (tools / name).chmod(0o700)
    script = tmp_path / "nightly.sh"
    script.write_text(SCRIPT.read_text().replace("/srv/propsync", str(tmp_path)))
    variables = {
        **os.environ,
        "PATH": os.pathsep.join([str(tools), os.environ["PATH"]]),
        "PYTHONPATH": str(REPOSITORY),
        "HOME": str(home),
        "AMPLITUDE_API_KEY": KEY,
        "PROPSYNC_ENDPOINT": sandbox.url,
        "MAILTO": "team@example.com",
        "TMPDIR": str(tmp_path),
    }

    def run() -> tuple[int, list[str], str]:
        mail = tmp_path / "mail.txt"
        mail.unlink(missing_ok=True)
        done = subprocess.run(["sh", script], env=variables, capture_output=True, text=True, cwd="/")
        assert not list(tmp_path.glob("tmp.*")), "a temporary folder is left"
        lines = mail.read_text().splitlines() if mail.exists() else []
        return done.returncode, lines, done.stdout + done.stderr

    return run


def test_a_mail_has_what_needs_attention_and_nothing_of_the_night_before(
    night: Callable[[], tuple[int, list[str], str]], sandbox: Sandbox, tmp_path: Path
) -> None:
    assert night() == (0, [], "")
    assert len(sandbox.profiles.users) == 5
    with StateDir(tmp_path / ".propsync" / "nightly").hold():
        assert night() == (6, [], "")
    exports.write_csv(tmp_path / "users.csv", 400, bad=(7,))
    code, mail, printed = night()
    assert (code, printed) == (3, "")
    assert mail[:2] == [
        "-s propsync nightly: exit code 3 team@example.com",
        "nightly: finished, 1 row rejected",
    ]
    assert mail[-1] == "rejects: .propsync/nightly/rejects.ndjson"
    (tmp_path / "users.csv").unlink()
    code, mail, printed = night()
    assert (code, printed) == (7, "")
    head, reason, *hint = mail
    assert head == "-s propsync nightly: exit code 7 team@example.com"
    assert reason == "propsync: users.csv is not there"
    assert all(line.startswith("  ") for line in hint)
    log = (tmp_path / "nightly.log").read_text()
    assert log.count("INFO nightly: started") == 2
    assert "another run" in log
