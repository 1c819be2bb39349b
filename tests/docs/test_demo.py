"""The demo shows what it promises, on a terminal of 80 columns, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import unicodedata

import pytest

from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    before = set((ROOT / "sample_data").rglob("*"))
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "demo.py")],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert set((ROOT / "sample_data").rglob("*")) - before == set()
    assert not list(elsewhere.iterdir())
    return done.stdout


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
