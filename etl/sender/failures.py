"""What follows of a request that was refused or failed: its rows wait, are tried again, or are handed back.

Either some rows are refused, or everything is. A firewall, a proxy with a small limit or a key that was
withdrawn refuses everything; to take that for bad rows would hand back a whole export. So a row that is
refused alone is held until something else is accepted: then it is a reject. If so many in a row are refused
alike and nothing is accepted, the run stops instead. A row does not count for that if others were accepted
after a request with it had been refused: the server tells rows apart then. When all good rows around it are
in, the bad ones of a long range come last.

After a failure a part waits with others or alone, is halved, parked or handed back. One that keeps failing
while others pass is halved until the user who is throttled stands alone, and then parked: others go ahead.
From then on `HotUsers` has one clock for all rows of that user. No I/O.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ..amplitude.responses import Failure, KeyRefused, Refusal, SlowDown, TryAgain, describe
from ..errors import DestinationError
from ..model import Chunk
from .backoff import Pause
from .in_flight import PartsInFlight
from .parts import Part, handed_back
from .rate import RateLimiter

# So many rows that were refused alone and alike are not bad rows, if nothing was accepted in between.
_MOST_ALIKE: Final = 20
# After so many refused requests in a row others go one by one, and after so many such rows single ones from
# everywhere are tried: bad rows stand next to each other more often than not.
_PATIENCE: Final = 8
_SUSPICIOUS: Final = 12
_MOST_SHOWN: Final = 5
# Steps of this share of a part never come back to places next to each other.
_GOLDEN: Final = 0.6180339887
# A part that is throttled so often while others pass is halved: throttling names the cause, and refuses the
# request as a whole. A 5xx may be chance, and what is resent after it should be the same bytes:
# `FailureShare` tells when it is not. In an outage neither can be told: after so many a part may be halved.
_THROTTLED_PATIENCE: Final = 3
_FAILED_PATIENCE: Final = 10
# Throttled more often in a row than this, a part can't blame the rate at which all of them go.
_RATE_PATIENCE: Final = 2


# --- refused ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A part of `users` identifications that waits. Its turn comes with a place, if it is to be cut there."""

    users: int
    may_cut: bool
    last: bool
    turn: asyncio.Future[int | None] = field(default_factory=asyncio.Future)


class Turns:
    """At most `count` requests at once; those that wait go in the order in which they came.

    While `single` is set they go one by one, and the smallest part first: so a single row is found with few
    requests. With `sampling` too, single rows are cut out of what waits, and go first: the rows that are
    tried then are spread over all that is known, not next to each other.
    """

    def __init__(self, count: int) -> None:
        self.single = True
        self.sampling = False
        self._count = count
        self._taken = 0
        self._waiting: list[_Waiting] = []
        self._cuts = 0

    @property
    def _has_room(self) -> bool:
        return self._taken < (1 if self.single else self._count)

    async def take(self, users: int, *, may_cut: bool, last: bool) -> int | None:
        """Wait for a turn; give it back after the request. Where turns are `single`, some come last.

        None: the part may be sent. A place: it is to be cut, and the identification there has the turn.
        """
        if not self._waiting and self._has_room:
            self._taken += 1
            return None
        mine = _Waiting(users, may_cut, last)
        self._waiting.append(mine)
        self._admit()
        try:
            return await mine.turn
        except asyncio.CancelledError:
            if mine in self._waiting:
                self._waiting.remove(mine)
            elif not mine.turn.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        """The request with the turn has its verdict, or isn't sent."""
        self._taken -= 1
        self._admit()

    def _admit(self) -> None:
        """Give the free turns to those that are next."""
        while self._waiting and self._has_room:
            chosen, place = self._waiting[0], None
            if self.single:
                chosen = min(self._waiting, key=lambda one: (one.last, one.users))
                whole = [one for one in self._waiting if one.may_cut and one.users > 1 and not one.last]
                if self.sampling and chosen.users > 1 and whole:
                    # The last of the largest is the farthest from what was refused.
                    chosen = max(reversed(whole), key=lambda one: one.users)
                    self._cuts += 1
                    place = int(chosen.users * ((_GOLDEN * self._cuts) % 1))
            self._waiting.remove(chosen)
            if not chosen.turn.done():  # its task may have been cancelled
                self._taken += 1
                chosen.turn.set_result(place)


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """Rows that wait until it is known whether they are rejects; `kind` is what alike refusals share."""

    part: Chunk
    refusal: Refusal
    kind: object
    expected: bool
    reject: Callable[[], None]


