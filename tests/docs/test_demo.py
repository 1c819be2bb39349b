"""The demo shows what it promises, on a terminal of 80 columns, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path
from unittest.mock import patch

import pytest

from etl.__main__ import run_command_line
from tests.docs.pages import ROOT

DEMO = ROOT / "docs" / "demo.py"


def in_full(folder: Path) -> str:
    """What it shows as `make demo` runs it."""
    done = subprocess.run(
        [sys.executable, str(DEMO)],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def in_this_process(folder: Path) -> str:
    """What it shows where its commands begin no processes."""
    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")

    def run(command: list[str], *, env: dict[str, str], check: bool) -> subprocess.CompletedProcess[str]:
        assert command[:3] == [sys.executable, "-m", "etl"]
        with patch.dict(os.environ, env):
            return subprocess.CompletedProcess(command, run_command_line(command[3:]))

    with (
        contextlib.chdir(folder),
        patch("subprocess.run", run),
        contextlib.redirect_stdout(shown),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        runpy.run_path(str(DEMO), run_name="__main__")
    shown.flush()
    assert isinstance(shown.buffer, io.BytesIO)
    return shown.buffer.getvalue().decode()


@pytest.fixture(scope="module", params=[in_this_process, pytest.param(in_full, marks=pytest.mark.soak)])
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    before = set((ROOT / "sample_data").rglob("*"))
    text: str = request.param(elsewhere)
    assert set((ROOT / "sample_data").rglob("*")) - before == set()
    assert not list(elsewhere.iterdir())
    return text


def test_it_shows_the_commands_and_the_summary(shown: str) -> None:
    for part in (
        "$ propsync check ",
        "$ propsync run ",
        "$ curl ",
        "sample-csv: finished",
        "  rows  ",
        '"amp_props": {',
    ):
        assert part in shown


def test_it_shows_what_is_handed_back(shown: str) -> None:
    assert 'row 2, bad_number: column mrr_usd: "49,50" is not a number' in shown


def test_the_user_stands_beside_the_row(shown: str) -> None:
    beside = shown.partition("the user in the sandbox")[2]
    assert 'customer_id: "C-00001"' in beside
    assert '"user_id": "C-00001"' in beside


def test_lines_fit_a_terminal(shown: str) -> None:
    for line in shown.replace(tempfile.gettempdir(), "/tmp").splitlines():
        assert sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in line) <= 80, line
