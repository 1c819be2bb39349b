"""Plays a page: writes the files it shows, runs its commands, and compares what they say."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from etl.__main__ import run_command

# Where the pages say that the sandbox listens; the tests have theirs elsewhere.
SHOWN_URL = "http://127.0.0.1:8900"
# On a terminal, which is what the pages show, there is a progress bar in place of these lines.
_LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\dT\S+ [A-Z]+ .*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Step:
    """A command as typed, and the output that the page shows for it."""

    command: str
    shown: str


def steps(console: str) -> Iterator[Step]:
    """Part a console block into its commands; a backslash at a line's end continues it."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, _, shown = part.replace("\\\n", " ").partition("\n")
        yield Step(command, shown)


def fits(shown: str, said: str) -> bool:
    """Whether the output is what is shown, where `...` stands for anything: in a line, or for whole lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else ".*".join(map(re.escape, line.split("..."))) + r" *\n"
        for line in shown.rstrip("\n").splitlines()
    )
    return re.fullmatch(pattern, said.rstrip("\n") + "\n" if said else "") is not None


class Console:
    """Runs the few commands that the pages use, in the current folder, against the sandbox at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._code = 0
        self._tools: dict[str, Callable[[list[str]], int]] = {
            "propsync": self._propsync,
            "cat": self._cat,
            "curl": self._curl,
            "echo": self._echo,
            "export": self._export,
        }

    def run(self, command: str) -> str:
        """What the command says, both streams as a terminal mixes them."""
        words = shlex.split(command.replace(SHOWN_URL, self._url))
        given = {}
        while re.match(r"[A-Z_]+=", words[0]):
            name, _, given[name] = words.pop(0).partition("=")
        target = words[-1] if len(words) > 2 and words[-2] == ">" else None
        said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        with patch.dict(os.environ, given), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            tool = self._tools[words[0]]
            self._code = tool(words[1:-2] if target else words[1:])
        text = said.buffer.getvalue().decode()  # type: ignore[attr-defined]
        if target:
            Path(target).write_text(text, encoding="utf-8")
            return ""
        text = text if "--log-format" in words else _LOG_LINE.sub("", text)
        return text.replace(self._url, SHOWN_URL)

    def _propsync(self, arguments: list[str]) -> int:
        if arguments[0] == "sandbox":
            print(f"sandbox at {self._url}")  # the real one goes on until Ctrl-C
            return 0
        with patch.object(sys, "argv", ["propsync", *arguments]):
            return run_command(arguments)

    def _cat(self, arguments: list[str]) -> int:
        for name in arguments:
            print(Path(name).read_text(encoding="utf-8"), end="")
        return 0

    def _curl(self, arguments: list[str]) -> int:
        assert arguments[0] == "-H"
        name, _, value = arguments[1].partition(": ")
        request = urllib.request.Request(arguments[2], headers={name: value})
        with urllib.request.urlopen(request, timeout=10) as answer:
            print(answer.read().decode())
        return 0

    def _echo(self, arguments: list[str]) -> int:
        print(" ".join(arguments).replace("$?", str(self._code)))
        return 0

    def _export(self, arguments: list[str]) -> int:
        name, _, value = arguments[0].partition("=")
        os.environ[name] = value
        return 0