class Refusals:
    """What was refused since something was last accepted; sets the order of the `turns` by it."""

    def __init__(self, pause: Pause, turns: Turns) -> None:
        self._pause = pause
        self._turns = turns
        self._held: list[_Held] = []
        self._in_a_row = 0
        self._key_is_good = False
        self.acceptances = 0

    def are_expected(self, since: int | None) -> bool:
        """Whether others were accepted after rows were first refused, which was after `since` acceptances."""
        return since is not None and since < self.acceptances

    def accepted(self) -> None:
        """A request was accepted: what was refused so far was refused for its rows."""
        self._in_a_row = 0
        self.acceptances += 1
        self.slowed_down()
        if not self._pause.stopping:
            self._release()

    def slowed_down(self) -> None:
        """A request was throttled, which shows that the key is good."""
        self._key_is_good = True
        self._set_turns()

    def refused(self, since: int | None) -> int:
        """A request was refused for its content; after how many acceptances its rows were first refused.

        `since` is None if they weren't before. Raises DestinationError if all requests are refused.
        """
        self._in_a_row += not self.are_expected(since)
        self._set_turns()
        return self.acceptances if since is None else since

    def hold(self, part: Chunk, refusal: Refusal, since: int | None, reject: Callable[[], None]) -> None:
        """Call `reject` once the part's identifications, each refused by itself, are known to be rejects.

        Raises DestinationError if all requests are refused.
        """
        kind = KeyRefused if isinstance(refusal, KeyRefused) else refusal.status
        self._held.append(_Held(part, refusal, kind, self.are_expected(since), reject))
        self._set_turns()

    def conclude(self) -> None:
        """Nothing else is left to be sent: few are rejects. Raises DestinationError for many."""
        if self._held and not self._pause.stopping:
            self._stop_if_alike(key_too=True)
            self._release()

    def _set_turns(self) -> None:
        """Set the order of the turns; raises DestinationError if all requests are refused."""
        impatient = self._in_a_row >= _PATIENCE
        self._turns.single = not self._key_is_good or impatient
        self._turns.sampling = impatient and max(self._alike().values(), default=0) >= _SUSPICIOUS
        if impatient:
            self._stop_if_alike()

    def _alike(self) -> Counter[object]:
        """How many rows are held for refusals that are alike, without those that were expected."""
        alike = Counter[object]()
        for one in self._held:
            if not one.expected:
                alike[one.kind] += one.part.users
        return alike

    def _release(self) -> None:
        held, self._held = self._held, []
        for one in held:
            one.reject()

    def _stop_if_alike(self, *, key_too: bool = False) -> None:
        for kind, count in self._alike().items():
            if count < _MOST_ALIKE and not (key_too and kind is KeyRefused):
                continue
            self._pause.stopped.set()
            held = [one for one in self._held if not one.expected and one.kind == kind]
            refusal = held[-1].refusal
            answer = f"{refusal.status} {refusal.message}".rstrip()
            if isinstance(refusal, KeyRefused):
                message = f"the destination refuses the API key, which it accepted before: {answer}"
                raise DestinationError(message, hint=refusal.hint)
            source = held[0].part.source
            shown = [one.part.numbers for one in held[:_MOST_SHOWN] if one.part.source == source]
            rows = ", ".join(f"{row:,}" for row in np.sort(np.concatenate(shown))[:_MOST_SHOWN].tolist())
            raise DestinationError(
                f"the destination refuses everything: {count:,} rows in a row were answered {answer}; among "
                f"them {source} row {rows}",
                hint="these rows are not rejects: check what stands between here and Amplitude, such as a "
                "firewall or a limit on the size of requests, then run the same command again",
            )


