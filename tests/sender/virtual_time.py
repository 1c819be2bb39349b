"""Time that only passes while everyone waits: an hour of pauses takes no time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

from etl.sender.backoff import Clock

T = TypeVar("T")


class _VirtualSelector:
    """Instead of waiting for a timeout, moves the clock."""

    def __init__(self, selector: Any) -> None:
        self._selector = selector
        self.now = 0.0

    def select(self, timeout: float | None) -> Any:
        ready = self._selector.select(0)
        if timeout is None and not ready:
            raise RuntimeError("everyone waits for ever")
        if not ready:
            self.now += timeout or 0.0
        return ready

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is virtual; for coroutines without network and threads."""

    def __init__(self) -> None:
        super().__init__()
        self._selector: Any = _VirtualSelector(self._selector)

    def time(self) -> float:
        now: float = self._selector.now
        return now


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual_clock(seed: int = 0) -> Clock:
    return Clock(
        now=lambda: asyncio.get_running_loop().time(), sleep=asyncio.sleep, chance=random.Random(seed).random
    )
