"""The signals by which a process is asked to stop, and who hears them when.

A handler is set from the first moment on: without one, SIGTERM and SIGHUP kill the process on the spot, and
PID 1 of a container never hears of them.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, TypeAlias

STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler: TypeAlias = Callable[[int, FrameType | None], object]

_early: list[int] = []
# Two in the first second are a stop that is repeated; whoever sends more of them can't be told of the end.
_PATIENCE: Final = 2


def watch() -> None:
    """From now on hear all of them: the first ones wait for `release`, then one raises KeyboardInterrupt.

    For the main thread of a process that is ours. A SIGHUP that is ignored (`nohup`) stays so.
    """
    for number in STOPPING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _wait_for_release)


def release() -> None:
    """From now on each raises KeyboardInterrupt, and so does this if one came; after `watch` only."""
    for number in STOPPING:
        if signal.getsignal(number) is _wait_for_release:
            signal.signal(number, signal.default_int_handler)
    if _early:
        _early.clear()
        raise KeyboardInterrupt


def leave_at_once(code: int) -> None:
    """From now on each ends the process with this exit code."""
    for number in STOPPING:
        signal.signal(number, lambda *_: os._exit(code))


def ignore() -> None:
    """From now on none does anything. Any other handler is gone before Python has ended."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def heard_by(handler: Handler) -> Iterator[None]:
    """Let `handler` hear them in the block; those that are ignored stay so.

    In any other thread than the main one nothing changes: Python hears signals in that one alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING}
    heard = {n: found for n, found in before.items() if found not in (signal.SIG_IGN, None)}
    try:
        for number in heard:
            signal.signal(number, handler)
        yield
    finally:
        for number, found in heard.items():
            signal.signal(number, found)


@contextmanager
def held() -> Iterator[None]:
    """Let a first one wait until the block is left, where it is raised again; a second one does not wait."""
    came: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    with heard_by(hold):
        yield
    if came:
        signal.raise_signal(came[0])


def _wait_for_release(number: int, _frame: FrameType | None) -> None:
    if len(_early) >= _PATIENCE:
        raise KeyboardInterrupt
    _early.append(number)
