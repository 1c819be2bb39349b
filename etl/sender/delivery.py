"""A part of a chunk until each of its identifications has its end: accepted, or handed back.

Refused content is halved until the bad rows stand alone, or is taken out where the answer says which it is;
`refusals` tells whether it was the content. A part that keeps failing while others pass is halved until the
user who is throttled stands alone, and then set apart: it goes on in a task of its own. Anyone an answer
names as throttled is set apart at once. From then on `heat` has one clock for all rows of that user.

What becomes of a part is told to its watcher as soon as it is known. An outcome that a method returns only
says that the part is done with; None says that the same is to be sent again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from etl.errors import DestinationError, EtlError
from etl.model import Body, Chunk, End, Tally
from etl.responses import (
    Accepted,
    KeyRefused,
    Refused,
    RefusedSome,
    SlowDown,
    SlowDownSome,
    Stop,
    TooBig,
    TryAgain,
    Verdict,
    fate_of,
    said,
)
from etl.sender.heat import Heat
from etl.sender.named import by_fault, crowd_of, meant
from etl.sender.outcome import DONE, Outcome, handed_back, refused, stopped, taken, troubles, uncounted
from etl.sender.pacing import Clock, Rate
from etl.sender.parts import halves, only, others
from etl.sender.pause import GRACE_SECONDS, Pause, StoppedError
from etl.sender.refusals import Refusal, Refusals
from etl.sender.roles import Flights, Pace, Transport, Unrecorded, Watcher
from etl.sender.turns import Turns

# A part that is throttled so often while others pass is halved: throttling names the cause, and refuses the
# request as a whole. A 5xx may be chance, and what is resent after it should be the same bytes:
# `failure_share` says when it is not. In an outage nobody can say: after so many a part may be halved.
_THROTTLED_PATIENCE: Final = 3
_FAILED_PATIENCE: Final = 10
# Throttled more often in a row than this, a part can't blame the pace at which all of them go.
_PACE_PATIENCE: Final = 2
# So often in a row those whom an answer names are taken out of a part; an answer may name only the first.
_MOST_ROUNDS: Final = 5


@dataclass(slots=True)
class _Trouble:
    """How a part has failed so far.

    `since` is when it first failed, `passes` what others had got through at its last failure. `by_chance`
    is how many of its last failures chance may explain, and `halved`: it is half of a part that failed too
    often. `rounds` is how often in a row it got smaller by what an answer named. `tried`: what it holds may
    have been taken by an earlier try. `doubted`: nobody knows of one of these tries whether it arrived.
    `refused` is how many requests had been accepted when a request with what it holds was first refused.
    `parked`: it was set apart, and has a task of its own.
    """

    failures: int = 0
    since: float = math.inf
    passes: int = 0
    apart_since: float | None = None
    by_chance: int = 0
    halved: bool = False
    rounds: int = 0
    tried: bool = False
    doubted: bool = False
    refused: int | None = None
    parked: bool = False

    @property
    def end(self) -> End:
        """What has become of rows that the server doesn't take in the end."""
        return "in_doubt" if self.doubted else "refused"

    def afresh(self, *, failures: int = 0, rounds: int = 0) -> _Trouble:
        """That of a smaller part, which begins anew; what became of what it holds stays known."""
        return _Trouble(
            failures=failures,
            rounds=rounds,
            tried=self.tried,
            doubted=self.doubted,
            refused=self.refused,
        )


