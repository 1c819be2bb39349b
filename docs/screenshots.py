"""Takes the pictures of README and docs anew, of the sample data, with Debian's Chromium."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import sync_playwright
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from etl.sandbox import Sandbox, running_sandbox
from tests.browser.conftest import FLAGS

ROOT: Final = Path(__file__).resolve().parents[1]
IMAGES: Final = ROOT / "docs" / "images"
MOST_BYTES: Final = 150_000
# Fonts are those of the reader's machine: a picture asks no other host.
SVG: Final = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
USERS: Final = """\
customer_id,email,plan,mrr_usd,signed_up
user-1001,ada@example.com,pro,49.00,2024-01-15
user-1002,grace@example.com,free,,2024-02-03
user-1003,alan@example.com,team,99.50,2024-02-29
"""
USER: Final = "C-00017"
NIGHT: Final = {"$set": {"plan": "enterprise"}, "$add": {"logins": 3}}


def main() -> None:
    """Take all pictures; exit with 1 where one is too large."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="propsync-screenshots-") as name, running_sandbox() as sandbox:
        folder = Path(name)
        shutil.copytree(ROOT / "sample_data", folder / "sample_data")
        (folder / "users.csv").write_text(USERS, encoding="utf-8")
        text = propsync(folder, "try", "users.csv")
        shown = text.partition("\nthe sandbox shows")[0].rstrip()
        draw_terminal("$ propsync try users.csv\n" + shown)
        job = "sample_data/users-csv.yml"
        sandbox.change(faults=["503:40%"])
        sending = ("--endpoint", sandbox.url, "--rate", "max", "--retry-wait", "0.05", "--batch-size", "100")
        propsync(folder, "run", job, *sending, "--report", "run.html")
        sandbox.profiles.apply({"user_id": USER, "user_properties": {**NIGHT}})
        with sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=shutil.which("chromium"), args=FLAGS.split(), env={**os.environ, "HOME": name}
            )
            page = browser.new_page(viewport={"width": 1000, "height": 700}, color_scheme="light")
            take_pages(page, sandbox, folder)
            browser.close()
    for path in IMAGES.iterdir():
        if path.stat().st_size > MOST_BYTES:
            sys.exit(f"{path} has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}")


def propsync(folder: Path, *words: str) -> str:
    """Run a command as one would type it, 80 columns wide, and return what it shows."""
    environment = {**os.environ, "AMPLITUDE_API_KEY": "any", "COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "etl", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode not in {0, 3}:
        sys.exit(f"{shlex.join(words)} ended with exit code {done.returncode}:\n{done.stdout}")
    return done.stdout


def draw_terminal(text: str) -> None:
    """Draw what a terminal of 80 columns shows."""
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True)
    for line in text.splitlines():
        console.print(Text(line, style="bold" if line.startswith("$ ") else ""))
    svg = console.export_svg(title="propsync", code_format=SVG, unique_id="terminal")
    (IMAGES / "terminal.svg").write_text(svg, encoding="utf-8")


def take_pages(page: Any, sandbox: Sandbox, folder: Path) -> None:
    """Take the sandbox's pages and the reports."""
    for name, url, height in (
        ("sandbox", f"{sandbox.url}/?q=99", 1000),
        ("user", f"{sandbox.url}/user?id={USER}", 700),
        ("faults", f"{sandbox.url}/faults", 760),
        ("run", (folder / "run.html").as_uri(), 900),
    ):
        page.set_viewport_size({"width": 1000, "height": height})
        page.goto(url)
        for summary in page.locator("td summary").all()[:1] if name == "user" else ():
            summary.click()
        page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
