"""How much the sandbox lets in per second, minute and hour, by a clock that is handed to it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class TokenBucket:
    """Lets `rate` tokens a second through, and a second's worth at once after a pause."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._capacity = max(rate, 1.0)
        self._level = self._capacity
        self._clock = clock
        self._seen = clock()

    def take(self, tokens: int) -> bool:
        """Take all the tokens or none.

        A full bucket serves any number and goes into debt, or a request above one second's worth
        could never pass.
        """
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._seen) * self._rate)
        self._seen = now
        if self._level < min(tokens, self._capacity):
            return False
        self._level -= tokens
        return True


class RollingCount:
    """Counts updates by user over the last `window` seconds, against `most` of them."""

    def __init__(self, most: float, window: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._window = window
        self._clock = clock
        self._times: dict[str, deque[float]] = {}

    def full(self, user: str) -> bool:
        """Whether one more update of the user would be too many."""
        times = self._times.get(user)
        if times is None:
            return False
        while times and times[0] <= self._clock() - self._window:
            times.popleft()
        return len(times) + 1 > self._most

    def add(self, user: str) -> None:
        """Count one update of the user now."""
        self._times.setdefault(user, deque()).append(self._clock())
