"""Every example in the pages is run, and says what the page shows."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
from pathlib import Path

import pytest

from etl.job.spec import parse_job
from etl.sandbox import Sandbox
from tests.docs.pages import DOCS, PLAYED, ROOT, Block, blocks, user_pages
from tests.docs.playing import REAL_URL, SHOWN_URL, Console, fits, steps
from tests.examples import each_row


def name_of(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", [*PLAYED, DOCS / "sources.md", DOCS / "stores.md"], ids=name_of)
def test_a_page_says_what_its_examples_do(
    page: Path, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMPLITUDE_API_KEY", "set-so-that-it-is-unset-again")
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    shown = REAL_URL if page.stem == "migration" else SHOWN_URL
    console, names, said = Console(tmp_path, sandbox.url, shown), {"__name__": page.stem}, ""
    for block in blocks(page):
        if block.language == "console":
            play(console, block)
        elif block.language == "python":
            said = executed(block, sandbox.url, names)
        elif block.note == "output":
            assert fits(block.text, said), f"{block.place} is not what was printed:\n{said}"
        elif block.note:
            console.write(block.note, block.text)
    if page.stem == "probe":  # it asks what becomes of keys that the API doesn't have
        sandbox.stats.unknown_keys.clear()


def test_the_page_of_the_sandbox_says_what_trying_a_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", lambda _: os.kill(os.getpid(), signal.SIGINT))  # Ctrl-C
    console, played = Console(tmp_path, SHOWN_URL), 0
    for block in blocks(DOCS / "sandbox.md"):
        if block.note:
            console.write(block.note, block.text)
        elif block.language == "console" and "propsync try" in block.text:
            play(console, block)
            played += 1
    assert played == 2


def play(console: Console, block: Block) -> None:
    for step in steps(block.text):
        said = console.run(step.command)
        assert fits(step.shown, said), f"{block.place} is not what `{step.command}` says:\n{said}"


def executed(block: Block, url: str, names: dict[str, str]) -> str:
    """What the code fingerprints; `names` is what earlier code has defined."""
    printed = io.StringIO()
    code = "\n" * (block.line - 1) + block.text.replace(SHOWN_URL, url)
    with contextlib.redirect_stdout(printed):
        exec(compile(code, block.page, "exec"), names)
    return printed.getvalue()


@pytest.mark.parametrize("block", [b for page in PLAYED for b in blocks(page, "yaml")], ids=lambda b: b.place)
def test_every_job_file_is_one(block: Block) -> None:
    assert parse_job(block.text, name="job.yml", folder=Path()).source


def test_every_json_is_json() -> None:
    for page in user_pages():
        for block in blocks(page, "json"):
            assert json.loads(block.text), block.place
        for block in blocks(page, "ndjson"):
            assert [json.loads(line) for line in block.text.splitlines()], block.place


def test_the_examples_are_found() -> None:
    for page in PLAYED:
        assert (
            sum(len(list(steps(block.text))) for block in blocks(page, "console"))
            + len(list(blocks(page, "python")))
            >= 4
        )


@each_row(
    ("shown", "said", "right"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\nb\n", "a\n", False),
        ("a\n", "a\nb\n", False),
        ("a ... c\n", "a b c\n", True),
        ("a ... c\n", "a b d\n", False),
        ("...\nb\n", "a\na\nb\n", True),
        ("...\nb\n", "a\nb\nc\n", False),
        ("a.c\n", "abc\n", False),
        ("2 MB in 0.1 s, 9 rows/s\n", "2 MB in 31 s, 1,000 rows/s\n", True),
        ("2 MB in 0.1 s\n", "3 MB in 0.1 s\n", False),
        ("2 MB in 0.1 s\n", "2 MB in no s\n", False),
        ("at 2024-05-01T02:15:00Z\n", "at 2026-05-01T02:15:00.5Z\n", True),
        ("", "a\n", False),
        ("", "", True),
    ],
)
def test_only_times_and_dots_stand_for_anything(shown: str, said: str, right: bool) -> None:
    assert fits(shown, said) is right
