"""How long to wait after a failure: the clock, the waits of a user's choice, and what is more than chance.

Where one of three back ends is down, a third of all requests fails, and each passes when it is tried again.
So one failure proves little; the odds of n failures in a row by chance are share ** n.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

# What passed long ago counts less: about so many requests that passed are remembered.
_FADING: Final = 1 - 1 / 200
# The share of failures that is assumed at least. A destination that never failed so far may begin to.
_LEAST_SHARE: Final = 0.25
# Failures in a row with odds below one in ten to this are no chance.
_SURE: Final = 6.0
# With odds above one in ten to this they are nothing special: no reason to wait longer.
_PLAUSIBLE: Final = 3.0
# One of the halves of a part at fault is at fault: less is needed to tell which, down to one try.
_TELLING: Final = 2.0
_LEAST_SHARE_OF_HALVES: Final = 0.01


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds that only move forward, a sleep in seconds, and chance between 0 and 1; tests bring theirs."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = field(default_factory=lambda: random.Random().random)  # noqa: S311


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits in seconds: the first after a failed try, after a 429 without Retry-After, and the longest.

    `throttle` None is the transport's own.
    """

    retry: float = 1.0
    throttle: float | None = None
    longest: float = 60.0

    def seconds(self, failures: int, chance: float, longest: float | None = None) -> float:
        """The wait after so many failures in a row, counted from 1; it doubles with each of them.

        Full jitter, from a tenth of it on, so that a long outage isn't polled without a pause.
        """
        longest = self.longest if longest is None else longest
        whole = min(longest, self.retry * 2.0 ** min(failures - 1, 30))
        return whole * (0.1 + 0.9 * chance)


class FailureShare:
    """The share of requests that fail, measured on those that passed in the end.

    So neither an outage nor a row that never passes counts as chance.
    """

    def __init__(self) -> None:
        self._failed = 0.0
        self._passed = 0.0

    def passed(self, failures: int) -> None:
        """A part passed, after it had failed so often by chance."""
        self._failed = self._failed * _FADING + failures
        self._passed = self._passed * _FADING + 1

    def is_no_chance(self, failures: int) -> bool:
        """Whether so many failures in a row have another reason than chance."""
        return self._decades(failures, _LEAST_SHARE) >= _SURE

    def tells_halves_apart(self, failures: int) -> bool:
        """Whether so many failures in a row of one of two halves show that it is the one at fault."""
        return self._decades(failures, _LEAST_SHARE_OF_HALVES) >= _TELLING

    def doublings(self, failures: int) -> int:
        """How often the wait before the next try has doubled; 0 while the failures are nothing special."""
        return max(0, math.floor(self._decades(failures, _LEAST_SHARE) - _PLAUSIBLE) + 1)

    def _decades(self, failures: int, least: float) -> float:
        """The odds of so many failures in a row are one in ten to this."""
        share = (self._failed + 1) / (self._failed + self._passed + 2)  # a half where nothing is known
        return -failures * math.log10(max(share, least))
