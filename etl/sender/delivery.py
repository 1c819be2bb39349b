"""Sends a part of a chunk until each of its identifications is accepted or rejected.

Refused content is halved until the bad rows stand alone, or is taken out where the answer names it. Users
that an answer names as throttled are parked at once. `failures` decides whether the content was refused, and
what to do after other failures.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..amplitude.answers import Named
from ..amplitude.requests import TransportRules
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
    TryAgain,
    Verdict,
)
from ..errors import DestinationError
from ..model import Body, Chunk
from ..subject import id_keys
from ..tally import Tally
from .backoff import Pause
from .failures import Failures, Refusals, Turns
from .in_flight import PartsInFlight, SlotTimes
from .parts import Part, SlotState, accepted, handed_back, others, refused
from .rate import RateLimiter

# The users that an answer names are taken out of a part so often in a row; an answer may name only the first.
_MOST_ROUNDS: Final = 5


class Transport(Protocol):
    """Carries a body to the destination and classifies the answer; see `transports`."""

    @property
    def rules(self) -> TransportRules:
        """What it takes, and how it is to be treated."""

    async def pack(self, body: Body) -> Body:
        """The request that carries a body, as it goes over the wire."""

    async def post(self, request: Body) -> Verdict:
        """Send a request once."""


class InFlightRecord(Protocol):
    """Remembers whose requests are in flight; see `checkpoint.in_flight_file`."""

    def began(self, part: Chunk) -> None:
        """A request with the users of a part is about to be sent."""

    def ended(self, part: Chunk, *, arrived: bool) -> None:
        """It was answered, or never left; `arrived`: it was applied, or may have been."""


@dataclass(slots=True, eq=False, kw_only=True)
class Delivery:
    """Sends parts within the rates and the shared pause, and no more requests at once than there are slots.

    `resent` chunks may have been taken before this process began, and so be counted as none.
    """

    transport: Transport
    parts: PartsInFlight
    pause: Pause
    requests: RateLimiter
    identifications: RateLimiter
    times: SlotTimes
    record: InFlightRecord | None
    resent: float = 0
    failures: Failures = field(init=False)
    turns: Turns = field(init=False)
    refusals: Refusals = field(init=False)
    _known: set[tuple[int, int]] = field(default_factory=set)
    _meter: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.failures = Failures(self.parts, self.pause, self.identifications)
        self.turns = Turns(self.times.count)
        self.refusals = Refusals(self.pause, self.turns)

    def read_meter(self) -> Tally:
        """Requests, retries, throttled, bytes and in_doubt since the last reading."""
        meter, self._meter = self._meter, Counter()
        return Tally(**meter)

    def begin(self, part: Part | None, *, turn: bool = False, wait: float | None = 0.0) -> None:
        """Send a part, if there is one and nothing holds it up, in a task of its own; see `_send`."""
        if part is None or wait is None:
            return
        if not self.parts.held_up(part):
            self.parts.spawn(self._send(part, turn, wait))
        elif turn:
            self.turns.give_back()

    async def _send(self, part: Part, turn: bool, wait: float | None) -> None:
        """Send a part after so many seconds, until it has its end or its smaller parts have their own tasks.

        With `turn` it has its turn already. Raises DestinationError when the
        run can't go on, StoppedError when it stops.
        """
        request: Body = ()
        while wait is not None:
            await self._sleep(part, wait)
            request = request or await self.transport.pack(part.sent.body)
            if not turn:
                if self.pause.active:
                    part.enter("pause")
                    await self.pause.until_over()
                    part.enter("request")
                last = self.refusals.are_expected(part.refused)
                place = await self.turns.take(part.users, may_cut=not part.tried, last=last)
                if place is not None:
                    single = np.array([place])
                    one, rest = self.parts.divide(part, single, others(part.users, single))
                    self.begin(one, turn=True)
                    self.begin(rest)
                    return
            turn, answer = False, None
            try:
                booked = max(self.requests.book(1), self.identifications.book(part.users))
                await self._sleep(part, booked, "rate")
                if not self.pause.active:
                    answer = await self._post(part, request)
            finally:
                self.turns.give_back()
            wait = 0.0 if answer is None else self._follow(part, *answer)

    async def _sleep(self, part: Part, seconds: float, state: SlotState = "pause") -> None:
        if seconds > 0:
            part.enter(state)
            await self.pause.sleep(seconds)
            part.enter("request")

    async def _post(self, part: Part, request: Body) -> tuple[float, Verdict]:
        started = self.pause.clock.now()
        self._meter["requests"] += 1
        self._meter["retries"] += part.failures > 0
        # It stays on record as in flight if no answer comes.
        if self.record:
            self.record.began(part.sent)
        try:
            verdict = verdict_for(part.sent, await self.transport.post(request))
        except DestinationError:  # it never left
            if self.record:
                self.record.ended(part.sent, arrived=False)
            raise
        lost = isinstance(verdict, TryAgain) and verdict.in_doubt
        if self.record:
            self.record.ended(part.sent, arrived=lost or isinstance(verdict, Accepted))
        part.doubted |= lost
        latency = self.pause.clock.now() - started
        if not (isinstance(verdict, TryAgain) and verdict.unsent):
            self.times.answered(latency)
            self._meter["bytes"] += sum(map(len, request))
        self._meter["throttled"] += isinstance(verdict, SlowDown)
        self._meter["in_doubt"] += lost and not self.transport.rules.counts_once
        self._note(verdict, part)
        if isinstance(verdict, SlowDownSome) or not isinstance(verdict, Failure):
            singled_out = part.halved or part.alone_since is not None
            self.pause.passed(started, 0 if singled_out else part.by_chance)
            part.by_chance = 0
            if not isinstance(verdict, SlowDown):
                self.identifications.passed(part.users, latency)
        return started, verdict

    def _note(self, verdict: Verdict, part: Part) -> None:
        """Decide whether others may go side by side, one by one, or not at all."""
        match verdict:
            case Accepted():
                self.refusals.accepted()
            case SlowDown():
                self.refusals.slowed_down()
            case Stop() if not (isinstance(verdict, KeyRefused) and self.refusals.acceptances):
                self.pause.stopped.set()
                message = f"the run can't go on: {verdict.message}"
                if isinstance(verdict, KeyRefused):
                    answer = f"{verdict.status} {verdict.message}".rstrip()
                    message = f"the destination refuses the API key: {answer}"
                raise DestinationError(message, hint=verdict.hint)
            case Refused() | KeyRefused():
                part.refused = self.refusals.refused(part.refused)

    def _follow(self, part: Part, started: float, verdict: Verdict) -> float | None:
        """Act on a verdict; the seconds until the same is sent again, None if it isn't."""
        match verdict:
            case Accepted():
                self._accept(part, verdict)
            case RefusedSome():
                self._refuse_some(part, verdict)
            case Refused() | KeyRefused():
                self._refuse(part, verdict)
            case SlowDownSome():
                return self._slow_some(part, verdict)
            case SlowDown():
                return self.failures.throttled(part, started, verdict)
            case TryAgain():
                return self.failures.failed(part, started, verdict)
        return None

    def _accept(self, part: Part, verdict: Accepted) -> None:
        """Finish a part that was accepted. Fewer events may be counted than sent if it had some before."""
        ingested, place = verdict.ingested, (part.sent.file, part.sent.first)
        self.parts.hot_users.clear(part.keys)
        counted = ingested in {None, part.users} or part.tried
        if not counted and (ingested or 0) < part.users and (place in self._known or self.resent):
            # A kill leaves few such chunks.
            self.resent -= place not in self._known
            self._known.add(place)
            counted = True
        self.parts.finish(part, accepted(part.sent, verdict, counted=counted))

    def _refuse(self, part: Part, verdict: Refusal, fault: str | None = None) -> None:
        """Halve a refused part; reject what was refused alone, once it is known that its rows are the cause.

        With a `fault` the answer named every identification of the part.
        """
        if part.users > 1 and fault is None:
            part.begin_anew()
            self.parts.halve(part)
            return
        self.parts.hold(part)

        def reject() -> None:
            self.parts.finish(part, refused(part.sent, verdict, fault or "", part.end))

        self.refusals.hold(part.sent, verdict, part.refused, reject)

    def _refuse_some(self, part: Part, verdict: RefusedSome) -> None:
        """Reject the rows that the answer names, and send the rest; after several rounds halve the part."""
        if part.rounds >= _MOST_ROUNDS:
            self._refuse(part, verdict)
            return
        at_fault = places_by_fault(part.sent, verdict)
        part.begin_anew(rounds=part.rounds + 1)
        *named, rest = self.parts.divide(part, *at_fault.values(), others(part.users, *at_fault.values()))
        for fault, one in zip(at_fault, named, strict=True):
            if one is not None:
                self._refuse(one, verdict, fault)
        self.begin(rest)

    def _slow_some(self, part: Part, verdict: SlowDownSome) -> float | None:
        """Reject users over the quota, park the throttled ones, and send the rest meanwhile.

        The seconds until the same is sent again; None if it isn't.
        """
        groups = offenders_of(part.sent, verdict)
        if part.rounds >= _MOST_ROUNDS or len(groups[1]) == part.users:  # all of them are throttled
            part.failures += 1
            act = self.failures.throttled_alone if part.rounds >= _MOST_ROUNDS else self.failures.park
            return act(part, verdict)
        part.begin_anew(rounds=part.rounds + 1)
        over, throttled, rest = self.parts.divide(part, *groups)
        if over is not None:
            reason = f"over its quota for the day; the server answered 429: {verdict.message}"
            self.parts.finish(over, handed_back(over.sent, "daily_quota", reason, over.end))
        if throttled is not None:
            throttled.rounds, throttled.failures = 0, 1
            self.begin(throttled, wait=self.failures.park(throttled, verdict))
        self.begin(rest)
        return None


