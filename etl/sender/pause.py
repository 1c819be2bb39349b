"""One pause for all: a destination that fails or throttles slows every lane at once."""

from __future__ import annotations

import asyncio
from typing import Any

from etl.amplitude import THROTTLE_SECONDS, SlowDown, TryAgain
from etl.errors import DestinationError
from etl.model import Listener, Paused, Recovered
from etl.responses import said
from etl.sender.pacing import Clock, Waits, backoff
from etl.wording import span


class StoppedError(Exception):
    """The run is stopping: no new attempt may begin."""


class Pause:
    """The state of the destination as all lanes see it; `stopped` is set once the run is to end.

    A failure counts once for all the requests that were under way when it showed: `failures` is how many
    there were since a request last passed, `passes` how many passed in all. `outage` is the longest time in
    seconds without any success after a failure. `throttle_seconds` is the transport's wait after a 429.
    """

    def __init__(
        self,
        clock: Clock,
        waits: Waits,
        *,
        outage: float,
        listener: Listener,
        throttle_seconds: float = THROTTLE_SECONDS,
    ) -> None:
        self._clock = clock
        self._waits = waits
        self._throttle_seconds = throttle_seconds if waits.throttle is None else waits.throttle
        self._outage = outage
        self._listener = listener
        self._until = clock.now()
        self.failures = 0
        self.passes = 0
        self._last_failure = float("-inf")
        self._since: float | None = None
        self._told = False  # whether anybody heard of the outage
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

    def passed(self, started: float) -> None:
        """A request that started at `started` was answered as one should be."""
        self.passes += 1
        if started >= self._last_failure:
            self.failures = 0
            if self._since is not None and self._told:
                self._listener(Recovered(self._clock.now() - self._since))
            self._since, self._told = None, False

    @property
    def left(self) -> float:
        """Seconds until the longest outage is over, if nothing passes; from the first failure on."""
        return self._outage if self._since is None else max(self._since + self._outage - self._clock.now(), 0)

    def begin(self) -> None:
        """A request failed, and nothing has passed since: if that goes on it is an outage."""
        self._since = self._clock.now() if self._since is None else self._since

    def failed(self, started: float, verdict: SlowDown | TryAgain) -> None:
        """A request that started at `started` failed: everyone waits, but not beyond the longest outage.

        Raises DestinationError once nothing has passed for so long.
        """
        self.begin()
        now = self._clock.now()
        since = now if self._since is None else self._since
        end = since + self._outage
        if now >= end:
            raise self._given_up(now - since, verdict)
        if started < self._last_failure:
            return
        self.failures += 1
        self._last_failure = now
        until = min(now + self.wait(verdict, self.failures), end)
        self._until = max(self._until, until)
        self._told = True
        self._listener(
            Paused(said(verdict), until - now, now - since, self.failures, verdict.status, end - now)
        )

    def _given_up(self, seconds: float, verdict: SlowDown | TryAgain) -> DestinationError:
        asked = verdict.retry_after
        longer = asked is not None and asked > self._outage
        hint = "run the same command again once it is back; what is committed is kept"
        if asked is not None and longer:
            hint = f"the server asked to wait {span(asked)}, and --max-outage is {span(self._outage)}; {hint}"
        return DestinationError(
            f"the destination took nothing for {span(seconds)}: {said(verdict)}", hint=hint
        )

    def respite(self, verdict: SlowDown, failures: int) -> float:
        """How long a request waits alone after its `failures`th refusal in a row by too high a pace.

        It goes again at once, in its turn at the new pace, unless the server says otherwise or that failed.
        """
        if verdict.retry_after is not None:
            return self.wait(verdict, 1)
        if failures == 1:
            return 0.0
        return backoff(failures - 1, self._waits.retry, self._waits.longest, self._clock.chance())

    def wait(self, verdict: SlowDown | TryAgain, failures: int) -> float:
        """How long to wait after the `failures`th failure in a row, in seconds."""
        chance = self._clock.chance()
        asked = verdict.retry_after
        if isinstance(verdict, TryAgain) and asked is None:
            return backoff(failures, self._waits.retry, self._waits.longest, chance)
        base = self._throttle_seconds if asked is None else asked
        # Never earlier than asked for; the spread keeps processes from coming back as one.
        more = backoff(failures - 1, self._waits.retry, self._waits.longest, chance) if failures > 1 else 0.0
        return base * (1 + 0.25 * chance) + more