class Delivery:
    """Sends parts within the rates, the shared pause, and at most `slots` requests at once.

    `resent` chunks may have been taken before this process began, and so be counted as none. `heat` knows
    whom the destination keeps refusing while others pass.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        pause: Pause,
        requests: Rate,
        identifications: Pace,
        slots: int,
        clock: Clock,
        outage: float,
        flights: Flights | None = None,
        resent: float = 0,
    ) -> None:
        self._flights = flights or Unrecorded()
        self._transport = transport
        self._pause = pause
        self._requests = requests
        self._identifications = identifications
        self._turns = Turns(slots)
        self._refusals = Refusals(pause, self._turns)
        self.heat = Heat(clock, outage)
        self._clock = clock
        self._outage = outage
        self._meter = Tally()
        self._resent = resent
        self._known: set[tuple[int, int]] = set()
        self._halved_at = (-1, -1)

    def read_meter(self) -> Tally:
        """Requests, retries, throttled, bytes and in_doubt since the last reading."""
        meter, self._meter = self._meter, Tally()
        return meter

    def conclude(self) -> None:
        """Nothing else is left to be sent: rows that wait to hear whether they are rejects are told.

        Raises DestinationError where nothing was accepted since, and they are too many for that.
        """
        self._refusals.conclude()

    async def deliver(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble | None = None, *, turn: bool = False
    ) -> Outcome:
        """Send a part until there is an end for each of its rows, or until the rest of it is set apart.

        With `turn` it has its turn already.
        Raises DestinationError when the run can't go on, StoppedError when it is told to stop.
        """
        trouble, outcome = trouble or _Trouble(apart_since=self.heat.since(part.keys)), None
        request = await self._transport.pack(part.body)
        while outcome is None:
            if not turn:
                await self._pause.over()
                expected = self._refusals.are_expected(trouble.refused)
                place = await self._turns.take(part.users, may_cut=not trouble.tried, last=expected)
                if place is not None:
                    return await self._send_one_first(part, watcher, trouble, place)
            turn = False
            attempt = await self._attempt(part, request, trouble)
            if attempt is not None:
                outcome = await self._follow(part, watcher, trouble, *attempt)
        return outcome

    async def _follow(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, started: float, verdict: Verdict
    ) -> Outcome | None:
        """What a verdict leads to; None means that the same is to be sent again."""
        match verdict:
            case Accepted():
                self.heat.clear(part.keys)
                counts = self._counts_right(part, trouble, verdict)
                return self._end(part, watcher, (taken if counts else uncounted)(part, verdict))
            case Refused() | TooBig() | KeyRefused():
                return await self._refuse(part, watcher, trouble, verdict)
            case RefusedSome():
                return await self._refuse_some(part, watcher, trouble, verdict)
            case SlowDown() | TryAgain():
                return await self._fail(part, watcher, trouble, started, verdict)
            case SlowDownSome():
                return await self._hold_some(part, watcher, trouble, verdict)
            case Stop():
                raise stopped(verdict)

    async def _attempt(self, part: Chunk, request: Body, trouble: _Trouble) -> tuple[float, Verdict] | None:
        """One request in its turn, as soon as the rates let it through; None if a pause begins before."""
        try:
            wait = max(self._requests.book(1), self._identifications.book(part.users))
            if wait > 0:
                await self._pause.sleep(wait)
            return None if self._pause.active else await self._post(part, request, trouble)
        finally:
            self._turns.give_back()

    async def _post(self, part: Chunk, request: Body, trouble: _Trouble) -> tuple[float, Verdict]:
        started = self._clock.now()
        self._meter += Tally(requests=1, retries=int(trouble.failures > 0))
        verdict = await self._answer(part, request)
        trouble.doubted |= fate_of(verdict) == "lost"
        self._meter += troubles(verdict)
        if not (isinstance(verdict, TryAgain) and verdict.unsent):
            self._meter += Tally(bytes=sum(map(len, request)))
        self._note(verdict, trouble)
        if not isinstance(verdict, SlowDown | TryAgain):
            apart = trouble.halved or trouble.apart_since is not None
            self._pause.passed(started, 0 if apart else trouble.by_chance)
            trouble.by_chance = 0
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

    def _note(self, verdict: Verdict, trouble: _Trouble) -> None:
        """Whether others may go side by side, one by one, or not at all."""
        match verdict:
            case Accepted():
                self._refusals.accepted()
            case SlowDown() | SlowDownSome():
                self._refusals.slowed_down()
            case KeyRefused() if not self._refusals.acceptances:
                self._pause.stop()
                raise stopped(verdict)
            case Refused() | RefusedSome() | TooBig() | KeyRefused():
                expected = self._refusals.are_expected(trouble.refused)
                trouble.refused = self._refusals.acceptances if trouble.refused is None else trouble.refused
                self._refusals.refused(expected=expected)
            case Stop():
                self._pause.stop()

    async def _send_one_first(self, part: Chunk, watcher: Watcher, trouble: _Trouble, place: int) -> Outcome:
        one = np.array([place])
        return await self._both(
            self.deliver(only(part, one), watcher, replace(trouble), turn=True),
            self.deliver(only(part, others(part, one)), watcher, replace(trouble)),
        )

    def _counts_right(self, part: Chunk, trouble: _Trouble, verdict: Accepted) -> bool:
        """Whether the server counted what was sent, or may have had some of it before."""
        if verdict.ingested in {None, part.users} or trouble.tried:
            return True
        place = (part.file, part.first)
        if (verdict.ingested or 0) > part.users or (place not in self._known and not self._resent):
            return False
        # A kill leaves few such chunks.
        self._resent -= place not in self._known
        self._known.add(place)
        return True

    async def _refuse(self, part: Chunk, watcher: Watcher, trouble: _Trouble, verdict: Refusal) -> Outcome:
        if part.users > 1:
            return await self._halve(part, watcher, trouble.afresh())
        return await self._hand_back_refused(part, watcher, trouble, verdict)

    async def _hand_back_refused(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, verdict: Refusal, fault: str = ""
    ) -> Outcome:
        """Hand back rows that were refused each by itself, once it is known that it was for the rows."""
        expected = self._refusals.are_expected(trouble.refused)
        await self._refusals.hold(part, verdict, watcher, expected=expected)
        return self._end(part, watcher, refused(part, verdict, fault, trouble.end))

    async def _refuse_some(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, verdict: RefusedSome
    ) -> Outcome:
        """Hand back those whom the answer names, and send the rest; not for ever by ones and twos."""
        whole = Refused(verdict.status, verdict.words)
        if trouble.rounds >= _MOST_ROUNDS:
            return await self._refuse(part, watcher, trouble, whole)
        at_fault = by_fault(part, verdict)
        return await self._both(
            *(
                self._hand_back_refused(only(part, places), watcher, trouble, whole, fault)
                for fault, places in at_fault.items()
            ),
            self._deliver_rest(part, watcher, trouble, others(part, *at_fault.values())),
        )

    async def _hold_some(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, verdict: SlowDownSome
    ) -> Outcome | None:
        """Hand back who is over the quota, let the throttled wait alone, and send the rest meanwhile."""
        crowd = crowd_of(part, verdict)
        slow = SlowDown(verdict.retry_after, verdict.words, verdict.asked)
        if trouble.rounds >= _MOST_ROUNDS:
            trouble.failures += 1
            return await self._fail_alone(part, watcher, trouble, slow)
        if len(crowd.throttled) == part.users:
            trouble.failures += 1
            return await self._park(part, watcher, trouble, slow)
        if len(crowd.over_quota):
            words = f"over its quota for the day; the server answered 429: {verdict.words}"
            over_quota = only(part, crowd.over_quota)
            self._end(over_quota, watcher, handed_back(over_quota, "daily_quota", words, trouble.end))
        if len(crowd.throttled):
            await self._park(only(part, crowd.throttled), watcher, trouble.afresh(failures=1), slow)
        return await self._deliver_rest(part, watcher, trouble, crowd.others)

    async def _deliver_rest(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, places: NDArray[np.int64]
    ) -> Outcome:
        if not len(places):
            return DONE
        rest = trouble.afresh(rounds=trouble.rounds + 1)
        return await self.deliver(only(part, places), watcher, rest)

    async def _park(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, verdict: SlowDown | TryAgain
    ) -> Outcome | None:
        """Set a part apart: it waits and is sent again in a task of its own, and holds up nothing else."""
        if trouble.parked:
            return await self._wait_alone(part, watcher, trouble, verdict)
        since = self._clock.now() if trouble.apart_since is None else trouble.apart_since
        self.heat.prove(part.keys, since, verdict)
        trouble.apart_since, trouble.parked = self.heat.since(part.keys), True
        watcher.set_apart(part, self._go_on_alone(part, watcher, trouble, verdict))
        return DONE

    async def _go_on_alone(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, verdict: SlowDown | TryAgain
    ) -> None:
        if await self._wait_alone(part, watcher, trouble, verdict) is None:
            await self.deliver(part, watcher, trouble)

    async def _fail(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, started: float, verdict: SlowDown | TryAgain
    ) -> Outcome | None:
        """After a failure: wait with all others or alone; an outcome means that the part is done with.

        The first throttling is taken for everyone's. After a second one others are let ahead. If it goes on
        while others pass, the part itself is at fault: it is halved until its one user is found.
        """
        others_pass = trouble.failures > 0 and self._pause.passes > trouble.passes
        trouble.failures += 1
        trouble.since = min(trouble.since, self._clock.now())
        trouble.tried |= not (isinstance(verdict, TryAgain) and verdict.unsent)
        trouble.passes = self._pause.passes
        if isinstance(verdict, TryAgain):
            return await self._try_again(part, watcher, trouble, started, verdict, others_pass=others_pass)
        if self._too_fast(part, trouble):
            self._pause.begin()
            if (wait := min(self._pause.respite(verdict, trouble.failures), self._pause.left)) > 0:
                await self._pause.sleep(wait)
            return None
        if others_pass or trouble.apart_since is not None:
            return await self._fail_alone(part, watcher, trouble, verdict)
        slowed = self._pause.left > 0
        if trouble.failures == 2 and slowed and watcher.probe(part):
            await self._pause.sleep(min(self._pause.wait(verdict, trouble.failures), self._pause.left))
            return None
        if slowed and part.users > 1 and trouble.failures >= _THROTTLED_PATIENCE and self._may_try_halves():
            return await self._halve(part, watcher, trouble)
        self._pause.failed(started, verdict)
        return None

    async def _try_again(
        self,
        part: Chunk,
        watcher: Watcher,
        trouble: _Trouble,
        started: float,
        verdict: TryAgain,
        *,
        others_pass: bool,
    ) -> Outcome | None:
        """After a failure that may be chance: the part waits alone while chance explains it.

        Then it is at fault itself, if others pass, or else it is an outage.
        """
        trouble.by_chance += 1
        no_chance = trouble.halved or self._pause.share.is_no_chance(trouble.by_chance)
        # Of what passes after the first failure nothing tells of an outage, also if nothing else is left now.
        up = others_pass or self._pause.was_up_after(trouble.since)
        if trouble.apart_since is not None or (up and no_chance):
            return await self._fail_apart(part, watcher, trouble, started, verdict)
        asked = bool(verdict.retry_after)
        if (asked and not others_pass) or (not asked and self._pause.is_outage()):
            # What failed before anything had passed may have been chance as well.
            trouble.by_chance *= up or not self._pause.passes
            often = part.users > 1 and trouble.failures >= _FAILED_PATIENCE and self._pause.left > 0
            if often and self._may_try_halves():
                trouble.halved = True
                return await self._halve(part, watcher, trouble)
            self._pause.failed(started, verdict)
            return None
        wait = self._pause.wait_alone(started, verdict, trouble.by_chance)
        await self._pause.sleep(min(wait, self._pause.left))
        return None

    async def _fail_apart(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, started: float, verdict: TryAgain
    ) -> Outcome | None:
        """After a failure of a part that is at fault itself: it is halved, or waits for its end."""
        wait = self._pause.wait_alone(started, verdict, trouble.by_chance)
        if self._pause.share.tells_halves_apart(trouble.by_chance):
            if part.users > 1:
                trouble.halved = True
                return await self._halve(part, watcher, trouble)
            return await self._park(part, watcher, trouble, verdict)
        return await self._wait_alone(part, watcher, trouble, verdict, wait)

    def _too_fast(self, part: Chunk, trouble: _Trouble) -> bool:
        """Whether a throttling tells of the pace of all, rather than of this part or of an outage."""
        patient = trouble.failures <= _PACE_PATIENCE and trouble.apart_since is None and self._pause.left > 0
        return patient and self._identifications.refused(part.users)

    def _may_try_halves(self) -> bool:
        """Whether a part may be halved though nobody passes: once in each pause.

        While nobody passes, nobody can tell a hot user from a destination that throttles all. If one of the
        halves passes, it was a user.
        """
        tried, self._halved_at = self._halved_at, (self._pause.passes, self._pause.failures)
        return tried != self._halved_at

    async def _fail_alone(
        self, part: Chunk, watcher: Watcher, trouble: _Trouble, verdict: SlowDown
    ) -> Outcome | None:
        if trouble.apart_since is None:
            trouble.apart_since = self._clock.now()
        if part.users > 1 and trouble.failures >= _THROTTLED_PATIENCE:
            return await self._halve(part, watcher, trouble)
        if trouble.failures >= _THROTTLED_PATIENCE:
            return await self._park(part, watcher, trouble, verdict)
        return await self._wait_alone(part, watcher, trouble, verdict)

    async def _wait_alone(
        self,
        part: Chunk,
        watcher: Watcher,
        trouble: _Trouble,
        verdict: SlowDown | TryAgain,
        seconds: float | None = None,
    ) -> Outcome | None:
        now = self._clock.now()
        trouble.apart_since = now if trouble.apart_since is None else trouble.apart_since
        end = trouble.apart_since + self._outage
        if now >= end:
            words = f"the server kept answering: {said(verdict)}"
            return self._end(part, watcher, handed_back(part, "transient", words, trouble.end))
        wait = self._pause.wait(verdict, trouble.failures) if seconds is None else seconds
        await self._pause.sleep(min(wait, end - now))
        return None

    async def _halve(self, part: Chunk, watcher: Watcher, trouble: _Trouble) -> Outcome:
        half = replace(trouble, rounds=0, by_chance=0)
        return await self._both(*(self.deliver(each, watcher, replace(half)) for each in halves(part)))

    async def _both(self, *parts: Coroutine[None, None, Outcome]) -> Outcome:
        """Bring several parts to their end, side by side.

        Where the run stops or can't go on, requests in flight are let end: nobody would know of them.
        """
        tasks: list[asyncio.Task[Exception | None]] = []
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(self._beside(part, tasks)) for part in parts]
        errors = [task.result() for task in tasks if not task.cancelled()]
        for error in errors:
            if error is not None and not isinstance(error, StoppedError):
                raise error
        if any(errors):
            raise StoppedError
        return DONE

    async def _beside(
        self, sending: Coroutine[None, None, Outcome], tasks: list[asyncio.Task[Exception | None]]
    ) -> Exception | None:
        """Send one of several parts; the error that kept it from its end, if any."""
        try:
            await sending
        except StoppedError as stopped:
            return stopped
        except EtlError as error:
            self._pause.stop()
            for task in tasks:
                asyncio.get_running_loop().call_later(GRACE_SECONDS, task.cancel)
            return error
        return None

    def _end(self, part: Chunk, watcher: Watcher, outcome: Outcome) -> Outcome:
        watcher.finished(part, outcome)
        return DONE
