"""A part of a chunk until each of its identifications has its end: accepted, or handed back.

Refused content is halved until the bad rows stand alone, or is taken out where the answer says which it is.
A part that keeps failing while others pass is set apart: it waits by itself and is halved until the user who
is throttled stands alone. Whoever an answer names as throttled waits alone at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from etl.amplitude import (
    Accepted,
    Refused,
    RefusedSome,
    SlowDown,
    SlowDownSome,
    Stop,
    TooBig,
    TryAgain,
    Verdict,
    fate_of,
)
from etl.errors import DestinationError
from etl.model import Body, Chunk, End, Reject, Sent, Tally
from etl.sender.named import by_fault, crowd_of, meant
from etl.sender.pacing import Clock, Rate
from etl.sender.parts import accepted, halves, only, others, rejected, sent
from etl.sender.pause import Pause
from etl.sender.roles import Flights, Pace, Transport, Unrecorded, Watcher

# A part that fails so often while others pass is halved. Throttling names the cause, and refuses the request
# as a whole; a 5xx may be chance, and what is resent after it should be the same bytes.
_THROTTLED_PATIENCE: Final = 3
_FAILED_PATIENCE: Final = 10
# Throttled more often in a row than this, a part can't blame the pace at which all of them go.
_PACE_PATIENCE: Final = 2
# So often in a row those whom an answer names are taken out of a part; an answer may name only the first.
_MOST_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of rows: a tally of accepted, merged and rejected ones, the rejects, and what was sent."""

    tally: Tally = Tally()
    rejects: tuple[Reject, ...] = ()
    sent: tuple[Sent, ...] = ()

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.tally + other.tally, self.rejects + other.rejects, self.sent + other.sent)


@dataclass(slots=True)
class _Trouble:
    """How a part has failed so far. `passes` is what others had got through at its last failure.

    `rounds` is how often in a row it got smaller by what an answer named.
    """

    failures: int = 0
    passes: int = 0
    apart_since: float | None = None
    rounds: int = 0


