"""One pause for all while the destination is away or throttles; a failure among successes waits alone.

Whatever passes shows that the destination is up: then a failure is chance, and the request goes again after
about the time that a success takes. It is an outage when nothing has passed for a while, and more failed in a
row than chance explains (see `FailureShare`); until something has passed, the first failure counts as one.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final

from ..amplitude.limits import THROTTLE_SECONDS
from ..amplitude.responses import Failure, SlowDown, TryAgain, describe
from ..errors import DestinationError
from ..run_events import Listener, Paused, Recovered
from ..text import span
from .backoff import Backoff, Clock, FailureShare

# Nothing passes for so long in an outage: seconds, or latencies of a success where these are more. Successes
# that are still under way, and a burst of failures, take less.
_SILENT_SECONDS: Final = 5.0
_SILENT_LATENCIES: Final = 20
# Until something has passed nobody knows how often requests fail, and one at a time is tried:
# waits double only after so many failures each.
_EARLY_FAILURES: Final = 8
# Of the longest outage, silence and a wait after a 5xx are no more than these shares.
_SILENT_SHARE: Final = 1 / 4
_WAIT_SHARE: Final = 1 / 30


class StoppedError(Exception):
    """The run is stopping: no new attempt may begin."""


class Pause:
    """The state of the destination as all requests see it; `stopped` is set once the run is to end.

    `failures` is how many failures made all wait since a request last passed; each counts once for all the
    requests that were under way when it showed. `passes` is how many passed in all. `outage` is the longest
    time in seconds without any success after a failure. `throttle_seconds`: the transport's wait after a 429.
    """

    def __init__(
        self,
        clock: Clock,
        backoff: Backoff,
        *,
        outage: float,
        listener: Listener,
        throttle_seconds: float = THROTTLE_SECONDS,
    ) -> None:
        self._clock = clock
        self._backoff = backoff
        self._throttle_seconds = throttle_seconds if backoff.throttle is None else backoff.throttle
        self._outage = outage
        self._listener = listener
        self._longest = min(backoff.longest, _WAIT_SHARE * outage)
        self._until = clock.now()
        self.failures = 0
        self.passes = 0
        self._last_failure = float("-inf")
        self._since: float | None = None
        self._outage_since: float | None = None  # when the outage began that others have heard of
        self.share = FailureShare()
        self._by_chance = 0  # failures since something last passed, as far as chance may explain them
        self._last_pass = float("-inf")
        self._last_start = float("-inf")  # of what passed
        self._latency: float | None = None
        self.stopped = asyncio.Event()

    def stop(self) -> None:
        """Let no attempt begin from now on; those who wait are woken."""
        self.stopped.set()

    @property
    def stopping(self) -> bool:
        """Whether the run was told to stop."""
        return self.stopped.is_set()

    @property
    def active(self) -> bool:
        """Whether an attempt would have to wait now."""
        return self._clock.now() < self._until or self.stopped.is_set()

    async def over(self) -> None:
        """Wait until the pause is over; raises StoppedError if the run stops meanwhile."""
        while (left := self._until - self._clock.now()) > 0:
            await self.sleep(left)
        if self.stopped.is_set():
            raise StoppedError

    async def sleep(self, seconds: float) -> None:
        """Wait alone; raises StoppedError if the run stops meanwhile."""
        await self.unless_stopped(asyncio.ensure_future(self._clock.sleep(seconds)))
        if self.stopped.is_set():
            raise StoppedError

    async def unless_stopped(self, future: asyncio.Future[Any]) -> bool:
        """Wait for something; whether it came before the run stops. It is cancelled otherwise."""
        stopper: asyncio.Future[Any] = asyncio.ensure_future(self.stopped.wait())
        try:
            await asyncio.wait({future, stopper}, return_when=asyncio.FIRST_COMPLETED)
            return future.done()
        finally:
            future.cancel()
            stopper.cancel()

    def passed(self, started: float, failures: int = 0) -> None:
        """A request that started at `started` was answered as one should be: the destination is up.

        The same request had failed `failures` times before by chance.
        """
        now = self._clock.now()
        self.passes += 1
        self._last_start = max(self._last_start, started)
        self.share.passed(failures)
        latency = now - started
        self._latency = latency if self._latency is None else self._latency + (latency - self._latency) / 8
        self.failures, self._by_chance, self._since, self._last_pass = 0, 0, None, now
        if self._outage_since is not None and now >= self._until:
            self._listener(Recovered(now - self._outage_since))
            self._outage_since = None

    def was_up_after(self, moment: float) -> bool:
        """Whether a request that began after that moment passed."""
        return self._last_start > moment

    @property
    def left(self) -> float:
        """Seconds until the longest outage is over, if nothing passes; from the first failure on."""
        return self._outage if self._since is None else max(self._since + self._outage - self._clock.now(), 0)

    def begin(self) -> None:
        """A request failed, and nothing has passed since: if that goes on it is an outage."""
        self._since = self._clock.now() if self._since is None else self._since

    def is_outage(self) -> bool:
        """Whether a failure by chance, which it counts, is one too many: nobody gets through any more."""
        self.begin()
        self._by_chance += 1
        if self._latency is None or self.left <= 0:
            return True
        silent = max(_SILENT_SECONDS, _SILENT_LATENCIES * self._latency)
        return self.share.is_no_chance(self._by_chance) and (
            self._clock.now() - self._last_pass >= min(silent, _SILENT_SHARE * self._outage)
        )

    def wait_alone(self, started: float, verdict: TryAgain, failures: int) -> float:
        """How long a request waits that started at `started` and failed, while others pass, in seconds.

        The failure and the wait take as long as a success does, so that a request which fails is no faster
        than one which does not. What fails more often in a row than usual waits longer, doubling.
        """
        if verdict.retry_after:
            return self.wait(verdict, 1)
        chance = self._clock.chance()
        doublings = self.share.doublings(failures)
        spent = self._clock.now() - started
        pace = max(0.0, (self._latency or 0.0) * (0.5 + chance) - spent)
        return max(pace, self._backoff.seconds(doublings, chance, self._longest) if doublings else 0.0)

    def failed(self, started: float, verdict: Failure) -> None:
        """A request that started at `started` failed: everyone waits, but not beyond the longest outage.

        Raises DestinationError once nothing has passed for so long.
        """
        self.begin()
        now = self._clock.now()
        since = now if self._since is None else self._since
        end = since + self._outage
        if now >= end:
            asked = verdict.retry_after
            hint = "run the same command again once it is back; what is committed is kept"
            if asked is not None and asked > self._outage:
                longest = span(self._outage)
                hint = f"the server asked to wait {span(asked)}, and --max-outage is {longest}; {hint}"
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
        self._listener(
            Paused(describe(verdict), until - now, now - since, self.failures, verdict.status, end - now)
        )

    def respite(self, verdict: SlowDown, failures: int) -> float:
        """How long a request waits alone after its `failures`th refusal in a row by too high a rate.

        It goes again at once, in its turn at the new rate, unless the server says otherwise or that failed.
        """
        if verdict.retry_after is not None:
            return self.wait(verdict, 1)
        if failures == 1:
            return 0.0
        return self._backoff.seconds(failures - 1, self._clock.chance())

    def wait(self, verdict: Failure, failures: int) -> float:
        """How long to wait after the `failures`th failure in a row, in seconds."""
        chance = self._clock.chance()
        asked = verdict.retry_after
        if isinstance(verdict, TryAgain) and asked is None:
            return self._backoff.seconds(failures, chance, self._longest)
        base = self._throttle_seconds if asked is None else asked
        # Never earlier than asked for; the spread keeps processes from coming back as one.
        more = self._backoff.seconds(failures - 1, chance) if failures > 1 else 0.0
        return base * (1 + 0.25 * chance) + more
