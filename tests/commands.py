"""Runs the command as a user would, in this process or in one of its own, and never lets the key slip."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etl.__main__ import run_command_line
from tests.forking import PATH, ForkedProcess

REPOSITORY = Path(__file__).parents[1]
KEY = "ampKey0123456789neverToBeSeen"
SECONDS = 60.0  # more than anything takes, also where seven others share the machine
# What every sending command is given, so that no test waits for long.
QUICK = ("--rate", "max", "--retry-wait", "0.05", "--throttle-wait", "0.05")


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        (line,) = self.out.splitlines()
        summary = json.loads(line)
        assert isinstance(summary, dict)
        return summary


def checked(finished: Finished) -> Finished:
    """What must hold whatever the command was: the key stays in, and only faults of ours have a trace."""
    assert KEY not in finished.out + finished.err
    assert ("Traceback" in finished.err) == (finished.code == 1), finished.err
    return finished


class Running:
    """A command in a process of its own, under way."""

    def __init__(self, process: subprocess.Popen[str] | ForkedProcess) -> None:
        self.process = process

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it without a chance to do anything more."""
        self.process.kill()
        self.process.communicate(timeout=SECONDS)

    def wait(self, seconds: float = SECONDS) -> Finished:
        """Wait for its end."""
        return self.finish("", seconds)

    def finish(self, stdin: str, seconds: float = SECONDS) -> Finished:
        """Give it its input, and wait for its end."""
        out, err = self.process.communicate(stdin, timeout=seconds)
        assert self.process.returncode is not None
        return checked(Finished(self.process.returncode, out or "", err or ""))


class Propsync:
    """`propsync(...)` runs the command here; `process` and `begin` in a process of its own, in `folder`."""

    def __init__(self, folder: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._home = home
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Finished:
        """Run the command in this process: quick, and the same but for what a process is needed for."""
        self._capsys.readouterr()
        code = run_command_line([str(argument) for argument in arguments])
        return checked(Finished(code, *self._capsys.readouterr()))

    def process(
        self, *arguments: str | Path, stdin: str = "", full: bool = False, **environment: str | None
    ) -> Finished:
        """Run the command to its end. A variable that is None is not set."""
        with self.begin(*arguments, full=full, environment=environment) as running:
            return running.finish(stdin)

    @contextmanager
    def begin(
        self,
        *arguments: str | Path,
        environment: Mapping[str, str | None] | None = None,
        before: Callable[[], object] | None = None,
        under: Sequence[str] = (),
        full: bool = False,
    ) -> Iterator[Running]:
        """Start the command; nothing of it outlives the block.

        `before` runs in the new process; `under` is the command that is to start it. Where it is tested what
        it loads, and when, it starts in `full`; else it is a fork, which has loaded everything.
        """
        words, variables = [str(argument) for argument in arguments], self._environment(environment or {})
        process: subprocess.Popen[str] | ForkedProcess
        if full or under or sys.platform != "linux":
            process = subprocess.Popen(
                [*under, sys.executable, "-m", "etl", *words],
                cwd=self.folder,
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=before,
            )
        else:
            process = ForkedProcess(words, self.folder, variables, before)
        try:
            yield Running(process)
        finally:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def _environment(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PATH), "HOME": str(self._home), **changes}
        return {name: value for name, value in environment.items() if value is not None}


def until(holds: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait until something holds; fail if it doesn't come."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)