class Delivery:
    """Sends parts within the rates, the shared pause, and at most `slots` requests at once."""

    def __init__(
        self,
        transport: Transport,
        *,
        pause: Pause,
        requests: Rate,
        identifications: Pace,
        slots: asyncio.Semaphore,
        clock: Clock,
        outage: float,
        flights: Flights | None = None,
    ) -> None:
        self._flights = flights or Unrecorded()
        self._transport = transport
        self._pause = pause
        self._requests = requests
        self._identifications = identifications
        self._slots = slots
        self._clock = clock
        self._outage = outage
        self._meter = Tally()
        # Until an answer shows that the key is good, requests go one by one: a bad key costs one.
        self._first = asyncio.Lock()
        self._welcome = False
        self._halved_at = (-1, -1)

    def read_meter(self) -> Tally:
        """Requests, retries, throttled, bytes and in_doubt since the last reading."""
        meter, self._meter = self._meter, Tally()
        return meter

    async def deliver(self, part: Chunk, watcher: Watcher, trouble: _Trouble | None = None) -> Outcome:
        """Send a part until there is an end for each of its rows.

        Raises DestinationError when the run can't go on, StoppedError when it is told to stop.
        """
        trouble, outcome = trouble or _Trouble(), None
        request = await self._transport.pack(part.body)
        while outcome is None:
            started, verdict = await self._attempt(part, request, again=trouble.failures > 0)
            match verdict:
                case Accepted():
                    outcome = Outcome(accepted(part, verdict), sent=sent(part))
                    return self._end(part, watcher, outcome)
                case Stop():
                    raise _stopped(verdict)
                case Refused() | TooBig():
                    outcome = await self._refuse(part, watcher, verdict)
                case RefusedSome():
                    outcome = await self._refuse_some(part, watcher, trouble, verdict)
                case SlowDown() | TryAgain():
                    outcome = await self._fail(part, watcher, trouble, started, verdict)
                case SlowDownSome():
                    outcome = await self._hold_some(part, watcher, trouble, verdict)
        return outcome

    async def _attempt(self, part: Chunk, request: Body, *, again: bool) -> tuple[float, Verdict]:
        """One request, as soon as pause, rates and slots let it through."""
        while True:
            await self._pause.over()
            wait = max(self._requests.book(1), self._identifications.book(part.users))
            if wait > 0:
                await self._pause.sleep(wait)
            async with self._slots:
                if self._pause.active:
                    continue
                if self._welcome:
                    return await self._post(part, request, again=again)
                async with self._first:
                    if not self._pause.active:
                        return await self._post(part, request, again=again)

    async def _post(self, part: Chunk, request: Body, *, again: bool) -> tuple[float, Verdict]:
        started = self._clock.now()
        self._meter += Tally(requests=1, retries=int(again), bytes=sum(map(len, request)))
        verdict = await self._answer(part, request)
        self._welcome |= not isinstance(verdict, Stop | TryAgain)
        if isinstance(verdict, Stop):
            self._pause.stop()
        self._meter += _troubles(verdict)
        if not isinstance(verdict, SlowDown | TryAgain):
            self._pause.passed(started)
            if not isinstance(verdict, SlowDownSome):
                self._identifications.passed(part.users, self._clock.now() - started)
        return started, verdict

    async def _answer(self, part: Chunk, request: Body) -> Verdict:
        """Send a request, known to be under way until there is an answer: for good, if none comes."""
        self._flights.began(part)
        try:
            verdict = meant(part, await self._transport.post(request))
        except DestinationError:  # it never left
            self._flights.ended(part, "refused")
            raise
        self._flights.ended(part, fate_of(verdict))
        return verdict

    async def _refuse(self, part: Chunk, watcher: Watcher, verdict: Refused | TooBig) -> Outcome:
        if part.users > 1:
            return await self._halve(part, watcher, _Trouble())
        return self._hand_back(part, watcher, _code(verdict), _words(verdict))

    async def _refuse_some(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, verdict: RefusedSome
    ) -> Outcome:
        """Hand back those whom the answer names, and send the rest; not for ever by ones and twos."""
        whole = Refused(verdict.status, verdict.words)
        if trouble.rounds >= _MOST_ROUNDS:
            return await self._refuse(part, watcher, whole)
        at_fault, outcome = by_fault(part, verdict), Outcome()
        for fault, places in at_fault.items():
            outcome += self._hand_back(only(part, places), watcher, "malformed", f"{_words(whole)}: {fault}")
        return outcome + await self._deliver_rest(part, watcher, trouble, others(part, *at_fault.values()))

    async def _hold_some(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, verdict: SlowDownSome
    ) -> Outcome | None:
        """Hand back who is over the quota, let the throttled wait alone, and send the rest meanwhile."""
        crowd, slow = crowd_of(part, verdict), SlowDown(verdict.retry_after, verdict.words)
        if trouble.rounds >= _MOST_ROUNDS:
            trouble.failures += 1
            return await self._fail_alone(part, watcher, trouble, slow)
        if len(crowd.throttled) == part.users:
            trouble.failures += 1
            watcher.set_apart()
            return await self._wait_alone(part, watcher, trouble, slow)
        outcome = Outcome()
        if len(crowd.over_quota):
            words = f"over its quota for the day; the server answered 429: {verdict.words}"
            outcome = self._hand_back(only(part, crowd.over_quota), watcher, "daily_quota", words)
        async with asyncio.TaskGroup() as group:
            held = group.create_task(self._deliver_later(part, watcher, slow, crowd.throttled))
            rest = group.create_task(self._deliver_rest(part, watcher, trouble, crowd.others))
        return outcome + rest.result() + held.result()

    async def _deliver_rest(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, places: NDArray[np.int64]
    ) -> Outcome:
        if not len(places):
            return Outcome()
        return await self.deliver(only(part, places), watcher, _Trouble(rounds=trouble.rounds + 1))

    async def _deliver_later(
        self, part: Chunk, watcher: Watcher, verdict: SlowDown, places: NDArray[np.int64]
    ) -> Outcome:
        if not len(places):
            return Outcome()
        watcher.set_apart()
        held, trouble = only(part, places), _Trouble(failures=1)
        waited = await self._wait_alone(held, watcher, trouble, verdict)
        return waited or await self.deliver(held, watcher, trouble)

    async def _fail(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, started: float, verdict: SlowDown | TryAgain
    ) -> Outcome | None:
        """After a failure: wait with all others or alone; an outcome means that the part is done with.

        The first failure is taken for everyone's. After a second throttling others are let ahead. If it goes
        on while others pass, the part itself is at fault: it is halved until its one user is found.
        """
        others_pass = trouble.failures > 0 and self._pause.passes > trouble.passes
        trouble.failures += 1
        trouble.passes = self._pause.passes
        if isinstance(verdict, SlowDown) and self._too_fast(part, trouble):
            if (wait := self._pause.respite(verdict, trouble.failures)) > 0:
                await self._pause.sleep(wait)
            return None
        if others_pass or trouble.apart_since is not None:
            return await self._fail_alone(part, watcher, trouble, verdict)
        if trouble.failures == 2 and isinstance(verdict, SlowDown) and watcher.probe():
            await self._pause.sleep(self._pause.wait(verdict, trouble.failures))
            return None
        throttled = part.users > 1 and isinstance(verdict, SlowDown)
        if throttled and trouble.failures >= _THROTTLED_PATIENCE and self._may_try_halves():
            return await self._halve(part, watcher, trouble)
        self._pause.failed(started, verdict)
        return None

    def _too_fast(self, part: Chunk, trouble: _Trouble) -> bool:
        """Whether a throttling tells of the pace of all, rather than of this part or of an outage."""
        patient = trouble.failures <= _PACE_PATIENCE and trouble.apart_since is None
        return patient and self._identifications.refused(part.users)

    def _may_try_halves(self) -> bool:
        """Whether a part may be halved though nobody passes: once in each pause.

        While nobody passes, nobody can tell a hot user from a destination that throttles all. If one of the
        halves passes, it was a user.
        """
        tried, self._halved_at = self._halved_at, (self._pause.passes, self._pause.failures)
        return tried != self._halved_at

    async def _fail_alone(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, verdict: SlowDown | TryAgain
    ) -> Outcome | None:
        if trouble.apart_since is None:
            trouble.apart_since = self._clock.now()
        patience = _THROTTLED_PATIENCE if isinstance(verdict, SlowDown) else _FAILED_PATIENCE
        if part.users > 1 and trouble.failures >= patience:
            return await self._halve(part, watcher, trouble)
        if trouble.failures >= patience:
            watcher.set_apart()
        return await self._wait_alone(part, watcher, trouble, verdict)

    async def _wait_alone(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, verdict: SlowDown | TryAgain
    ) -> Outcome | None:
        now = self._clock.now()
        trouble.apart_since = now if trouble.apart_since is None else trouble.apart_since
        if now - trouble.apart_since > self._outage:
            words = f"the server kept answering: {verdict.words}"
            return self._hand_back(part, watcher, "transient", words, end="in_doubt")
        await self._pause.sleep(self._pause.wait(verdict, trouble.failures))
        return None

    async def _halve(self, part: Chunk, watcher: Watcher, trouble: _Trouble) -> Outcome:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.deliver(half, watcher, replace(trouble, rounds=0)))
                for half in halves(part)
            ]
        return tasks[0].result() + tasks[1].result()

    def _hand_back(
        self, part: Chunk, watcher: Watcher, code: str, words: str, *, end: End = "refused"
    ) -> Outcome:
        rejects = rejected(part, code, words)
        return self._end(part, watcher, Outcome(Tally(rejected=len(rejects)), rejects, sent(part, end)))

    def _end(self, part: Chunk, watcher: Watcher, outcome: Outcome) -> Outcome:
        watcher.finished(part)
        return outcome


def _troubles(verdict: Verdict) -> Tally:
    """What a verdict adds to the meter."""
    throttled = isinstance(verdict, SlowDown | SlowDownSome)
    return Tally(throttled=int(throttled), in_doubt=int(isinstance(verdict, TryAgain) and verdict.in_doubt))


def _code(verdict: Refused | TooBig) -> str:
    return "malformed" if isinstance(verdict, Refused) else "too_big"


def _words(verdict: Refused | TooBig) -> str:
    status = verdict.status if isinstance(verdict, Refused) else 413
    return f"the server answered {status}: {verdict.words}".rstrip(": ")


def _stopped(verdict: Stop) -> DestinationError:
    return DestinationError(
        f"the destination refuses the run: {verdict.words}",
        hint="check the API key, and that the project lives in the region of `destination.region`",
    )
