"""A part of a chunk until each of its identifications has its end: accepted, or handed back.

Refused content is halved until the bad rows stand alone, or is taken out where the answer names it;
`refusals` decides whether it was the content. A part that keeps failing while others pass is halved until the
user who is throttled stands alone, and then parked: others go ahead. Users that an answer names as throttled
are parked at once. From then on `HotUsers` has one clock for all rows of that user.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Final

import numpy as np

from ..amplitude.responses import (
    Accepted,
    Failure,
    KeyRefused,
    Refusal,
    Refused,
    RefusedSome,
    SlowDown,
    SlowDownSome,
    Stop,
    TooBig,
    TryAgain,
    Verdict,
    describe,
    fate_of,
)
from ..errors import DestinationError
from ..model import Body, Chunk, Tally
from .backoff import Pause
from .in_flight import ChunkInFlight, InFlightRecord, Sending, Transport, Watcher
from .parts import (
    accepted,
    halves,
    handed_back,
    offenders_of,
    only,
    others,
    places_by_fault,
    refused,
    verdict_for,
)
from .rate import FixedRate, RateLimiter
from .refusals import Refusals
from .tasks import Turns
from .timing import SlotState, SlotTimes
from .user_order import HotUsers

# A part that is throttled so often while others pass is halved: throttling names the cause, and refuses the
# request as a whole. A 5xx may be chance, and what is resent after it should be the same bytes:
# `FailureShare` tells when it is not. In an outage neither can be told: after so many a part may be halved.
_THROTTLED_PATIENCE: Final = 3
_FAILED_PATIENCE: Final = 10
# Throttled more often in a row than this, a part can't blame the rate at which all of them go.
_RATE_PATIENCE: Final = 2
# So often in a row the users that an answer names are taken out of a part; it may name only the first.
_MOST_ROUNDS: Final = 5


@dataclass(slots=True, eq=False)
class Delivery:
    """Sends parts within the rates and the shared pause, and no more requests at once than there are slots.

    `resent` chunks may have been taken before this process began, and so be counted as none.
    """

    transport: Transport
    watcher: Watcher
    _: KW_ONLY
    pause: Pause
    requests: FixedRate
    identifications: RateLimiter
    times: SlotTimes
    record: InFlightRecord | None
    resent: float = 0
    turns: Turns = field(init=False)
    refusals: Refusals = field(init=False)
    hot_users: HotUsers = field(init=False)
    _known: set[tuple[int, int]] = field(default_factory=set)
    _halved_at: tuple[int, int] = (-1, -1)
    _meter: Tally = Tally()

    def __post_init__(self) -> None:
        self.turns = Turns(self.times.count)
        self.refusals = Refusals(self.pause, self.turns)
        self.hot_users = HotUsers(self.pause.clock, self.pause.outage)

    def read_meter(self) -> Tally:
        """Requests, retries, throttled, bytes and in_doubt since the last reading."""
        meter, self._meter = self._meter, Tally()
        return meter

    def begin(self, part: Chunk, chunk: ChunkInFlight) -> None:
        """Send a part in a task of its own."""
        self._deliver(Sending(part, chunk, parked_since=self.hot_users.since(part.keys)))

    def _deliver(self, sending: Sending, *, turn: bool = False, throttled: SlowDown | None = None) -> None:
        self.watcher.spawn(self._send(sending, turn=turn, throttled=throttled))

    async def _send(self, sending: Sending, *, turn: bool, throttled: SlowDown | None) -> None:
        """Send a part until it has its end, or its smaller parts have tasks of their own.

        With `turn` it has its turn already; if it is `throttled`, it is parked first. Raises DestinationError
        when the run can't go on, StoppedError when it is told to stop.
        """
        part = sending.part
        again = throttled is None or await self._park(sending, throttled)
        request = await self.transport.pack(part.body) if again else ()
        while again:
            if not turn:
                if self.pause.active:
                    with self.watcher.during(sending, "pause"):
                        await self.pause.over()
                with self.watcher.during(sending, "request"):  # of those that have their turn
                    expected = self.refusals.are_expected(sending.refused)
                    place = await self.turns.take(part.users, may_cut=not sending.tried, last=expected)
                if place is not None:
                    one = np.array([place])
                    self._deliver(replace(sending, part=only(part, one)), turn=True)
                    self._deliver(replace(sending, part=only(part, others(part, one))))
                    return
            turn, answer = False, None
            try:
                wait = max(self.requests.book(1), self.identifications.book(part.users))
                if wait > 0:
                    await self._sleep(sending, wait, "rate")
                if not self.pause.active:
                    with self.watcher.during(sending, "request"):
                        answer = await self._post(sending, request)
            finally:
                self.turns.give_back()
            again = answer is None or await self._follow(sending, *answer)

    async def _post(self, sending: Sending, request: Body) -> tuple[float, Verdict]:
        part, started = sending.part, self.pause.clock.now()
        self._meter += Tally(requests=1, retries=int(sending.failures > 0))
        # Known to be in flight until there is an answer: for good, if none comes.
        if self.record:
            self.record.began(part)
        try:
            verdict = verdict_for(part, await self.transport.post(request))
        except DestinationError:  # it never left
            if self.record:
                self.record.ended(part, "refused")
            raise
        fate = fate_of(verdict)
        if self.record:
            self.record.ended(part, fate)
        sending.doubted |= fate == "lost"
        latency = self.pause.clock.now() - started
        failed = verdict if isinstance(verdict, TryAgain) else None
        throttled = isinstance(verdict, SlowDown | SlowDownSome)
        arrived = failed is None or not failed.unsent
        if arrived:
            self.times.answered(latency)
        self._meter += Tally(
            throttled=int(throttled),
            in_doubt=int(failed is not None and failed.in_doubt),
            bytes=sum(map(len, request)) if arrived else 0,
        )
        self._note(verdict, sending)
        if not isinstance(verdict, Failure):
            singled_out = sending.halved or sending.parked_since is not None
            self.pause.passed(started, 0 if singled_out else sending.by_chance)
            sending.by_chance = 0
            if not isinstance(verdict, SlowDownSome):
                self.identifications.passed(part.users, latency)
        return started, verdict

    def _note(self, verdict: Verdict, sending: Sending) -> None:
        """Decide whether others may go side by side, one by one, or not at all."""
        match verdict:
            case Accepted():
                self.refusals.accepted()
            case SlowDown() | SlowDownSome():
                self.refusals.slowed_down()
            case Stop() if not (isinstance(verdict, KeyRefused) and self.refusals.acceptances):
                self.pause.stop()
                message = f"the run can't go on: {verdict.message}"
                if isinstance(verdict, KeyRefused):
                    answer = f"{verdict.status} {verdict.message}".rstrip()
                    message = f"the destination refuses the API key: {answer}"
                raise DestinationError(message, hint=verdict.hint)
            case Refused() | RefusedSome() | TooBig() | KeyRefused():
                expected = self.refusals.are_expected(sending.refused)
                sending.refused = self.refusals.acceptances if sending.refused is None else sending.refused
                self.refusals.refused(expected=expected)

    async def _follow(self, sending: Sending, started: float, verdict: Verdict) -> bool:
        """Do what a verdict leads to; whether the same is to be sent again."""
        match verdict:
            case Accepted():
                self._accept(sending, verdict)
            case Refused() | TooBig() | KeyRefused():
                await self._refuse(sending, verdict)
            case RefusedSome():
                await self._refuse_some(sending, verdict)
            case SlowDownSome():
                return await self._slow_some(sending, verdict)
            case SlowDown():
                return await self._throttle(sending, started, verdict)
            case TryAgain():
                return await self._retry(sending, started, verdict)
        return False

    def _accept(self, sending: Sending, verdict: Accepted) -> None:
        """End a part; the server counted what was sent, unless it may have had some of it before."""
        part, ingested = sending.part, verdict.ingested
        self.hot_users.clear(part.keys)
        counted = ingested in {None, part.users} or sending.tried
        place = (part.file, part.first)
        if not counted and (ingested or 0) < part.users and (place in self._known or self.resent):
            # A kill leaves few such chunks.
            self.resent -= place not in self._known
            self._known.add(place)
            counted = True
        self.watcher.finished(sending, accepted(part, verdict, counted=counted))

    # --- refused -----------------------------------------------------------------------------------------

    async def _refuse(self, sending: Sending, verdict: Refusal, fault: str | None = None) -> None:
        """Halve a refused part; hand back what was refused by itself, once it is known to be for its rows.

        With a `fault` the answer named every identification of the part.
        """
        if sending.part.users > 1 and fault is None:
            for part in halves(sending.part):
                self._deliver(sending.afresh(part))
            return
        self.watcher.held(sending)
        part, expected = sending.part, self.refusals.are_expected(sending.refused)
        await self.refusals.hold(part, verdict, lambda: self.watcher.released(sending), expected=expected)
        self.watcher.finished(sending, refused(part, verdict, fault or "", sending.end))

    async def _refuse_some(self, sending: Sending, verdict: RefusedSome) -> None:
        """Hand back the rows that the answer names, and send the rest, so often in a row."""
        whole = Refused(verdict.status, verdict.message)
        if sending.rounds >= _MOST_ROUNDS:
            await self._refuse(sending, whole)
            return
        at_fault = places_by_fault(sending.part, verdict)
        for fault, places in at_fault.items():
            named = replace(sending, part=only(sending.part, places))
            self.watcher.spawn(self._refuse(named, whole, fault))
        if len(rest := others(sending.part, *at_fault.values())):
            self._deliver(sending.afresh(only(sending.part, rest), rounds=sending.rounds + 1))

    # --- failed ------------------------------------------------------------------------------------------

    async def _slow_some(self, sending: Sending, verdict: SlowDownSome) -> bool:
        """Hand back users over the quota, let the throttled ones wait alone, and send the rest meanwhile."""
        part, offenders = sending.part, offenders_of(sending.part, verdict)
        slow = SlowDown(verdict.retry_after, verdict.message, verdict.asked)
        if sending.rounds >= _MOST_ROUNDS:
            sending.failures += 1
            return await self._throttle_alone(sending, slow)
        if len(offenders.throttled) == part.users:
            sending.failures += 1
            return await self._park(sending, slow)
        if len(offenders.over_quota):
            reason = f"over its quota for the day; the server answered 429: {verdict.message}"
            over = replace(sending, part=only(part, offenders.over_quota))
            self.watcher.finished(over, handed_back(over.part, "daily_quota", reason, over.end))
        if len(offenders.throttled):
            self._deliver(sending.afresh(only(part, offenders.throttled), failures=1), throttled=slow)
        if len(offenders.others):
            self._deliver(sending.afresh(only(part, offenders.others), rounds=sending.rounds + 1))
        return False

    async def _throttle(self, sending: Sending, started: float, verdict: SlowDown) -> bool:
        """After a throttling: wait with all others or alone; whether the same is to be sent again.

        The first throttling is taken for everyone's. After a second one others are let ahead. If it goes on
        while others pass, the part itself is at fault: it is halved until its one user is found.
        """
        pause = self.pause
        others_pass = self._count_failure(sending, verdict)
        patient = sending.failures <= _RATE_PATIENCE and sending.parked_since is None and pause.left > 0
        if patient and self.identifications.refused(sending.part.users):  # all go too fast
            pause.begin()
            if (wait := min(pause.respite(verdict, sending.failures), pause.left)) > 0:
                await self._sleep(sending, wait)
            return True
        if others_pass or sending.parked_since is not None:
            return await self._throttle_alone(sending, verdict)
        if sending.failures == 2 and pause.left > 0 and self.watcher.probe(sending):
            await self._sleep(sending, min(pause.wait(verdict, sending.failures), pause.left))
            return True
        if sending.failures >= _THROTTLED_PATIENCE and self._may_try_halves(sending):
            return await self._single_out(sending, verdict)
        pause.failed(started, verdict)
        return True

    async def _throttle_alone(self, sending: Sending, verdict: SlowDown) -> bool:
        if sending.parked_since is None:
            sending.parked_since = self.pause.clock.now()
        if sending.failures >= _THROTTLED_PATIENCE:
            return await self._single_out(sending, verdict)
        return await self._wait_alone(sending, verdict)

    async def _retry(self, sending: Sending, started: float, verdict: TryAgain) -> bool:
        """After a failure that may be chance: wait alone while chance explains it.

        Then the part itself is at fault, if others pass, or else it is an outage. Whether the same is to be
        sent again.
        """
        pause = self.pause
        others_pass = self._count_failure(sending, verdict)
        sending.by_chance += 1
        no_chance = sending.halved or pause.share.is_no_chance(sending.by_chance)
        # Of what passes after the first failure nothing points to an outage, even if nothing else is left.
        up = others_pass or pause.was_up_after(sending.since)
        if sending.parked_since is not None or (up and no_chance):
            wait = pause.wait_alone(started, verdict, sending.by_chance)
            if pause.share.tells_halves_apart(sending.by_chance):
                sending.halved = True
                return await self._single_out(sending, verdict)
            return await self._wait_alone(sending, verdict, wait)
        asked = bool(verdict.retry_after)
        if (asked and not others_pass) or (not asked and pause.is_outage()):
            # What failed before anything had passed may have been chance as well.
            sending.by_chance *= up or not pause.passes
            if sending.failures >= _FAILED_PATIENCE and self._may_try_halves(sending):
                sending.halved = True
                return await self._single_out(sending, verdict)
            pause.failed(started, verdict)
            return True
        wait = pause.wait_alone(started, verdict, sending.by_chance)
        await self._sleep(sending, min(wait, pause.left))
        return True

    def _count_failure(self, sending: Sending, verdict: Failure) -> bool:
        """Note a failure; whether others passed since the one before."""
        others_pass = sending.failures > 0 and self.pause.passes > sending.passes
        sending.failures += 1
        sending.since = min(sending.since, self.pause.clock.now())
        sending.tried |= not (isinstance(verdict, TryAgain) and verdict.unsent)
        sending.passes = self.pause.passes
        return others_pass

    def _may_try_halves(self, sending: Sending) -> bool:
        """Whether a part may be halved though no request passes: once in each pause.

        While none passes, a hot user and a destination that throttles all look the same. If one of the halves
        passes, it was a user.
        """
        if sending.part.users == 1 or self.pause.left <= 0:
            return False
        tried, self._halved_at = self._halved_at, (self.pause.passes, self.pause.failures)
        return tried != self._halved_at

    async def _single_out(self, sending: Sending, verdict: Failure) -> bool:
        """The part itself is at fault: halve it, or park it if it is one user's."""
        if sending.part.users == 1:
            return await self._park(sending, verdict)
        for part in halves(sending.part):
            self._deliver(replace(sending, part=part, rounds=0, by_chance=0))
        return False

    async def _park(self, sending: Sending, verdict: Failure) -> bool:
        """The part waits and is sent again by itself, and holds up nothing else."""
        if not sending.parked:
            since = self.pause.clock.now() if sending.parked_since is None else sending.parked_since
            self.hot_users.prove(sending.part.keys, since, verdict)
            sending.parked_since, sending.parked = self.hot_users.since(sending.part.keys), True
            self.watcher.park(sending)
        return await self._wait_alone(sending, verdict)

    async def _wait_alone(self, sending: Sending, verdict: Failure, seconds: float | None = None) -> bool:
        """Wait without the others, and hand back the part once its outage is too long."""
        now = self.pause.clock.now()
        sending.parked_since = now if sending.parked_since is None else sending.parked_since
        end = sending.parked_since + self.pause.outage
        if now >= end:
            reason = f"the server kept answering: {describe(verdict)}"
            self.watcher.finished(sending, handed_back(sending.part, "transient", reason, sending.end))
            return False
        wait = self.pause.wait(verdict, sending.failures) if seconds is None else seconds
        await self._sleep(sending, min(wait, end - now))
        return True

    async def _sleep(self, sending: Sending, seconds: float, state: SlotState = "pause") -> None:
        with self.watcher.during(sending, state):
            await self.pause.sleep(seconds)
