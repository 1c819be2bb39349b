"""Sends chunks: a bounded number of them at once, and for each user one after the other.

A chunk has a slot until it is committed. Its rows of users who are held up are portions of their own without
a slot, which is called parked: they wait in the queues of their users, and are committed when they have their
end. What is parked is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Self

import numpy as np

from ..errors import EtlError
from ..model import Chunk, Tally
from ..run_events import Event, Listener, Paused, Recovered, Timing
from .backoff import Backoff, Clock, Pause
from .delivery import Delivery
from .in_flight import ChunkInFlight, Commit, InFlightRecord, Portion, Sending, Transport
from .parts import Outcome, handed_back, only, places
from .rate import AdaptiveRate, FixedRate, RateLimiter
from .tasks import OrderlyTasks
from .timing import SlotState, SlotTimes
from .user_order import Chosen, UserOrder

# So many portions, with so many bytes, may be parked before no chunk is begun any more.
MOST_PARKED: Final = 4096
MOST_PARKED_BYTES: Final = 64 << 20
# The objects of a chunk of one row, and of what carries it; about.
_FEW_ARRAYS: Final = 16 << 10


class Sender:
    """Sends chunks over a transport within its limits, and reports the outcome of every row.

    Use it as an asynchronous context manager, and the transport around it; on the way out it waits for all
    outcomes. `rate` is in identifications a second, None learns it from refusals. `requests_per_second` None
    means no limit. At most `slots` chunks, and requests, are in flight at once. After `max_outage` seconds
    without a success it gives up. `record` remembers whose requests are in flight. `resent` is how many of
    the chunks may have been taken before.

    An error lets the requests in flight end, but for no longer than `GRACE_SECONDS`, and is raised on the way
    out: DestinationError, or the first one that was raised on committing.
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
        clock = clock or Clock()
        self._times = times = SlotTimes(slots, clock.now)

        def tell(event: Event) -> None:
            if isinstance(event, Paused | Recovered):
                times.outage(lasts=isinstance(event, Paused))
            listener(event)

        self._pause = Pause(
            clock,
            backoff or Backoff(),
            outage=max_outage,
            listener=tell,
            throttle_seconds=transport.throttle_seconds,
        )
        if isinstance(rate, int | float):
            rate = FixedRate(rate, clock)
        self._delivery = Delivery(
            transport,
            self,
            pause=self._pause,
            requests=FixedRate(requests_per_second, clock),
            identifications=rate or AdaptiveRate(clock),
            times=times,
            record=record,
            resent=resent,
        )
        self._hot_users = self._delivery.hot_users
        self._order = UserOrder[Portion]()
        self._portions: dict[Portion, None] = {}
        self._refused: dict[Portion, None] = {}  # waiting to see whether others pass
        self._holding: dict[Portion, None] = {}  # the same, with a slot
        self._parked = self._parked_bytes = 0
        self._unanswered = 0
        self._changed = asyncio.Event()
        self._tasks = OrderlyTasks(self.stop)
        self._timing: Timing | None = None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._times.ended()
        try:
            await self._tasks.close(error, self.drain)
        finally:
            self._timing = self._times.timing()

    async def send(self, chunk: Chunk, commit: Commit) -> None:
        """Begin with a chunk as soon as a slot is free; call it in source order.

        `commit` is awaited with the chunk and its outcome, or several times with parts of it, as soon as
        their rows have their end; until it returns, no later row of their users is sent. Nothing is begun any
        more once the sender is `stopping`.
        """
        while not self.stopping and not (
            self._times.free and self._parked < MOST_PARKED and self._parked_bytes < MOST_PARKED_BYTES
        ):
            self._times.held_back(held=self._times.free > 0)
            self._changed.clear()
            await self._changed.wait()
        self._times.held_back(held=False)
        if self.stopping:
            return
        self._unanswered += chunk.users
        portion = ChunkInFlight(chunk, commit, self._times.take()).main
        assert portion is not None  # noqa: S101 - it was just made
        self._portions[portion] = None
        self._order.enter(portion)
        self._proceed(portion)

    async def drain(self) -> None:
        """Wait until every row that was given has its end and is committed, or the sender has stopped."""
        while self._unanswered and not self.stopping:
            self._changed.clear()
            await self._changed.wait()
        try:
            self._delivery.refusals.conclude()
        except EtlError as error:
            self._tasks.fail(error)
        await self._tasks.wait()
        if self.stopping:
            # Of portions that were sent in part, what has its end is committed.
            for portion in tuple(self._portions):
                if portion.ended and portion.still_open().any():
                    self._split(portion, portion.still_open())
                    self._commit_if_ended(portion)
            await self._tasks.wait()

    def stop(self) -> None:
        """Begin with nothing more; what is in flight ends and is committed."""
        self._pause.stop()
        self._changed.set()

    @property
    def stopped(self) -> asyncio.Event:
        """Set once the sender is stopping, for whatever reason."""
        return self._pause.stopped

    @property
    def stopping(self) -> bool:
        """Whether the sender was told to stop, or can't go on."""
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

    def spawn(self, sending: Coroutine[Any, Any, None]) -> None:
        """Run a task that sends or commits."""
        self._tasks.spawn(sending)

    # --- what the delivery reports -----------------------------------------------------------------------

    def during(self, sending: Sending, state: SlotState) -> AbstractContextManager[None]:
        """A part waits, or awaits an answer; without a slot that counts nowhere."""
        slot = sending.chunk.portion_of(sending.part).slot
        return nullcontext() if slot is None else slot.during(state)

    def probe(self, sending: Sending) -> bool:
        """Let others ahead of a part that failed twice, unless that is done for another one."""
        alone = self._parked == len(self._refused)
        if alone:
            self.park(sending)
        return alone

    def park(self, sending: Sending) -> None:
        """Let others ahead of a part that will take long."""
        portion = sending.chunk.portion_of(sending.part)
        parked = self._split(portion, portion.where(places(sending.part)))
        self._park(parked, sending.part)
        if parked is not portion:
            self._follow(portion)

    def held(self, sending: Sending) -> None:
        """A part was refused, and waits; its users' later rows may be sent meanwhile."""
        portion = sending.chunk.portion_of(sending.part)
        self._unanswered -= sending.part.users
        self._changed.set()
        portion.hold(sending.part)
        if portion.parked:
            portion = self._split(portion, portion.where(places(sending.part)))
        self._follow(portion)

    def released(self, sending: Sending) -> None:
        """A part that was held waits no longer."""
        portion = sending.chunk.portion_of(sending.part)
        portion.release(sending.part)
        self._holding.pop(portion, None)

    def finished(self, sending: Sending, outcome: Outcome) -> None:
        """A part has its end."""
        part = sending.part
        portion = sending.chunk.portion_of(part)
        if portion.parked:
            portion = self._split(portion, portion.where(places(part)))
        self._unanswered -= portion.end(part, outcome)
        self._changed.set()
        if outcome.rejects and self._hot_users:
            # Rows that wait for a user whose time is over have their end without a request.
            for key in part.keys[self._hot_users.over(part.keys), 0].tolist():
                for one in self._order.queue(key):
                    if one.part is not None:
                        self._proceed(one)
        self._follow(portion)

    def _follow(self, portion: Portion) -> None:
        """See what is to be done once something of a portion has its end."""
        if portion.only_held():
            self._let_others_pass(portion)
        else:
            self._commit_if_ended(portion)

    # --- which rows go when ------------------------------------------------------------------------------

    def _proceed(self, portion: Portion) -> None:
        """Do what can be done with a portion by now: send it, or some of it, or commit it."""
        keys, hot = portion.keys, self._hot_users
        if portion.part is None:
            self._commit_if_ended(portion)
        elif self.stopping:
            pass
        elif portion.parked:
            over = hot.over(keys)
            if over.any():
                self._give_up(self._split(portion, over))
            if portion.part is not None and all(one.answered for one in portion.before):
                self._begin(portion)
        elif all(one.parked for one in portion.before):
            slow = portion.waiting() | hot.known(keys) if portion.before or hot else None
            if slow is None or not slow.any():
                self._begin(portion)
                return
            parked = self._split(portion, slow)
            self._park(parked)
            if parked is portion:
                self._detach(portion)
            else:
                self._begin(portion)
            self._proceed(parked)

    def _begin(self, portion: Portion) -> None:
        """Send a portion."""
        part = portion.take_part()
        if portion.slot is not None:
            portion.slot.set("request")
        if part.users:
            self._delivery.begin(part, portion.chunk)
        else:
            self._commit_if_ended(portion)

    def _give_up(self, portion: Portion) -> None:
        """End a portion of throttled users whose time is over, without a request."""
        part = portion.take_part()
        portion.given_up = True
        reason = f"not sent, as the server kept refusing this user: {self._hot_users.message(part.keys)}"
        self._unanswered -= portion.end(part, handed_back(part, "transient", reason, "unsent"))
        self._changed.set()
        self._commit_if_ended(portion)

    def _detach(self, portion: Portion) -> None:
        """A chunk waits as a whole: it owns what it has, and what isn't sent of it is committed at once."""
        if portion.part is not None:
            portion.part = only(portion.part, np.arange(portion.part.users))
        if (unsent := portion.chunk.take_unsent()) is not None:
            self.spawn(portion.chunk.commit(unsent, Outcome()))
        portion.chunk.detach()

    def _park(self, portion: Portion, part: Chunk | None = None) -> None:
        """A portion will take long: it keeps no slot, and others go ahead without its users.

        `part` is what was sent of it, if it was.
        """
        if portion.parked:
            return
        self._parked += 1
        self._order.park(portion)
        waiting = part if portion.part is None else portion.part
        if waiting is not None:
            portion.bytes = sum(map(len, waiting.body)) + int(waiting.rows.nbytes) + _FEW_ARRAYS
        self._parked_bytes += portion.bytes
        self._free_slot(portion)
        for one in tuple(portion.after):
            self._proceed(one)

    def _let_others_pass(self, portion: Portion) -> None:
        """What is left of a portion waits to see whether others are accepted; the rest is committed."""
        waiting = portion
        if not portion.parked:
            waiting = self._split(portion, portion.still_open())
            if waiting is not portion:
                waiting.slot, portion.slot = portion.slot, None
            self._order.park(waiting)
            self._parked += 1
        waiting.answered, self._refused[waiting] = True, None
        if waiting.slot is not None:
            # Portions that it waits for get its slot, where there is no other.
            self._holding[waiting] = None
            if len(self._holding) >= self._times.count:
                for one in self._holding:
                    self._free_slot(one)
                self._holding.clear()
        for one in tuple(waiting.after):
            self._proceed(one)
        if waiting is not portion:
            self._commit_if_ended(portion)

    def _split(self, portion: Portion, chosen: Chosen) -> Portion:
        """Some identifications of a portion, of which none has its end, as a portion of their own."""
        if chosen.all():
            return portion
        other = self._order.split(portion, chosen)
        self._portions[other] = None
        if portion in self._refused:
            self._refused[other] = None
        self._parked += other.parked
        return other

    # --- committing --------------------------------------------------------------------------------------

    def _commit_if_ended(self, portion: Portion) -> None:
        """Commit a portion that has its end, unless an earlier one of its users has none.

        Committed before that, they would be sent out of order by the next run. What was never sent may be.
        """
        if portion.part is not None or portion.committing or portion.still_open().any():
            return
        if portion.before and not portion.given_up:
            return
        portion.committing = True
        if portion.slot is not None:
            portion.slot.set("commit")
        self.spawn(self._commit(portion, portion.chunk.take_ended(portion)))

    async def _commit(self, portion: Portion, chunk: Chunk) -> None:
        await portion.chunk.commit(chunk, portion.outcome)
        after = self._order.leave(portion)
        del self._portions[portion]
        portion.chunk.forget(portion)
        self._holding.pop(portion, None)
        self._refused.pop(portion, None)
        self._parked -= portion.parked
        self._parked_bytes -= portion.bytes
        self._free_slot(portion)
        self._changed.set()
        for one in after:
            self._proceed(one)

    def _free_slot(self, portion: Portion) -> None:
        if portion.slot is not None:
            portion.slot.release()
            portion.slot = None
            self._changed.set()
