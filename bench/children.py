"""Runs a command to its end and says what it took: seconds, memory, and the figures that it printed."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LONGEST_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Ran:
    """What one run took. `megabytes` is the peak of resident memory of the process or of one it started.

    `together` is the greatest sum, seen five times a second, of what it and its children have resident, where
    what they share is counted once; 0 where the system doesn't tell. `told` is the JSON object in the last
    line that it printed, or empty.
    """

    wall: float
    megabytes: float
    together: float
    told: Mapping[str, float]


class BenchError(Exception):
    """A contender failed, or didn't do what it should have: no figure is better than a wrong one."""


def ran(
    command: Sequence[str | Path],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    longest: float = LONGEST_SECONDS,
) -> Ran:
    """Run a command; raises BenchError if it fails or takes longer than `longest` seconds.

    On Linux a process counts the memory of whoever started it until it runs its own program. So whoever
    calls this must be small itself: it imports nothing but the standard library.
    """
    with tempfile.TemporaryFile("w+") as out:
        start = time.perf_counter()
        child = subprocess.Popen(
            [str(word) for word in command],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(os.environ) | dict(environment or {}),
        )
        clock = threading.Timer(longest, child.kill)
        clock.start()
        watched: list[float] = []
        ended = threading.Event()
        watching = threading.Thread(target=_watch, args=(child.pid, watched, ended))
        watching.start()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        clock.cancel()
        ended.set()
        watching.join()
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read()
    if child.returncode != 0:
        raise BenchError(f"exit code {child.returncode} of {' '.join(map(str, command))}\n{said[-3000:]}")
    return Ran(wall, usage.ru_maxrss / 1024, max(watched, default=0.0), told(said))


def _watch(pid: int, watched: list[float], ended: threading.Event) -> None:
    """Note every fifth of a second what a process and its children have resident."""
    while not ended.wait(0.2):
        with suppress(OSError, ValueError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            watched.append(sum(map(_resident, [str(pid), *children])))


def _resident(pid: str) -> float:
    """Megabytes of a process, its part of what it shares with others."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def told(said: str) -> dict[str, float]:
    """The JSON object in the last line of what a command said; empty if there is none."""
    lines = said.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
