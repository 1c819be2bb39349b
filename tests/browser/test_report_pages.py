"""The pages of `check` and `run`: they stand alone, obey their policy, and hold hostile rows as text."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from etl.sandbox import running_sandbox
from tests.browser.checks import HOSTILE, Watched

JOB = """
source: users.csv
identification:
  user_id: id
  user_properties:
    score: {column: score, type: number}
    name: {column: %s}
    day: {column: day, type: date, invalid: skip}
"""


@pytest.fixture(scope="session", params=["quiet", "hostile"])
def pages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The pages of a check and of a run over an export, whose rows are rejected where it is hostile."""
    folder = tmp_path_factory.mktemp(request.param)
    hostile = request.param == "hostile"
    column = HOSTILE[0] if hostile else "name"
    with (folder / "users.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "score", column, "day"])
        for number, text in enumerate(HOSTILE if hostile else ["Ada", "Grace"]):
            rows.writerow([f"user-{number}", number, text, "2024-01-01"])
            if hostile:
                rows.writerow([f"bad-{number}", text, text, text])
    (folder / "job.yml").write_text(JOB % f'"{column}"', encoding="utf-8")
    written = [folder / "check.html", folder / "run.html"]
    with running_sandbox() as sandbox:
        for words in (("check", "job.yml"), ("run", "job.yml", "--rate", "max", "--endpoint", sandbox.url)):
            done = subprocess.run(
                [sys.executable, "-m", "etl", *words, "--report", f"{words[0]}.html"],
                cwd=folder,
                env={**os.environ, "AMPLITUDE_API_KEY": "any", "PYTHONPATH": str(Path(__file__).parents[2])},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode in {0, 3}, done.stderr
    return written


def test_a_report_stands_alone(pages: list[Path], opened: Callable[..., Watched]) -> None:
    for path in pages:
        assert "default-src 'none'" in path.read_text(encoding="utf-8")
        watched = opened(path.as_uri())
        assert watched.page.locator("script, img, iframe, link[href^=http]").count() == 0
        for summary in watched.page.locator("summary").all():
            summary.click()
        watched.check_readable()
