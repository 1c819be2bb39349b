"""Sends chunks: a bounded number of them at once, and the rows of each user in order.

After an error the requests in flight may end, as their outcome would be unknown otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, Self

from ..errors import EtlError
from ..model import Chunk
from ..run_events import Event, Listener, Paused, Recovered, Timing
from ..tally import Tally
from .backoff import Backoff, Clock, Pause, StoppedError
from .delivery import Delivery, InFlightRecord, Transport
from .in_flight import PartsInFlight, SlotTimes
from .parts import Commit
from .rate import AdaptiveRate, RateLimiter
from .user_order import HotUsers

# No chunk begins while so many parts, or so many bytes of them, are parked.
_MOST_PARKED: Final = 4096
_MOST_PARKED_BYTES: Final = 64 << 20
# How long requests in flight may take to end when the sender can't go on.
_GRACE_SECONDS: Final = 2.0


class Sender:
    """Sends chunks over a transport within its limits, and reports the outcome of every row.

    Use it as an asynchronous context manager, and the transport around it; on the way out it waits for all
    outcomes. `rate` is in identifications a second, None learns it from refusals. `requests_per_second` None
    means no limit. At most `slots` chunks, and requests, are in flight at once. After `max_outage` seconds
    without a success it gives up. `record` remembers whose requests are in flight. `resent` is how many of
    the chunks may have been taken before. `stopped` is set once the sender is stopping, for whatever reason.

    An error lets the requests in flight end, but for no longer than `_GRACE_SECONDS`, and is raised on the
    way out: DestinationError, or the first one that was raised on committing.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        rate: float | RateLimiter | None = None,
        requests_per_second: float | None = None,
        slots: int = 8,
        max_outage: float = 1800.0,
        backoff: Backoff | None = None,
        clock: Clock | None = None,
        listener: Listener = lambda event: None,
        record: InFlightRecord | None = None,
        resent: float = 0,
    ) -> None:
        clock, backoff = clock or Clock(), backoff or Backoff()
        usual = transport.rules.throttle_seconds
        self._times = SlotTimes(slots, clock.now)
        self._listener = listener
        self._pause = Pause(
            clock=clock,
            backoff=backoff,
            outage=max_outage,
            listener=self._tell,
            throttle_seconds=usual if backoff.throttle is None else backoff.throttle,
        )
        self.stopped = self._pause.stopped
        if isinstance(rate, int | float):
            rate = RateLimiter(rate, clock)
        self._changed = asyncio.Event()
        self._parts = PartsInFlight(
            self._times,
            HotUsers(clock, max_outage),
            begin=lambda part: self._delivery.begin(part),
            spawn=self._spawn,
            changed=self._changed.set,
            stopping=self._pause.stopped.is_set,
        )
        self._delivery = Delivery(
            transport=transport,
            parts=self._parts,
            pause=self._pause,
            requests=RateLimiter(requests_per_second, clock),
            identifications=rate or AdaptiveRate(clock),
            times=self._times,
            record=record,
            resent=resent,
        )
        self._tasks = set[asyncio.Task[None]]()
        self._error: BaseException | None = None
        self._timing: Timing | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._times.note("ended")
        try:
            if error is None:
                await self.drain()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._timing = self._times.timing()
        if self._error is not None:
            raise self._error

    async def send(self, chunk: Chunk, commit: Commit) -> None:
        """Begin with a chunk as soon as a slot is free; call it in source order.

        `commit` is awaited with the chunk and its outcome, or several times with parts of it, as soon as
        their rows have their end; until it returns, no later row of their users is sent. Nothing is begun any
        more once the sender is `stopping`.
        """
        parts, times = self._parts, self._times
        while not self.stopping and not (
            times.free and len(parts.parked) < _MOST_PARKED and parts.parked_bytes < _MOST_PARKED_BYTES
        ):
            times.note("held_back", times.free > 0)
            self._changed.clear()
            await self._changed.wait()
        times.note("held_back", False)
        if not self.stopping:
            parts.take(chunk, commit)

    async def drain(self) -> None:
        """Wait until every row has its outcome and is committed, or the sender has stopped."""
        self._parts.complete = True
        while self._parts.unanswered and not self.stopping:
            self._changed.clear()
            await self._changed.wait()
        try:
            self._delivery.refusals.conclude()
        except EtlError as error:
            self._fail(error)
        while self._tasks:
            await asyncio.wait(self._tasks)

    def stop(self) -> None:
        """Begin with nothing more; what is in flight ends and is committed."""
        self._pause.stopped.set()
        self._changed.set()

    @property
    def stopping(self) -> bool:
        """Whether the sender stops, or can't go on."""
        return self._pause.stopping

    def read_meter(self) -> Tally:
        """Requests, retries, throttled, bytes and in_doubt since the last reading."""
        return self._delivery.read_meter()

    def read_latencies(self) -> dict[float, int]:
        """The times to an answer since the last reading; see `Progressed`."""
        return self._times.read_latencies()

    def timing(self) -> Timing:
        """Where the time of the slots went, until now or until the sender was closed; see `Timing`."""
        return self._timing or self._times.timing()

    def _tell(self, event: Event) -> None:
        if isinstance(event, Paused | Recovered):
            self._times.note("outage", isinstance(event, Paused))
        self._listener(event)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, StoppedError):
            self.stop()
        elif error is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Stop because of an error; requests in flight may end only if it is an EtlError."""
        self.stop()
        if self._error is None:
            self._error = error
            grace = _GRACE_SECONDS if isinstance(error, EtlError) else 0.0
            loop = asyncio.get_running_loop()
            loop.call_later(grace, lambda: [task.cancel() for task in self._tasks])
