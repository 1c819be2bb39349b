"""Processes that begin where the program is loaded already, which takes far longer than most of them.

They are forks of a server that does nothing else: each has its own streams, signals, folder and environment,
and runs `main` as `python -m etl` does. Only what is loaded when, and the command line that other users see,
must be tested in processes begun in full.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from threading import Thread
from typing import IO
from unittest.mock import patch

_REPOSITORY = Path(__file__).parents[1]
PATH = (str(_REPOSITORY), str(_REPOSITORY / "tests" / "guard"))
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.loaded"])


def forks() -> multiprocessing.context.ForkServerContext:
    """The context whose processes have the program loaded, and the tests' guard."""
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(PATH)):
        ensure_running()
    return _FORKS


class ForkedProcess:
    """A command under way, with those parts of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        environment: Mapping[str, str],
        before: Callable[[], object] | None,
    ) -> None:
        (stdin, self_in), (self_out, stdout), (self_err, stderr) = os.pipe(), os.pipe(), os.pipe()
        theirs = (
            Connection(stdin, writable=False),
            Connection(stdout, readable=False),
            Connection(stderr, readable=False),
        )
        self.stdin: IO[str] | None = open(self_in, "w")  # noqa: SIM115, PTH123 - a descriptor
        self.stdout: IO[str] | None = open(self_out)  # noqa: SIM115, PTH123
        self.stderr: IO[str] | None = open(self_err)  # noqa: SIM115, PTH123
        self._process = forks().Process(
            target=_command, args=(theirs, arguments, folder, dict(environment), before)
        )
        self._process.start()
        for one in theirs:
            one.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self.returncode
        if code is None:
            raise subprocess.TimeoutExpired("propsync", timeout or 0)
        return code

    def communicate(self, text: str | None = None, timeout: float | None = None) -> tuple[str, str]:
        found = {"out": "", "err": ""}

        def read(name: str, stream: IO[str] | None) -> None:
            if stream is not None:
                found[name] = stream.read()

        readers = [
            Thread(target=read, args=given, daemon=True)
            for given in (("out", self.stdout), ("err", self.stderr))
        ]
        for reader in readers:
            reader.start()
        if self.stdin is not None:
            try:
                self.stdin.write(text or "")
                self.stdin.close()
            except BrokenPipeError:
                self.stdin = None
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired("propsync", timeout or 0)
        self.wait(timeout)
        return found["out"], found["err"]

    def send_signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _command(
    streams: tuple[Connection, ...],
    arguments: list[str],
    folder: Path,
    environment: dict[str, str],
    before: Callable[[], object] | None,
) -> None:
    """Make this process what a shell would have begun, and be the command."""
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "r", closefd=False)))
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)))
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)), errors="backslashreplace", line_buffering=True
    )
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    sys.path[:0] = [str(folder)]
    sys.argv = ["propsync", *arguments]
    if before is not None:
        before()
    from etl.__main__ import main

    main()
