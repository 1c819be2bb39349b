"""A part of a chunk until each of its identifications has its end: accepted, or handed back.

Refused content is halved until the bad rows stand alone, or is taken out where the answer names it;
`refusals` decides whether it was the content. A part that keeps failing while others pass is halved until the
user who is throttled stands alone, and then parked: others go ahead. Users that an answer names as throttled
are parked at once. From then on `HotUsers` has one clock for all rows of that user.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
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
from ..model import Body, Tally
from .backoff import Pause
from .in_flight import InFlightRecord, Part, PartsInFlight, Spawn, Transport
from .parts import (
    accepted,
    halves,
    handed_back,
    offenders_of,
    others,
    places_by_fault,
    refused,
    verdict_for,
)
from .rate import FixedRate, RateLimiter
from .refusals import Refusals, Turns
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


@dataclass(slots=True, eq=False, kw_only=True)
class Delivery:
    """Sends parts within the rates and the shared pause, and no more requests at once than there are slots.

    `resent` chunks may have been taken before this process began, and so be counted as none.
    """

    transport: Transport
    parts: PartsInFlight
    hot_users: HotUsers
    pause: Pause
    requests: FixedRate
    identifications: RateLimiter
    times: SlotTimes
    record: InFlightRecord | None
    spawn: Spawn
    resent: float = 0
    turns: Turns = field(init=False)
    refusals: Refusals = field(init=False)
    _known: set[tuple[int, int]] = field(default_factory=set)
    _halved_at: tuple[int, int] = (-1, -1)
    _meter: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.turns = Turns(self.times.count)
        self.refusals = Refusals(self.pause, self.turns)

    def read_meter(self) -> Tally:
        """Requests, retries, throttled, bytes and in_doubt since the last reading."""
        meter, self._meter = self._meter, Counter()
        return Tally(**meter)

    def begin(self, *parts: Part | None, turn: bool = False) -> None:
        """Send parts, each in a task of its own; see `_send`."""
        for part in parts:
            if part is not None:
                self.spawn(self._send(part, turn=turn))

    async def _send(self, part: Part, *, turn: bool = False, throttled: SlowDown | None = None) -> None:
        """Send a part until it has its end, or its smaller parts have tasks of their own.

        With `turn` it has its turn already; if it is `throttled`, it is parked first. Raises DestinationError
        when the run can't go on, StoppedError when it is told to stop.
        """
        again = throttled is None or await self._park(part, throttled)
        request = await self.transport.pack(part.sent.body) if again else ()
        while again:
            if not turn:
                if self.pause.active:
                    part.enter("pause")
                    await self.pause.over()
                    part.enter("request")
                expected = self.refusals.are_expected(part.refused)
                place = await self.turns.take(part.users, may_cut=not part.tried, last=expected)
                if place is not None:
                    single = np.array([place])
                    one, rest = self.parts.divide(part, single, others(part.users, single))
                    self.begin(one, turn=True)
                    self.begin(rest)
                    return
            turn, answer = False, None
            try:
                wait = max(self.requests.book(1), self.identifications.book(part.users))
                if wait > 0:
                    await self._sleep(part, wait, "rate")
                if not self.pause.active:
                    answer = await self._post(part, request)
            finally:
                self.turns.give_back()
            again = answer is None or await self._follow(part, *answer)

    async def _post(self, part: Part, request: Body) -> tuple[float, Verdict]:
        started = self.pause.clock.now()
        self._meter["requests"] += 1
        self._meter["retries"] += part.failures > 0
        # Known to be in flight until there is an answer: for good, if none comes.
        if self.record:
            self.record.began(part.sent)
        try:
            verdict = verdict_for(part.sent, await self.transport.post(request))
        except DestinationError:  # it never left
            if self.record:
                self.record.ended(part.sent, "refused")
            raise
        fate = fate_of(verdict)
        if self.record:
            self.record.ended(part.sent, fate)
        part.doubted |= fate == "lost"
        latency = self.pause.clock.now() - started
        failed = verdict if isinstance(verdict, TryAgain) else None
        if failed is None or not failed.unsent:
            self.times.answered(latency)
            self._meter["bytes"] += sum(map(len, request))
        self._meter["throttled"] += isinstance(verdict, SlowDown | SlowDownSome)
        self._meter["in_doubt"] += failed is not None and failed.in_doubt
        self._note(verdict, part)
        if not isinstance(verdict, Failure):
            singled_out = part.halved or part.alone_since is not None
            self.pause.passed(started, 0 if singled_out else part.by_chance)
            part.by_chance = 0
            if not isinstance(verdict, SlowDownSome):
                self.identifications.passed(part.users, latency)
        return started, verdict

    def _note(self, verdict: Verdict, part: Part) -> None:
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
                expected = self.refusals.are_expected(part.refused)
                part.refused = self.refusals.acceptances if part.refused is None else part.refused
                self.refusals.refused(expected=expected)

    async def _follow(self, part: Part, started: float, verdict: Verdict) -> bool:
        """Do what a verdict leads to; whether the same is to be sent again."""
        match verdict:
            case Accepted():
                self._accept(part, verdict)
            case Refused() | TooBig() | KeyRefused():
                self._refuse(part, verdict)
            case RefusedSome():
                self._refuse_some(part, verdict)
            case SlowDownSome():
                return await self._slow_some(part, verdict)
            case SlowDown():
                return await self._throttle(part, started, verdict)
            case TryAgain():
                return await self._retry(part, started, verdict)
        return False

    def _accept(self, part: Part, verdict: Accepted) -> None:
        """End a part; the server counted what was sent, unless it may have had some of it before."""
        ingested, place = verdict.ingested, (part.sent.file, part.sent.first)
        self.hot_users.clear(part.keys)
        counted = ingested in {None, part.users} or part.tried
        if not counted and (ingested or 0) < part.users and (place in self._known or self.resent):
            # A kill leaves few such chunks.
            self.resent -= place not in self._known
            self._known.add(place)
            counted = True
        self.parts.finish(part, accepted(part.sent, verdict, counted=counted))

    # --- refused -----------------------------------------------------------------------------------------

    def _refuse(self, part: Part, verdict: Refusal, fault: str | None = None) -> None:
        """Halve a refused part; hand back what was refused by itself, once it is known to be for its rows.

        With a `fault` the answer named every identification of the part.
        """
        if part.users > 1 and fault is None:
            part.begin_anew()
            self.begin(*self.parts.divide(part, *halves(part.users)))
            return
        self.parts.hold(part)

        def reject() -> None:
            self.parts.finish(part, refused(part.sent, verdict, fault or "", part.end))

        expected = self.refusals.are_expected(part.refused)
        self.refusals.hold(part.sent, verdict, reject, expected=expected)

    def _refuse_some(self, part: Part, verdict: RefusedSome) -> None:
        """Hand back the rows that the answer names, and send the rest, so often in a row."""
        whole = Refused(verdict.status, verdict.message)
        if part.rounds >= _MOST_ROUNDS:
            self._refuse(part, whole)
            return
        at_fault = places_by_fault(part.sent, verdict)
        part.begin_anew(rounds=part.rounds + 1)
        *named, rest = self.parts.divide(part, *at_fault.values(), others(part.users, *at_fault.values()))
        for fault, one in zip(at_fault, named, strict=True):
            if one is not None:
                self._refuse(one, whole, fault)
        self.begin(rest)

    # --- failed ------------------------------------------------------------------------------------------

    async def _slow_some(self, part: Part, verdict: SlowDownSome) -> bool:
        """Hand back users over the quota, let the throttled ones wait alone, and send the rest meanwhile."""
        offenders = offenders_of(part.sent, verdict)
        slow = SlowDown(verdict.retry_after, verdict.message, verdict.asked)
        if part.rounds >= _MOST_ROUNDS or len(offenders.throttled) == part.users:
            part.failures += 1
            act = self._throttle_alone if part.rounds >= _MOST_ROUNDS else self._park
            return await act(part, slow)
        part.begin_anew(rounds=part.rounds + 1)
        over, throttled, rest = self.parts.divide(part, *offenders)
        if over is not None:
            reason = f"over its quota for the day; the server answered 429: {verdict.message}"
            self.parts.finish(over, handed_back(over.sent, "daily_quota", reason, over.end))
        if throttled is not None:
            throttled.rounds, throttled.failures = 0, 1
            self.spawn(self._send(throttled, throttled=slow))
        self.begin(rest)
        return False

    async def _throttle(self, part: Part, started: float, verdict: SlowDown) -> bool:
        """After a throttling: wait with all others or alone; whether the same is to be sent again.

        The first throttling is taken for everyone's. After a second one others are let ahead. If it goes on
        while others pass, the part itself is at fault: it is halved until its one user is found.
        """
        pause = self.pause
        others_pass = self._count_failure(part, verdict)
        patient = part.failures <= _RATE_PATIENCE and part.alone_since is None and pause.left > 0
        if patient and self.identifications.refused(part.users):  # all go too fast
            pause.begin()
            if (wait := min(pause.respite(verdict, part.failures), pause.left)) > 0:
                await self._sleep(part, wait)
            return True
        if others_pass or part.alone_since is not None:
            return await self._throttle_alone(part, verdict)
        if part.failures == 2 and pause.left > 0 and self.parts.probe(part):
            await self._sleep(part, min(pause.wait(verdict, part.failures), pause.left))
            return True
        if part.failures >= _THROTTLED_PATIENCE and self._may_try_halves(part):
            return await self._single_out(part, verdict)
        pause.failed(started, verdict)
        return True

    async def _throttle_alone(self, part: Part, verdict: SlowDown) -> bool:
        if part.alone_since is None:
            part.alone_since = self.pause.clock.now()
        if part.failures >= _THROTTLED_PATIENCE:
            return await self._single_out(part, verdict)
        return await self._wait_alone(part, verdict)

    async def _retry(self, part: Part, started: float, verdict: TryAgain) -> bool:
        """After a failure that may be chance: wait alone while chance explains it.

        Then the part itself is at fault, if others pass, or else it is an outage. Whether the same is to be
        sent again.
        """
        pause = self.pause
        others_pass = self._count_failure(part, verdict)
        part.by_chance += 1
        no_chance = part.halved or pause.share.is_no_chance(part.by_chance)
        # Of what passes after the first failure nothing points to an outage, even if nothing else is left.
        up = others_pass or pause.was_up_after(part.since)
        if part.alone_since is not None or (up and no_chance):
            wait = pause.wait_alone(started, verdict, part.by_chance)
            if pause.share.tells_halves_apart(part.by_chance):
                part.halved = True
                return await self._single_out(part, verdict)
            return await self._wait_alone(part, verdict, wait)
        asked = bool(verdict.retry_after)
        if (asked and not others_pass) or (not asked and pause.is_outage()):
            # What failed before anything had passed may have been chance as well.
            part.by_chance *= up or not pause.passes
            if part.failures >= _FAILED_PATIENCE and self._may_try_halves(part):
                part.halved = True
                return await self._single_out(part, verdict)
            pause.failed(started, verdict)
            return True
        wait = pause.wait_alone(started, verdict, part.by_chance)
        await self._sleep(part, min(wait, pause.left))
        return True

    def _count_failure(self, part: Part, verdict: Failure) -> bool:
        """Note a failure; whether others passed since the one before."""
        others_pass = part.failures > 0 and self.pause.passes > part.passes
        part.failures += 1
        part.since = min(part.since, self.pause.clock.now())
        part.tried |= not (isinstance(verdict, TryAgain) and verdict.unsent)
        part.passes = self.pause.passes
        return others_pass

    def _may_try_halves(self, part: Part) -> bool:
        """Whether a part may be halved though no request passes: once in each pause.

        While none passes, a hot user and a destination that throttles all look the same. If one of the halves
        passes, it was a user.
        """
        if part.users == 1 or self.pause.left <= 0:
            return False
        tried, self._halved_at = self._halved_at, (self.pause.passes, self.pause.failures)
        return tried != self._halved_at

    async def _single_out(self, part: Part, verdict: Failure) -> bool:
        """The part itself is at fault: halve it, or park it if it is one user's."""
        if part.users == 1:
            return await self._park(part, verdict)
        part.rounds = part.by_chance = 0
        self.begin(*self.parts.divide(part, *halves(part.users)))
        return False

    async def _park(self, part: Part, verdict: Failure) -> bool:
        """The part waits and is sent again by itself, and holds up nothing else."""
        if not part.hot:
            since = self.pause.clock.now() if part.alone_since is None else part.alone_since
            self.hot_users.prove(part.keys, since, verdict)
            part.alone_since, part.hot = self.hot_users.since(part.keys), True
            self.parts.park(part)
        return await self._wait_alone(part, verdict)

    async def _wait_alone(self, part: Part, verdict: Failure, seconds: float | None = None) -> bool:
        """Wait without the others, and hand back the part once its outage is too long."""
        now = self.pause.clock.now()
        part.alone_since = now if part.alone_since is None else part.alone_since
        end = part.alone_since + self.pause.outage
        if now >= end:
            reason = f"the server kept answering: {describe(verdict)}"
            self.parts.finish(part, handed_back(part.sent, "transient", reason, part.end))
            return False
        wait = self.pause.wait(verdict, part.failures) if seconds is None else seconds
        await self._sleep(part, min(wait, end - now))
        return True

    async def _sleep(self, part: Part, seconds: float, state: SlotState = "pause") -> None:
        part.enter(state)
        await self.pause.sleep(seconds)
        part.enter("request")