# --- failed ----------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Failures:
    """Decides what becomes of parts whose requests failed.

    Its methods return the seconds until the same is sent again; None: it has its end, or is sent in halves.
    """

    parts: PartsInFlight
    pause: Pause
    identifications: RateLimiter
    _halved_at: tuple[int, int] = (-1, -1)

    def throttled(self, part: Part, started: float, verdict: SlowDown) -> float | None:
        """After a throttling the part waits, with all others or alone.

        The first throttling is taken for everyone's. After a second one others are let ahead. If it goes on
        while others pass, the part itself is at fault: it is halved until its one user is found. Of rows that
        an earlier process held, others of their chunk passed then: they are at fault if nothing else is left.
        """
        pause = self.pause
        others_pass = self._count_failure(part, verdict)
        patient = part.failures <= _RATE_PATIENCE and part.alone_since is None and pause.left > 0
        if patient and self.identifications.refused(part.users):  # all go too fast
            pause.begin()
            return min(pause.respite(verdict, part.failures), pause.left)
        if others_pass or part.alone_since is not None:
            return self.throttled_alone(part, verdict)
        # Of those that fail one lets others ahead, and so does all that an earlier process had to hold.
        lets_ahead = part.sent.again or (part.failures == 2 and not self.parts.parked)
        if part.failures <= 2 and pause.left > 0 and lets_ahead:
            self.parts.park(part)
            return min(pause.wait(verdict, part.failures), pause.left)
        return self._wait_with_all(part, started, verdict, _THROTTLED_PATIENCE)

    def throttled_alone(self, part: Part, verdict: SlowDown) -> float | None:
        """After a throttling that is this part's own it waits alone, and is singled out if that goes on."""
        part.leave_others(self.pause.clock.now())
        if part.failures >= _THROTTLED_PATIENCE:
            return self._single_out(part, verdict)
        return self._wait_alone(part, verdict)

    def failed(self, part: Part, started: float, verdict: TryAgain) -> float | None:
        """After a failure that may be chance the part waits alone while chance explains it.

        Then the part itself is at fault, if others pass, or else it is an outage.
        """
        pause = self.pause
        others_pass = self._count_failure(part, verdict)
        part.by_chance += 1
        no_chance = part.halved or pause.share.is_no_chance(part.by_chance)
        # Of what passes after the first failure nothing points to an outage, even if nothing else is left.
        up = others_pass or pause.last_start > part.since
        if part.alone_since is not None or (up and no_chance):
            if pause.share.tells_halves_apart(part.by_chance):
                return self._single_out(part, verdict)
            return self._wait_alone(part, verdict, pause.wait_alone(started, verdict, part.by_chance))
        asked = bool(verdict.retry_after)
        if (asked and not others_pass) or (not asked and pause.is_outage()):
            # What failed before anything had passed may have been chance as well.
            part.by_chance *= up or not pause.passes
            return self._wait_with_all(part, started, verdict, _FAILED_PATIENCE)
        return min(pause.wait_alone(started, verdict, part.by_chance), pause.left)

    def _count_failure(self, part: Part, verdict: Failure) -> bool:
        """Note a failure; whether others passed since the one before."""
        others_pass = part.failures > 0 and self.pause.passes > part.passes
        part.failures += 1
        part.since = min(part.since, self.pause.clock.now())
        part.tried |= not (isinstance(verdict, TryAgain) and verdict.unsent)
        part.only_throttled &= isinstance(verdict, SlowDown)
        part.passes = self.pause.passes
        return others_pass

    def _wait_with_all(self, part: Part, started: float, verdict: Failure, patience: int) -> float | None:
        """No request passes: all wait. After `patience` failures a part is halved, once in each pause.

        While none passes, a hot user and a destination that throttles all look the same. If one of the halves
        passes, it was a user.
        """
        pause = self.pause
        now = (pause.passes, pause.failures)
        if part.failures >= patience and part.users > 1 and pause.left > 0 and now != self._halved_at:
            self._halved_at = now
            return self._single_out(part, verdict)
        if pause.left <= 0 and part.only_throttled and self.parts.only_held_left:
            part.leave_others(pause.begin())
            return self._single_out(part, verdict)
        pause.failed(started, verdict)
        return 0.0

    def _single_out(self, part: Part, verdict: Failure) -> float | None:
        """The part itself is at fault: halve it, or park it if it is one user's."""
        part.halved |= isinstance(verdict, TryAgain)
        if part.users == 1:
            return self.park(part, verdict)
        part.rounds = part.by_chance = 0
        self.parts.halve(part)
        return None

    def park(self, part: Part, verdict: Failure) -> float | None:
        """The part waits and is sent again by itself, and holds up nothing else."""
        if not part.hot:
            self.parts.hot_users.prove(part.keys, part.leave_others(self.pause.clock.now()), verdict)
            part.alone_since, part.hot = self.parts.hot_users.since(part.keys), True
            self.parts.park(part)
        return self._wait_alone(part, verdict)

    def _wait_alone(self, part: Part, verdict: Failure, seconds: float | None = None) -> float | None:
        """The part waits without the others, and is handed back once its outage is too long."""
        now = self.pause.clock.now()
        end = part.leave_others(now) + self.pause.outage
        if now >= end:
            reason = f"the server kept answering: {describe(verdict)}"
            self.parts.finish(part, handed_back(part.sent, "transient", reason, part.end))
            return None
        return min(self.pause.wait(verdict, part.failures) if seconds is None else seconds, end - now)
