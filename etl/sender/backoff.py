"""How long to wait after a failure: all requests pause in an outage; a failure among successes waits alone.

Where one of three back ends is down, a third of all requests fails, and each passes when it is tried again.
So one failure proves little; the odds of n failures in a row by chance are share ** n. Whatever passes shows
that the destination is up: then a failure is chance, and the request goes again after about the time that a
success takes. It is an outage when nothing has passed for a while, and more failed in a row than chance
explains; until something has passed, the first failure counts as one.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from ..amplitude.answers import MOST_WAIT
from ..amplitude.responses import CHECK_WAY, Failure, SlowDown, TryAgain, describe
from ..errors import DestinationError
from ..run_events import Listener, Paused, Recovered
from ..text import span

# What passed long ago counts less: about so many requests that passed are remembered.
_FADING: Final = 1 - 1 / 200
# The share of failures that is assumed at least. A destination that never failed so far may begin to.
_LEAST_SHARE: Final = 0.25
# Failures in a row are not chance if their odds are below one in ten to the power of this.
_SURE: Final = 6.0
# With odds above one in ten to the power of this they are usual, and no reason to wait longer.
_PLAUSIBLE: Final = 3.0
# If a part is at fault, one of its halves is: less shows which, down to one try.
_TELLING: Final = 2.0
_LEAST_SHARE_OF_HALVES: Final = 0.01
# In an outage nothing passes for so many seconds, or latencies of a success if these take longer. Successes
# that are still under way, and a burst of failures, take less.
_SILENT_SECONDS: Final = 5.0
_SILENT_LATENCIES: Final = 20
# Until something has passed it is unknown how often requests fail, and they go one by one: waits double only
# after so many failures each.
_EARLY_FAILURES: Final = 8
# Silence and a wait after a 5xx are at most these shares of the longest outage.
_SILENT_SHARE: Final = 1 / 4
_WAIT_SHARE: Final = 1 / 30


class StoppedError(Exception):
    """The run is stopping: no new attempt may begin."""


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

    def exceeds_chance(self, failures: int) -> bool:
        """Whether so many failures in a row have another reason than chance."""
        return self._decades(failures, _LEAST_SHARE) >= _SURE

    def tells_halves_apart(self, failures: int) -> bool:
        """Whether so many failures in a row of one of two halves show that this half is at fault."""
        return self._decades(failures, _LEAST_SHARE_OF_HALVES) >= _TELLING

    def doublings(self, failures: int) -> int:
        """How often the wait before the next try has doubled; 0 while so many failures are usual."""
        return max(0, math.floor(self._decades(failures, _LEAST_SHARE) - _PLAUSIBLE) + 1)

    def _decades(self, failures: int, least: float) -> float:
        """The power of ten in the odds of so many failures in a row: 6 is one in a million."""
        share = (self._failed + 1) / (self._failed + self._passed + 2)  # a half where nothing is known
        return -failures * math.log10(max(share, least))


@dataclass(slots=True, eq=False, kw_only=True)
class Pause:
    """The state of the destination as all requests see it.

    Set `stopped` to let no further attempt begin; it wakes those that wait. `failures` counts the failures
    that made all wait since a request last passed; those of requests that were under way together count once.
    `passes` is how many passed in all, `last_start` when the latest of these began.
    `outage` is the longest time in seconds without any success after a failure. `throttle_seconds`: how long
    to wait after a 429 that doesn't say.
    """

    clock: Clock
    backoff: Backoff
    outage: float
    listener: Listener
    throttle_seconds: float
    failures: int = 0
    passes: int = 0
    last_start: float = float("-inf")
    share: FailureShare = field(default_factory=FailureShare)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    _until: float = float("-inf")
    _last_failure: float = float("-inf")
    _since: float | None = None
    _outage_since: float | None = None  # when the outage began that was reported
    _by_chance: int = 0  # failures since something last passed, as far as chance may explain them
    _last_pass: float = float("-inf")
    _latency: float | None = None

    @property
    def stopping(self) -> bool:
        """Whether the run is stopping."""
        return self.stopped.is_set()

    @property
    def active(self) -> bool:
        """Whether an attempt would have to wait now."""
        return self.clock.now() < self._until or self.stopping

    async def until_over(self) -> None:
        """Wait until the pause is over; raises StoppedError if the run stops meanwhile."""
        while (left := self._until - self.clock.now()) > 0:
            await self.sleep(left)
        if self.stopping:
            raise StoppedError

    async def sleep(self, seconds: float) -> None:
        """Wait alone; raises StoppedError if the run stops meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopped.wait()
        if self.stopping:
            raise StoppedError

    def passed(self, started: float, failures: int = 0) -> None:
        """Note that a request which started at `started` had an answer that shows that the destination is up.

        The same request had failed `failures` times before by chance.
        """
        now = self.clock.now()
        self.passes += 1
        self.last_start = max(self.last_start, started)
        self.share.passed(failures)
        latency = now - started
        self._latency = latency if self._latency is None else self._latency + (latency - self._latency) / 8
        self.failures, self._by_chance, self._since, self._last_pass = 0, 0, None, now
        if self._outage_since is not None and now >= self._until:
            self.listener(Recovered(now - self._outage_since))
            self._outage_since = None

    @property
    def left(self) -> float:
        """Seconds from now, or from the first failure, until `outage` is over if nothing passes."""
        return self.outage if self._since is None else max(self._since + self.outage - self.clock.now(), 0)

    def begin(self) -> float:
        """Note a failure; when the first one was since something passed, at which an outage would begin."""
        self._since = self.clock.now() if self._since is None else self._since
        return self._since

    def is_outage(self) -> bool:
        """Count a failure that may be chance; whether there are so many that it is an outage."""
        self.begin()
        self._by_chance += 1
        if self._latency is None or self.left <= 0:
            return True
        silent = min(max(_SILENT_SECONDS, _SILENT_LATENCIES * self._latency), _SILENT_SHARE * self.outage)
        return self.share.exceeds_chance(self._by_chance) and self.clock.now() - self._last_pass >= silent

    def failed(self, started: float, verdict: Failure) -> None:
        """Let all wait, as a request that started at `started` failed; not beyond the longest outage.

        Raises DestinationError once nothing has passed for so long.
        """
        since, now = self.begin(), self.clock.now()
        end = since + self.outage
        if now >= end:
            asked = verdict.retry_after
            again = "run the same command again{}; what is committed is kept"
            hint = again.format(" once it is back")
            if asked is not None and asked > self.outage:
                wait = f"{span(asked)} or more" if asked >= MOST_WAIT else span(asked)
                hint = f"the server asked to wait {wait}, and --max-outage is {span(self.outage)}; {hint}"
            elif verdict.status == 200:
                hint = f"Amplitude doesn't answer so: {CHECK_WAY}; then {again.format('')}"
            message = f"the destination took nothing for {span(now - since)}: {describe(verdict)}"
            raise DestinationError(message, hint=hint)
        if started < self._last_failure:
            return
        self.failures += 1
        self._last_failure = now
        early = self._latency is None and isinstance(verdict, TryAgain)
        rounds = math.ceil(self.failures / _EARLY_FAILURES) if early else self.failures
        until = min(now + self.wait(verdict, rounds), end)
        self._until = max(self._until, until)
        self._outage_since = since if self._outage_since is None else self._outage_since
        self.listener(
            Paused(describe(verdict), until - now, now - since, self.failures, verdict.status, end - now)
        )

    # --- waits in seconds --------------------------------------------------------------------------------

    def wait(self, verdict: Failure, failures: int) -> float:
        """How long to wait after the `failures`th failure in a row."""
        chance = self.clock.chance()
        if isinstance(verdict, TryAgain) and verdict.retry_after is None:
            return self.backoff.seconds(failures, chance, self._longest)
        asked = self.throttle_seconds if verdict.retry_after is None else verdict.retry_after
        # Never earlier than asked for; the spread keeps processes from coming back as one.
        more = self.backoff.seconds(failures - 1, chance) if failures > 1 else 0.0
        return asked * (1 + 0.25 * chance) + more

    def wait_alone(self, started: float, verdict: TryAgain, failures: int) -> float:
        """How long a request waits that started at `started` and failed, while others pass.

        The failure and the wait take as long as a success does, so that a request which fails is no faster
        than one which does not. What fails more often in a row than usual waits longer, doubling.
        """
        if verdict.retry_after:
            return self.wait(verdict, 1)
        chance = self.clock.chance()
        doublings = self.share.doublings(failures)
        pace = max(0.0, (self._latency or 0.0) * (0.5 + chance) - (self.clock.now() - started))
        return max(pace, self.backoff.seconds(doublings, chance, self._longest) if doublings else 0.0)

    def wait_throttled(self, verdict: SlowDown, failures: int) -> float:
        """How long a request waits alone after its `failures`th refusal in a row by too high a rate.

        It goes again at once, in its turn at the new rate, unless the server asks to wait or that failed.
        """
        if verdict.retry_after is not None:
            return self.wait(verdict, 1)
        return 0.0 if failures == 1 else self.backoff.seconds(failures - 1, self.clock.chance())

    @property
    def _longest(self) -> float:
        """The longest wait after a 5xx."""
        return min(self.backoff.longest, _WAIT_SHARE * self.outage)
