"""How fast identifications may go: at a fixed rate, or at one that is learned from refusals.

Think of the destination as a bucket that fills with L identifications a second. A refusal shows that it held
less than one request. So between two refusals L lies between (taken - one request) and (taken + one request)
over the time between, and the longer that is, the better L is known. After each refusal the rate starts
slightly below the admitted rate as known so far, comes up to it, lingers there, and then searches upwards
faster and faster.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from ..amplitude.requests import DEFAULT_RATE
from .backoff import Clock

# Never slower than this, in identifications a second: a quarter of what the smallest plan admits. Refusals by
# chance, which show no limit, would otherwise lower the rate without end.
_LEAST_RATE: Final = DEFAULT_RATE / 4
# How far below the admitted rate a search begins.
_STEP_BACK: Final = 0.03
# A search is back at the admitted rate after so many seconds, or requests if they take longer: about twice as
# much between two refusals keeps the share of refused requests near one in a hundred.
_RETURN_SECONDS: Final = 5.0
_RETURN_REQUESTS: Final = 30
# Refusals that are rarer than one in so many returns are the cost of searching; no reason to go slower.
_RARE: Final = 3
# After such a lull, in seconds or requests, the bucket is full, and earlier measurements have no meaning.
_LULL_SECONDS: Final = 1.0
_LULL_REQUESTS: Final = 4
# Between two answers the destination may have had so many times the usual jitter less time than we had.
_JITTERS: Final = 4.0
# So many refusals are kept to measure from.
_MARKS: Final = 32
# A search that has come so far (1 is where it began, 2 its return, 3 a quarter more) has found new room.
_FAR: Final = 2.0
# What was taken within so many seconds is the first guess of what is admitted.
_RECENT_SECONDS: Final = 1.0
_LEAST_SECONDS: Final = 0.25
# So many refusals in a row, over so many seconds, are not a sign of the rate: nothing is admitted at all.
_SILENT_REFUSALS: Final = 4
_SILENT_SECONDS: Final = 3.0
# A late wake-up is made up for as far as this.
_SLACK_SECONDS: Final = 0.05


class RateLimiter:
    """Lets identifications, or requests, through at an even rate of `per_second`; None means no limit.

    Takers book and then wait, so they pass in the order in which they booked.
    """

    def __init__(self, per_second: float | None, clock: Clock) -> None:
        self.per_second = per_second
        self._now = clock.now
        self._next = clock.now()

    def book(self, amount: int) -> float:
        """Book `amount` of them; the seconds to wait before they may pass."""
        if self.per_second is None:
            return 0.0
        now = self._now()
        at = max(self._next, now - _SLACK_SECONDS)
        self._next = at + amount / self.per_second
        return max(0.0, at - now)

    def passed(self, amount: int, latency: float) -> None:
        """Note that a request with `amount` identifications was taken `latency` seconds after sending."""

    def refused(self, amount: int) -> bool:
        """A request with `amount` identifications was throttled; whether the rate may be the reason."""
        return False


class AdaptiveRate(RateLimiter):
    """A rate that is learned; no limit until a first refusal."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(None, clock)
        self._began = clock.now()
        self._admitted: float | None = None
        # What was admitted when something last passed: a silent destination is not a reason to forget it.
        self._before: float | None = None
        self._binding = False
        self._progress = -1.0
        # Refusals to measure from: when, and what had been taken until then.
        self._marks: deque[tuple[float, int]] = deque(maxlen=_MARKS)
        self._taken = 0
        self._latency: float | None = None
        self._jitter = 0.0
        self._recent: deque[tuple[float, int]] = deque()
        self._in_a_row = 0
        self._last_passed = float("-inf")

    def book(self, amount: int) -> float:
        """Book `amount` identifications; the seconds to wait before they may pass."""
        wait = super().book(amount)
        self._binding = wait > 0
        return wait

    def passed(self, amount: int, latency: float) -> None:
        """A request with `amount` identifications was taken, `latency` seconds after it was sent."""
        now = self._now()
        if self._latency is None:
            self._latency, self._jitter = latency, latency / 2
        self._jitter += (abs(latency - self._latency) - self._jitter) / 8
        self._latency += (latency - self._latency) / 8
        if self._is_silent(now):
            # Having refused everything for a while proves little about the rate: go on nearly as before.
            self._marks.clear()
            if self._before is None:
                self._admitted = self.per_second = None
            else:
                self._set(self._before / 2, progress=-1.0)
        elif self._is_lull(now, amount):
            self._marks.clear()
        self._in_a_row = 0
        self._last_passed = now
        self._before = self._admitted
        self._taken += amount
        self._recent.append((now, amount))
        while self._recent[0][0] <= now - _RECENT_SECONDS:
            self._recent.popleft()
        # A rate that holds nobody up proves nothing about what would be admitted beyond it.
        if self._admitted is not None and self._binding:
            self._set(self._admitted, progress=self._progress + amount / _return(self._admitted, amount))

    def refused(self, amount: int) -> bool:
        """A request with `amount` identifications was throttled; whether the rate may be the reason.

        It is not where nothing passes at all.
        """
        now = self._now()
        self._in_a_row += 1
        if self._is_silent(now):
            return False
        if self._admitted is not None and self._is_lull(now, amount):
            return True  # it was refused though little was asked for: no measure of how much is admitted
        if self._admitted is None or self._progress > _FAR:
            self._marks.clear()
            taken = sum(amount for at, amount in self._recent if at > now - _RECENT_SECONDS)
            seconds = min(max(now - self._began, _LEAST_SECONDS), _RECENT_SECONDS)
            self._set(taken / seconds, progress=-1.0)
        else:
            # What is admitted, by a refusal now, by those before, and by what was thought until now.
            admitted, rare = self._admitted, _RARE * _return(self._admitted, amount)
            while self._marks and self._taken - self._marks[0][1] >= rare:
                since, taken = self._marks.popleft()
                admitted = max(admitted, (self._taken - taken - amount) / (now - since))
            for since, taken in self._marks:
                elapsed = now - since - _JITTERS * self._jitter
                if elapsed > 0:
                    admitted = min(admitted, (self._taken - taken + amount) / elapsed)
            self._set(admitted, progress=-1.0)
        self._marks.append((now, self._taken))
        return True

    def _is_lull(self, now: float, amount: int) -> bool:
        usual = amount / self._admitted if self._admitted else 0.0
        return now - self._last_passed > max(_LULL_SECONDS, _LULL_REQUESTS * usual)

    def _is_silent(self, now: float) -> bool:
        since = now - self._last_passed
        never = self._last_passed < self._began
        return never or (self._in_a_row >= _SILENT_REFUSALS and since > _SILENT_SECONDS)

    def _set(self, admitted: float, *, progress: float) -> None:
        self._progress = progress
        self._admitted = admitted = max(admitted, _LEAST_RATE)
        self.per_second = admitted * math.exp(_STEP_BACK * progress**3)


def _return(admitted: float, amount: int) -> float:
    """How many identifications a search takes to come back to what is admitted."""
    return max(_RETURN_SECONDS * admitted, float(_RETURN_REQUESTS * amount))
