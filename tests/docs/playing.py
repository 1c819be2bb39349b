"""Plays a page: writes the files it shows, runs its commands, and tells what a terminal would show."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from etl.__main__ import run_command_line
from tests.docs.pages import ROOT
from tests.docs.screen import Terminal

# Where the pages say that the sandbox listens; a test has its own elsewhere.
SHOWN_URL = "http://127.0.0.1:8900"
# A page that sends to Amplitude itself, whose reader has a project there; a test has the sandbox.
_REAL, REAL_URL = "region: eu", "https://api.eu.amplitude.com"
# Numbers before a unit of time or speed, moments, and what a page leaves out.
_VARIES = re.compile(r"(\d[\d,.]*(?= (?:s|rows/s)\b)|(?<=seconds\":)\d[\d.]*|\d{4}-\d\d-\d\dT[\d:.]+|\.\.\.)")
# The sentence about where the time went differs from run to run; pages show it or not.
_TIME_SPENT = re.compile(r"\s+Time: (?:[^.]|\.\d)*\.")
_SHIM = '#!/bin/sh\nexec "{python}" -m etl "$@"\n'


@dataclass(frozen=True, slots=True)
class Step:
    """A command as typed, and the output that the page shows for it."""

    command: str
    shown: str


def steps(console: str) -> Iterator[Step]:
    """Part a console block into its commands; a backslash at a line's end continues one."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, _, shown = part.replace("\\\n", " ").partition("\n")
        yield Step(command, shown)


def fits(shown: str, said: str) -> bool:
    """Whether the output is what is shown, but for times and speeds.

    `...` stands for anything: in a line, or for whole lines.
    """
    shown, said = _TIME_SPENT.sub("", shown), _TIME_SPENT.sub("", said)
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else _line_pattern(line) + r"\n"
        for line in shown.rstrip().splitlines()
    )
    return re.fullmatch(pattern, said.rstrip() + "\n" if said.strip() else "") is not None


def _line_pattern(line: str) -> str:
    parts = _VARIES.split(line)
    return "".join(_stand_in(part) if odd % 2 else re.escape(part) for odd, part in enumerate(parts))


def _stand_in(part: str) -> str:
    if part == "...":
        return ".*"
    return r"\d{4}-\d\d-\d\dT[\d:.]+" if "T" in part else r"\d[\d,.]*"


class Console:
    """Runs the few commands that the pages use, in `folder`, which is the current one, against a sandbox.

    The page says `shown` in place of its `url`.
    """

    def __init__(self, folder: Path, url: str, shown: str = SHOWN_URL) -> None:
        self._folder, self._url, self._shown = folder, url, shown
        self._code = 0
        self._exported: dict[str, str] = {}
        self._tools: dict[str, Callable[[list[str]], int]] = {
            "propsync": run_command_line,
            "cat": self._cat,
            "curl": self._curl,
            "echo": self._echo,
            "export": self._export,
            "sh": self._sh,
        }

    def write(self, name: str, text: str) -> None:
        """Write a file that a page shows."""
        text = text.replace(SHOWN_URL, self._url).replace("/srv/propsync", ".")
        if self._shown == REAL_URL:
            text = text.replace(_REAL, f"region: {self._url}")
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, command: str) -> str:
        """What the command leaves on a terminal of 80 columns, both streams together."""
        words = shlex.split(command.replace(SHOWN_URL, self._url))
        if words[:2] == ["propsync", "sandbox"]:
            return f"sandbox at {SHOWN_URL}\n"  # it would go on until Ctrl-C, and the test has one already
        target = self._folder / words.pop() if words[-2:-1] == [">"] else None
        out, err = Terminal(), Terminal()
        with (
            patch.dict(os.environ, TERM="xterm", COLUMNS="80", **self._exported),
            contextlib.redirect_stdout(out if target else err),
            contextlib.redirect_stderr(err),
        ):
            self._code = self._tools[words[0]](words[1:-1] if target else words[1:])
        if target:
            target.write_bytes(out.written.getvalue())
        return err.seen().replace(self._url, self._shown)

    def _cat(self, names: list[str]) -> int:
        for name in names:
            print(Path(name).read_text(encoding="utf-8"), end="")
        return 0

    def _curl(self, arguments: list[str]) -> int:
        option, header, url = arguments
        assert option == "-H"
        name, value = header.split(": ")
        with urllib.request.urlopen(urllib.request.Request(url, headers={name: value}), timeout=10) as answer:
            print(answer.read().decode())
        return 0

    def _echo(self, words: list[str]) -> int:
        print(*(word.replace("$?", str(self._code)) for word in words))
        return 0

    def _export(self, assignments: list[str]) -> int:
        name, value = assignments[0].split("=")
        self._exported[name] = value
        return 0

    def _sh(self, arguments: list[str]) -> int:
        shim = self._folder / "bin" / "propsync"
        shim.parent.mkdir()
        shim.write_text(_SHIM.format(python=sys.executable), encoding="utf-8")
        shim.chmod(0o700)
        path = os.pathsep.join([str(shim.parent), os.environ["PATH"]])
        done = subprocess.run(
            ["sh", *arguments],
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        print(done.stdout, end="")
        print(done.stderr, end="", file=sys.stderr)
        return done.returncode
