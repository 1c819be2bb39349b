"""The process of a command: which signals stop it and when, what memory it keeps, and what it may import.

A handler is set from the first moment on: without one, SIGTERM and SIGHUP kill the process at once, and PID 1
of a container never gets them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, TypeAlias

STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler: TypeAlias = Callable[[int, FrameType | None], object]

# Two during the start are a repeated request to stop; after more, the end can't be reported any more.
_PATIENCE: Final = 2

_early: list[int] = []  # signals that came before `release_signals`


# --- signals that ask it to stop --------------------------------------------------------------------------


def watch_signals() -> None:
    """Handle all of them: the first ones wait for `release_signals`, then one raises KeyboardInterrupt.

    For the main thread of a process that is ours. A SIGHUP that is ignored (`nohup`) stays so.
    """
    for number in STOPPING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _wait_for_release)


def release_signals() -> None:
    """Let each raise KeyboardInterrupt from now on, and now if one came; only after `watch_signals`."""
    for number in STOPPING:
        if signal.getsignal(number) is _wait_for_release:
            signal.signal(number, signal.default_int_handler)
    if _early:
        _early.clear()
        raise KeyboardInterrupt


def exit_on_signals(code: int) -> None:
    """Let each end the process with this exit code."""
    for number in STOPPING:
        signal.signal(number, lambda *_: os._exit(code))


def ignore_signals() -> None:
    """Let none do anything. Any other handler is removed before Python has ended."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def handling_signals(handler: Handler) -> Iterator[None]:
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
def holding_signals() -> Iterator[None]:
    """Let a first one wait until the end of the block, where it is raised; a second one doesn't wait."""
    came: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    with handling_signals(hold):
        yield
    if came:
        signal.raise_signal(came[0])


def _wait_for_release(number: int, _frame: FrameType | None) -> None:
    if len(_early) >= _PATIENCE:
        raise KeyboardInterrupt
    _early.append(number)


# --- what is set up before numpy, Arrow and pandas are imported -------------------------------------------

# M_TRIM_THRESHOLD, M_MMAP_THRESHOLD (32 MiB is the most it takes) and M_ARENA_MAX of glibc's malloc.h; other
# systems have neither the function nor the habit.
_MALLOC_OPTIONS: Final = ((-1, 18 << 20), (-3, 32 << 20), (-8, 1))


def configure_allocation() -> None:
    """Keep freed memory for the next batch; call it before numpy or Arrow is imported.

    The system's allocator gives the megabytes of a batch back as soon as they are freed, and fetches them
    again page by page for the next batch, which takes a tenth of a run. Here it gives them back later, and
    what it holds is limited: by one heap for all threads, which ask rarely and for much at once.
    """
    import ctypes  # here, as short commands have no batches

    # Arrow's own allocators keep all that they once had; the system's has a bound, at the same speed.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # numpy's linear algebra, which nothing here uses, would start threads that wait by spinning.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if tune is not None:
        for option, value in _MALLOC_OPTIONS:
            tune(option, value)


class _BeforeImports:
    """A finder of modules that is asked first, and finds none: it sets up what a module needs."""

    pandas = False  # whether it may be imported

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name in {"numpy", "pyarrow"}:
            configure_allocation()
        # While Arrow parses CSV in the main thread, it handles signals itself, and loses one in thirty.
        if name == "pyarrow.csv":
            sys.modules["pyarrow"].enable_signal_handlers(False)
        # None in `sys.modules` would be simpler, but pyarrow's conversions fail over it.
        if name == "pandas" and not self.pandas:
            raise ImportError(name)


_BEFORE_IMPORTS = _BeforeImports()


def watch_imports() -> None:
    """Set up memory before numpy or Arrow comes, leave signals to Python, and let nothing import pandas.

    Only a job with a transform of its own needs pandas. pyarrow looks for it at its first conversion, to know
    whether it may ever be given a Series: a quarter of a second, and 35 MB, for what no other job gives it.
    Where it finds none it works the same.
    """
    _BEFORE_IMPORTS.pandas = False
    if _BEFORE_IMPORTS not in sys.meta_path:
        sys.meta_path.insert(0, _BEFORE_IMPORTS)


def allow_pandas() -> None:
    """Let pandas be imported; call it before pyarrow has looked for it."""
    _BEFORE_IMPORTS.pandas = True
