"""One run at a time; a dead one holds up nobody."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from etl.checkpoint import StateFolder
from etl.errors import ActiveRunError, StateError

HOLD = """
import sys
from pathlib import Path
from etl.checkpoint import StateFolder
folder = StateFolder(Path(sys.argv[1]))
folder.prepare()
with folder.hold():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "state")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str], number: int) -> None:
    os.kill(process.pid, number)
    process.wait()


def test_a_second_run_is_told_who_holds_it_since_when(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    folder = StateFolder(tmp_path / "state")
    with pytest.raises(ActiveRunError, match=rf"process {holder.pid} on .* since 20"), folder.hold():
        pass
    assert f"process {holder.pid}" in str(folder.holder())
    end(holder, signal.SIGKILL)
    assert folder.holder() is None
    with folder.hold():
        assert f"process {os.getpid()}" in folder.lock.read_text().replace('"pid": ', "process ")


def test_holding_ends_with_the_block(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    for _ in range(2):
        with folder.hold():
            pass


def test_prepared_is_private_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "deep" / "state")
    folder.prepare()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert list(folder.path.iterdir()) == []
    with folder.hold():
        assert stat.S_IMODE(folder.lock.stat().st_mode) == 0o600


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"can't be written.*file") as caught:
        StateFolder(tmp_path / "file" / "state").prepare()
    assert "--state-dir" in str(caught.value)
