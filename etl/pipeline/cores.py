"""A core for the thread that makes chunks: what else a run does stays off it.

Making never waits, so what it loses to others on its core is lost to the run. Left alone, the scheduler wakes
the short ones - reading, sending, committing - on that core as often as on another.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def one_core_left() -> Iterator[None]:
    """Keep this thread, and those that it starts meanwhile, off one of the cores that it may use.

    Does nothing where there is but one core, or where the system doesn't let a thread choose.
    """
    if sys.platform != "linux":
        yield
        return
    allowed = os.sched_getaffinity(0)
    if len(allowed) > 1:
        _move(allowed - {max(allowed)})  # always the same one, for all threads of a run
    try:
        yield
    finally:
        _move(allowed)


def _move(cores: set[int]) -> None:
    with suppress(OSError):  # a sandbox may forbid it
        os.sched_setaffinity(0, cores)