# --- the rows that an answer names ------------------------------------------------------------------------


def verdict_for(part: Chunk, verdict: Verdict) -> Verdict:
    """The verdict about the part: one that names none of its users is about the part as a whole."""
    if isinstance(verdict, RefusedSome) and min(verdict.faults) >= part.users:
        return Refused(verdict.status, verdict.message)
    if isinstance(verdict, SlowDownSome) and not any(map(len, offenders_of(part, verdict)[:2])):
        return SlowDown(verdict.retry_after, verdict.message, verdict.asked)
    return verdict


def places_by_fault(part: Chunk, verdict: RefusedSome) -> dict[str, NDArray[np.int64]]:
    """The positions of the part's identifications at fault, ascending, by fault."""
    found: dict[str, list[int]] = {}
    for place in sorted(verdict.faults):
        if place < part.users:
            found.setdefault(verdict.faults[place], []).append(place)
    return {fault: np.array(places) for fault, places in found.items()}


def offenders_of(part: Chunk, verdict: SlowDownSome) -> list[NDArray[np.int64]]:
    """The positions of the identifications over the quota, of those throttled, and of all others, ascending.

    One that the answer names as both is over the quota.
    """
    over_quota = _are_named(part, verdict.over_quota)
    throttled = _are_named(part, verdict.throttled) & ~over_quota
    return [np.flatnonzero(mask) for mask in (over_quota, throttled, ~(over_quota | throttled))]


def _are_named(part: Chunk, named: Named) -> NDArray[np.bool_]:
    by_field = {"user_id": named.users, "device_id": named.devices}
    hashed = [id_keys(field, pa.array(ids, pa.string())) for field, ids in by_field.items()]
    found: NDArray[np.bool_] = np.asarray(np.isin(part.keys, np.concatenate(hashed)).any(axis=1))
    indexes = np.array(named.indexes, dtype=np.int64)
    found[indexes[indexes < part.users]] = True
    return found
