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
_WATCHED_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Ran:
    """What one run took. `processor` is the processor seconds of the process and of all that it started.

    `megabytes` is the peak of resident memory of the largest of these. `together` is the most that they held
    at one time, seen twice a second; never less than `megabytes`. `told` is the JSON object in the last line
    that it printed, or empty.
    """

    wall: float
    processor: float
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
    largest = usage.ru_maxrss / 1024
    processor = usage.ru_utime + usage.ru_stime
    return Ran(wall, processor, largest, max([largest, *watched]), told(said))


def _watch(pid: int, watched: list[float], ended: threading.Event) -> None:
    """Note what a process and its children hold together, again and again."""
    while not ended.wait(_WATCHED_SECONDS):
        with suppress(OSError, ValueError):  # one of them has just ended
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            watched.append(held([pid, *map(int, children)]))


def held(pids: Sequence[int], proc: Path = Path("/proc")) -> float:
    """Megabytes of processes together: what they wrote themselves, and the mapped files of the one with most.

    Pages that one has from the other count once. Where the system doesn't tell of these, it is the sum of
    the peaks.
    """
    own = [_kilobytes(proc / str(pid) / "smaps_rollup", "Pss_Anon:", "Pss_Shmem:") for pid in pids]
    if not all(own):
        return sum(_kilobytes(proc / str(pid) / "status", "VmHWM:") for pid in pids) / 1024
    return (sum(own) + max(_kilobytes(proc / str(pid) / "status", "RssFile:") for pid in pids)) / 1024


def _kilobytes(path: Path, *names: str) -> int:
    """The sum of the lines with these names; 0 where there are none."""
    lines = path.read_text().splitlines() if path.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith(names))


def told(said: str) -> dict[str, float]:
    """The JSON object in the last line of what a command said; empty if there is none."""
    lines = said.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
