"""A chunk in flight, and its portions: identifications that are sent, and committed, together. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from ..model import Chunk
from .outcome import Outcome
from .parts import only, places, without_rejects, without_rows
from .timing import Slot
from .user_order import Chosen, Claim

# What is awaited with an outcome once rows have their end; returns once they are committed.
Commit = Callable[[Chunk, Outcome], Coroutine[Any, Any, None]]

# The states of an identification. One that is HELD was refused, and waits to see whether others pass.
_OPEN, _HELD, _RELEASED, _DONE = range(4)
_NO_NUMBERS: Final[NDArray[np.int64]] = np.empty(0, np.int64)


@dataclass(slots=True, eq=False, kw_only=True)
class Portion(Claim):
    """Identifications of a chunk that are committed together, as one claim on their users.

    `part` is what is to be sent, until its sending begins. `slot` None: it keeps no slot. `bytes` is what it
    counts for while it is parked. `given_up`: it is not sent, since its user is refused for too long. What
    became of identifications that have their end stands in `outcome`, and their rows in `ended`.
    """

    chunk: ChunkInFlight
    part: Chunk | None = None
    slot: Slot | None = None
    bytes: int = 0
    given_up: bool = False
    committing: bool = False
    outcome: Outcome = field(default_factory=Outcome)
    ended: list[NDArray[np.int64]] = field(default_factory=list)
    _states: NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))

    def __post_init__(self) -> None:
        if not len(self._states):
            self._states = np.zeros(len(self.places), np.int8)

    def still_open(self) -> Chosen:
        """Which of its identifications have no end yet; shape (k,)."""
        mask: Chosen = self._states != _DONE
        return mask

    def only_held(self) -> bool:
        """Whether nothing is left of it but what was refused and waits."""
        return bool((self._states == _HELD).any()) and bool((self._states[self.still_open()] == _HELD).all())

    def hold(self, part: Chunk) -> None:
        """A part of it was refused, and waits."""
        self._states[self.where(places(part))] = _HELD

    def release(self, part: Chunk) -> None:
        """A part that was held is about to have its end."""
        self._states[self.where(places(part))] = _RELEASED

    def end(self, part: Chunk, outcome: Outcome) -> int:
        """A part of it has its end; how many of its identifications had not been answered before."""
        mask = slice(None) if part.users == len(self.places) else self.where(places(part))
        unanswered = int(np.count_nonzero(self._states[mask] == _OPEN))
        self._states[mask] = _DONE
        self.outcome += outcome
        self.ended.append(part.numbers)
        return unanswered

    def divide(self, chosen: Chosen) -> Self:
        """Take out some identifications, none of which has its end."""
        part, states = self.part, self._states
        other = type(self)(
            places=self.places[chosen],
            keys=self.keys[chosen],
            ticket=self.ticket,
            parked=self.parked,
            answered=self.answered,
            chunk=self.chunk,
            part=None if part is None else only(part, np.flatnonzero(chosen)),
            _states=states[chosen],
        )
        self.places, self.keys, self._states = self.places[~chosen], self.keys[~chosen], states[~chosen]
        self.part = None if part is None else only(part, np.flatnonzero(~chosen))
        self.chunk.add(other)
        return other


class ChunkInFlight:
    """One chunk in flight: its portions, and its rows that aren't committed yet."""

    def __init__(self, chunk: Chunk, commit: Commit, slot: Slot) -> None:
        self.chunk = chunk
        self.commit = commit
        keys = chunk.keys.copy() if chunk.linked is None else np.column_stack([chunk.keys, chunk.linked])
        self.main: Portion | None = Portion(
            places=places(chunk), keys=keys, chunk=self, part=without_rejects(chunk), slot=slot
        )
        self._left = chunk.numbers
        self._detached = False
        self._begun = chunk.again
        self._others: dict[int, Portion] = {}

    def portion_of(self, part: Chunk) -> Portion:
        """The portion that a part without its end belongs to."""
        found = self._others.get(int(places(part)[0]), self.main) if self._others else self.main
        assert found is not None  # noqa: S101 - what has no end yet is in a portion
        return found

    def detach(self) -> None:
        """From now on it keeps no more of the chunk than is needed to commit parts of it."""
        if not self._detached:
            self.chunk, self._detached = without_rows(self.chunk), True
            self._left = self.chunk.numbers

    def add(self, portion: Portion) -> None:
        """Some of its identifications are a portion of their own now."""
        self.detach()
        self._others |= dict.fromkeys(portion.places.tolist(), portion)

    def forget(self, portion: Portion) -> None:
        """The portion is committed. Both refer to each other, so without this they would stay for long."""
        if portion is self.main:
            self.main = None
            return
        for place in portion.places.tolist():
            del self._others[place]

    def take_unsent(self) -> Chunk | None:
        """Its rows of which nothing is to be sent, to be committed first; None where there are none."""
        if self._begun or not (self.chunk.rejects or self.chunk.unchanged):
            return None
        self.detach()
        found = replace(self.chunk, numbers=_NO_NUMBERS, held=self._left)
        self._begin()
        return found

    def take_ended(self, portion: Portion) -> Chunk:
        """What is to be committed now that a portion has its end; to be called once for each, in order."""
        if not self._detached:
            return self.chunk
        numbers = np.sort(np.concatenate([_NO_NUMBERS, *portion.ended]))
        left = np.ones(len(self._left), dtype=np.bool_)
        left[np.searchsorted(self._left, numbers)] = False
        self._left = self._left[left]
        found = replace(
            self.chunk,
            numbers=numbers,
            keys=portion.keys[:, : self.chunk.keys.shape[1]],
            held=self._left if len(self._left) else None,
            again=self._begun,
        )
        self._begin()
        return found

    def _begin(self) -> None:
        """Its range is committed; what follows is only what was held."""
        if not self._begun:
            self._begun = True
            self.chunk = replace(self.chunk, numbers=_NO_NUMBERS, rejects=(), unsent=(), skipped=())
