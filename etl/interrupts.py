"""The signals that ask a process to stop, and what handles them when.

A handler is set from the first moment on: without one, SIGTERM and SIGHUP kill the process at once, and PID 1
of a container never gets them.
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
# Two during the start are a repeated request to stop; after more, the end can't be reported any more.
_PATIENCE: Final = 2


def watch() -> None:
    """Handle all of them: the first ones wait for `release`, then one raises KeyboardInterrupt.

    For the main thread of a process that is ours. A SIGHUP that is ignored (`nohup`) stays so.
    """
    for number in STOPPING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _wait_for_release)


def release() -> None:
    """Let each raise KeyboardInterrupt from now on, and raise it now if one came; only after `watch`."""
    for number in STOPPING:
        if signal.getsignal(number) is _wait_for_release:
            signal.signal(number, signal.default_int_handler)
    if _early:
        _early.clear()
        raise KeyboardInterrupt


def leave_at_once(code: int) -> None:
    """Let each end the process with this exit code."""
    for number in STOPPING:
        signal.signal(number, lambda *_: os._exit(code))


def ignore() -> None:
    """Let none do anything. Any other handler is removed before Python has ended."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def heard_by(handler: Handler) -> Iterator[None]:
    """Let `handler` handle them in the block; those that are ignored stay ignored.

    In any other thread than the main one nothing changes: Python handles signals in that one alone.
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
    """Let a first one wait until the end of the block, where it is raised; a second one doesn't wait."""
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
