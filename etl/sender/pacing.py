"""How fast, and when to wait: rates, the one pause that all lanes share, and how long a pause is.

Clocks, sleeping and chance come from outside (`Clock`), so that all of it can be tested without waiting.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds that only move forward, a sleep in seconds, and chance between 0 and 1."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = field(default_factory=lambda: random.Random().random)  # noqa: S311


class Rate:
    """Lets `amount` units through at an even `per_second`; None means no limit.

    Takers book and then wait, so they pass in the order in which they booked. A late wake-up is made up for
    as far as `slack` seconds.
    """

    def __init__(self, per_second: float | None, clock: Clock, *, slack: float = 0.05) -> None:
        self.per_second = per_second
        self._clock = clock
        self._slack = slack
        self._next = clock.now()

    def book(self, amount: int) -> float:
        """Book `amount` units; the seconds to wait before they may pass."""
        if self.per_second is None:
            return 0.0
        now = self._clock.now()
        at = max(self._next, now - self._slack)
        self._next = at + amount / self.per_second
        return max(0.0, at - now)

    def passed(self, amount: int, latency: float) -> None:
        """A rate that is given learns nothing from what is taken ..."""

    def refused(self, amount: int) -> bool:
        """... nor from refusals, and is never held to be their reason."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Pauses in seconds: the first after a failed try, after a 429 without Retry-After, and the longest.

    `throttle` None is the transport's own.
    """

    retry: float = 1.0
    throttle: float | None = None
    longest: float = 60.0


def backoff(failures: int, first: float, longest: float, chance: float) -> float:
    """Full jitter: anywhere between a tenth of, and the whole of, a pause that doubles with each failure.

    `failures` counts from 1. The least of a tenth keeps a long outage from being polled without a pause.
    """
    whole = min(longest, first * 2.0 ** min(failures - 1, 30))
    return whole * (0.1 + 0.9 * chance)
