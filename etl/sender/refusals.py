"""Whether rows are refused, or everything that is sent; and whose request goes next.

A firewall, a proxy with a small limit or a key that was withdrawn refuses everything; to take that for bad
rows would hand back a whole export. So a row that is refused alone is held until something else is accepted:
then it is a reject. If so many in a row are refused alike and nothing is accepted, the run stops instead.

A row does not count for that if others were accepted after a request with it had been refused: the server
tells rows apart then. When all good rows around it are in, the bad ones of a long range come last.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ..amplitude.responses import KeyRefused, Refusal
from ..errors import DestinationError
from ..model import Chunk
from .backoff import Pause

# So many rows that were refused alone and alike are not bad rows, if nothing was accepted in between.
_MOST_ALIKE: Final = 20
# After so many refused requests in a row others go one by one, and after so many such rows single ones from
# everywhere are tried: bad rows stand next to each other more often than not.
_PATIENCE: Final = 8
_SUSPICIOUS: Final = 12
_MOST_SHOWN: Final = 5
# Steps of this share of a part never come back to places next to each other.
_GOLDEN: Final = 0.6180339887


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
