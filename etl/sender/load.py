"""A chunk under way, and its portions: identifications that are sent, and committed, together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from etl.keys import Keys
from etl.model import Chunk
from etl.sender.order import Claim, Mask, Places
from etl.sender.outcome import Outcome
from etl.sender.parts import places, whole, without_rows


class Carrier(Protocol):
    """What carries portions; see `sender.lanes`."""

    def probe(self, portion: Portion, part: Chunk) -> bool:
        """Part of a portion failed twice; see `Watcher`."""

    def set_apart(self, portion: Portion, part: Chunk, sending: Coroutine[None, None, None]) -> None:
        """Part of a portion is brought to its end by `sending`, and will take long."""

    def finished(self, portion: Portion, part: Chunk, outcome: Outcome) -> None:
        """Part of a portion has its end."""

    def held(self, portion: Portion, part: Chunk) -> None:
        """Part of a portion was refused, and waits to hear whether others are accepted."""

    def released(self, portion: Portion) -> None:
        """It waits no longer."""


class _Ended(NamedTuple):
    places: Places
    numbers: NDArray[np.int64]
    keys: Keys


@dataclass(slots=True, eq=False)
class Portion:
    """Identifications of a chunk that have a `claim`, and are committed together.

    `part` is what is to be sent, until its sending begins with `sent` identifications. `lane`: it keeps a
    lane. `bytes` is what it counts for while it is apart. `open` of its identifications have no end yet; of
    these `pending` (by their places) were refused, and wait to hear whether others are accepted, and
    `released` have heard it. `given_up`: it was not sent. What became of all others stands in `outcome`.
    """

    load: Load
    claim: Claim
    part: Chunk | None = None
    lane: bool = False
    sent: int = 0
    bytes: int = 0
    open: int = 0
    pending: list[Places] = field(default_factory=list)
    released: list[Places] = field(default_factory=list)
    given_up: bool = False
    committing: bool = False
    outcome: Outcome = field(default_factory=Outcome)
    ended: list[_Ended] = field(default_factory=list)

    def where(self, part: Chunk) -> Mask:
        """Which of its identifications are those of a part; shape (k,)."""
        return self.claim.where(places(part))

    def only_pending(self) -> bool:
        """Whether nothing is left of it but what was refused and waits."""
        return bool(self.pending) and self.open == sum(map(len, self.pending))

    def still_open(self) -> Mask:
        """Which of its identifications have no end yet; shape (k,)."""
        found = np.ones(len(self.claim.places), dtype=np.bool_)
        for ended in self.ended:
            found &= ~self.claim.where(ended.places)
        return found

    def hold(self, part: Chunk) -> None:
        """A part of it was refused, and waits."""
        self.pending.append(places(part))

    def release(self, part: Chunk) -> None:
        """A part that waited has heard, and is about to have its end."""
        self.released.append(_taken(self.pending, part))

    def had_answer(self, part: Chunk) -> bool:
        """Whether a part that ends now was counted as answered before, as one that waited."""
        if not any(found[0] == places(part)[0] for found in self.released):
            return False
        _taken(self.released, part)
        return True

    def end(self, part: Chunk, outcome: Outcome) -> None:
        """A part of it has its end."""
        self.open -= part.users
        self.outcome += outcome
        self.ended.append(_Ended(places(part), part.numbers, part.keys))

    def moved(self, other: Portion) -> None:
        """Some of its identifications, none of which has its end, are in the other portion now."""
        other.open = len(other.claim.places)
        self.open -= other.open
        for mine, theirs in ((self.pending, other.pending), (self.released, other.released)):
            theirs += [found for found in mine if found[0] in other.claim.places]
            mine[:] = [found for found in mine if found[0] not in other.claim.places]


class Load:
    """One chunk under way; the watcher of its parts. `left` are its rows that aren't committed yet."""

    def __init__(self, chunk: Chunk, claim: Claim, carrier: Carrier, group: asyncio.TaskGroup) -> None:
        self.chunk = chunk
        self.group = group
        self._main: Portion | None = None
        self._claim = claim
        self._carrier = carrier
        self._left = chunk.numbers
        self._divided = False
        self._begun = chunk.again
        self._others: dict[int, Portion] = {}

    def whole(self) -> Portion:
        """All of it as one portion, with a lane."""
        self._main = Portion(self, self._claim, whole(self.chunk), lane=True, open=self.chunk.users)
        return self._main

    def detach(self) -> None:
        """From now on it keeps no more of the chunk than is needed to commit parts of it."""
        if not self._divided:
            self.chunk, self._divided = without_rows(self.chunk), True
            self._left = self.chunk.numbers

    def divide(self, other: Portion) -> None:
        """Some of its identifications are a portion of their own now."""
        self.detach()
        self._others |= dict.fromkeys(other.claim.places.tolist(), other)

    def portions(self) -> list[Portion]:
        """All portions that it was divided into and that aren't committed."""
        return list(dict.fromkeys([*([self._main] if self._main else []), *self._others.values()]))

    def forget(self, portion: Portion) -> None:
        """The portion is committed. Both refer to each other, so without this they would stay for long."""
        if portion is self._main:
            self._main = None
            return
        for place in portion.claim.places.tolist():
            del self._others[place]

    def idle(self) -> Chunk | None:
        """Its rows of which nothing is to be sent, to be committed first; None where there are none."""
        if self._begun or not (self.chunk.rejects or self.chunk.unchanged):
            return None
        self.detach()
        found = replace(self.chunk, numbers=self._left[:0], held=self._left)
        self._begin()
        return found

    def _begin(self) -> None:
        """Its range is committed; what follows is only what was held."""
        if not self._begun:
            self._begun = True
            self.chunk = replace(self.chunk, numbers=np.empty(0, np.int64), rejects=(), unsent=(), skipped=())

    def ended(self, portion: Portion) -> Chunk:
        """What is to be committed of the chunk now that a portion has its end; to be asked once, in order."""
        if not self._divided:
            return self.chunk
        numbers = np.sort(np.concatenate([self._left[:0], *(ended.numbers for ended in portion.ended)]))
        left = np.ones(len(self._left), dtype=np.bool_)
        left[np.searchsorted(self._left, numbers)] = False
        self._left = self._left[left]
        found = replace(
            self.chunk,
            numbers=numbers,
            keys=np.concatenate([ended.keys for ended in portion.ended]),
            held=self._left if len(self._left) else None,
            again=self._begun,
        )
        self._begin()
        return found

    # What a delivery tells.

    def probe(self, part: Chunk) -> bool:
        """See `Watcher`, also for what follows."""
        return self._carrier.probe(self._with(part), part)

    def set_apart(self, part: Chunk, sending: Coroutine[None, None, None]) -> None:
        """A part goes on by itself."""
        self._carrier.set_apart(self._with(part), part, sending)

    def finished(self, part: Chunk, outcome: Outcome) -> None:
        """A part has its end."""
        self._carrier.finished(self._with(part), part, outcome)

    def held(self, part: Chunk) -> None:
        """A part was refused, and waits."""
        self._carrier.held(self._with(part), part)

    def released(self, part: Chunk) -> None:
        """It waits no longer."""
        portion = self._with(part)
        portion.release(part)
        self._carrier.released(portion)

    def _with(self, part: Chunk) -> Portion:
        found = self._others.get(int(places(part)[0]), self._main) if self._others else self._main
        assert found is not None  # noqa: S101 - what is told of has no end yet
        return found


def _taken(found: list[Places], part: Chunk) -> Places:
    first = places(part)[0]
    number = next(number for number, one in enumerate(found) if one[0] == first)
    return found.pop(number)
