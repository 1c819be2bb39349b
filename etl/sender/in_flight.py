"""What is in flight: chunks, their portions and the parts that are sent; and what sends them. No I/O.

A portion is what is committed together, a part is what one request carries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..amplitude.responses import Fate, Verdict
from ..model import Body, Chunk, End
from .parts import Outcome, only, places
from .timing import Slot, SlotState
from .user_order import Chosen, Claim

# Awaited with an outcome once rows have their end; returns once they are committed.
Commit = Callable[[Chunk, Outcome], Coroutine[Any, Any, None]]

# The states of an identification. One that is HELD was refused, and waits to see whether others are accepted.
_OPEN, _HELD, _RELEASED, _DONE = range(4)
_NO_NUMBERS: Final[NDArray[np.int64]] = np.empty(0, np.int64)
_NO_ROWS: Final = pa.record_batch([], names=[])


@dataclass(slots=True, eq=False, kw_only=True)
class Portion(Claim):
    """Identifications of a chunk that are committed together, as one claim on their users.

    `part` is what is to be sent, until its sending begins. `slot` None: it keeps no slot. `bytes` is what it
    counts for while it is parked. `given_up`: it is not sent, since its user is refused for too long.
    `outcome` and `ended` are the outcome and the rows of the identifications that have their end; `states`
    has all of them.
    """

    chunk: ChunkInFlight
    part: Chunk | None = None
    slot: Slot | None = None
    bytes: int = 0
    given_up: bool = False
    committing: bool = False
    outcome: Outcome = field(default_factory=Outcome)
    ended: list[NDArray[np.int64]] = field(default_factory=list)
    states: NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))

    def __post_init__(self) -> None:
        if not len(self.states):
            self.states = np.zeros(len(self.places), np.int8)

    def take_part(self) -> Chunk:
        """What is to be sent of it, which now has begun."""
        part, self.part = self.part, None
        assert part is not None  # noqa: S101 - it is sent once
        return part

    def still_open(self) -> Chosen:
        """Which of its identifications have no end yet; shape (k,)."""
        mask: Chosen = self.states != _DONE
        return mask

    def only_held(self) -> bool:
        """Whether nothing is left of it but what was refused and waits."""
        held = self.states == _HELD
        return bool(held.any()) and bool((held | (self.states == _DONE)).all())

    def hold(self, part: Chunk) -> None:
        """A part of it was refused, and waits."""
        self.states[self.where(places(part))] = _HELD

    def release(self, part: Chunk) -> None:
        """A part that was held is about to have its end."""
        self.states[self.where(places(part))] = _RELEASED

    def end(self, part: Chunk, outcome: Outcome) -> int:
        """A part of it has its end; how many of its identifications had not been answered before."""
        mask = slice(None) if part.users == len(self.places) else self.where(places(part))
        unanswered = int(np.count_nonzero(self.states[mask] == _OPEN))
        self.states[mask] = _DONE
        self.outcome += outcome
        self.ended.append(part.numbers)
        return unanswered

    def divide(self, chosen: Chosen) -> Self:
        """Take out some identifications, none of which has its end."""
        part, states = self.part, self.states
        other = Claim.divide(self, chosen)  # zero-argument `super()` doesn't work in a class with slots
        other.slot, other.bytes, other.given_up, other.committing = None, 0, False, False
        other.outcome, other.ended = Outcome(), []
        other.states, self.states = states[chosen], states[~chosen]
        if part is not None:
            other.part, self.part = only(part, np.flatnonzero(chosen)), only(part, np.flatnonzero(~chosen))
        self.chunk.add(other)
        return other


class ChunkInFlight:
    """One chunk in flight: its portions, and its rows that aren't committed yet."""

    def __init__(self, chunk: Chunk, commit: Commit, slot: Slot) -> None:
        self.chunk = chunk
        self.commit = commit
        keys = chunk.keys.copy() if chunk.linked is None else np.column_stack([chunk.keys, chunk.linked])
        # It is sent without the rejects that the chunk commits with.
        part = chunk
        if chunk.rejects or chunk.unsent or chunk.skipped:
            part = replace(chunk, rejects=(), unsent=(), skipped=())
        self.main: Portion | None = Portion(places=places(chunk), keys=keys, chunk=self, part=part, slot=slot)
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
            chunk, self._detached = self.chunk, True
            self.chunk = replace(
                chunk,
                body=(),
                ends=chunk.ends[:0].copy(),
                keys=chunk.keys[:0].copy(),
                numbers=chunk.numbers.copy(),
                owners=chunk.owners[:0].copy(),
                rows=_NO_ROWS,
                fingerprints=None,
            )
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


@dataclass(slots=True)
class Sending:
    """A part of a chunk, and how it has failed so far.

    `since` is when it first failed, `passes` how many requests had passed at its last failure. `by_chance` is
    how many of its last failures chance may explain, and `halved`: it is half of a part that failed too
    often. `rounds` is how often in a row it got smaller by what an answer named. `tried`: its rows may have
    been taken by an earlier try. `doubted`: it is unknown of one of these tries whether it arrived.
    `refused` is how many requests had been accepted when a request with its rows was first refused.
    From `parked_since` on it has a clock of its own; `parked`: others go ahead of it.
    """

    part: Chunk
    chunk: ChunkInFlight
    failures: int = 0
    since: float = math.inf
    passes: int = 0
    parked_since: float | None = None
    by_chance: int = 0
    halved: bool = False
    rounds: int = 0
    tried: bool = False
    doubted: bool = False
    refused: int | None = None
    parked: bool = False

    @property
    def end(self) -> End:
        """The end of rows that the server doesn't take at last."""
        return "in_doubt" if self.doubted else "refused"

    def afresh(self, part: Chunk, *, failures: int = 0, rounds: int = 0) -> Sending:
        """A smaller part of it that begins anew; what became of its rows stays known."""
        fresh = Sending(part, self.chunk, failures=failures, rounds=rounds)
        fresh.tried, fresh.doubted, fresh.refused = self.tried, self.doubted, self.refused
        return fresh


# --- what a delivery works with --------------------------------------------------------------------------


class Transport(Protocol):
    """Carries a body to the destination and classifies the answer; see `transports`."""

    @property
    def throttle_seconds(self) -> float:
        """How long to wait after a 429 without Retry-After."""

    async def pack(self, body: Body) -> Body:
        """The request that carries a body, as it goes over the wire."""

    async def post(self, request: Body) -> Verdict:
        """Send a request once."""


class InFlightRecord(Protocol):
    """Remembers whose requests are in flight; see `checkpoint.in_flight_file`."""

    def began(self, part: Chunk) -> None:
        """A request with the users of a part is about to be sent."""

    def ended(self, part: Chunk, fate: Fate) -> None:
        """It was answered, or never left."""


class Watcher(Protocol):
    """Follows the parts of chunks, and runs the tasks that send them; see `sender`."""

    def spawn(self, sending: Coroutine[None, None, None]) -> None:
        """Run a task that sends a part."""

    def during(self, sending: Sending, state: SlotState) -> AbstractContextManager[None]:
        """A part waits, or awaits an answer."""

    def probe(self, sending: Sending) -> bool:
        """A part failed twice; whether others are let ahead, to see if it alone is at fault."""

    def park(self, sending: Sending) -> None:
        """A part keeps failing while others pass; others are let ahead."""

    def held(self, sending: Sending) -> None:
        """Every identification of the part was refused, and waits to see whether others are accepted."""

    def released(self, sending: Sending) -> None:
        """A part that was held is about to be finished."""

    def finished(self, sending: Sending, outcome: Outcome) -> None:
        """Every identification of the part has its end."""
