"""A chunk in flight and its parts, each sent in one request: how parts divide, and the outcome of their rows.

A chunk has a slot, which shows what its parts wait for. No I/O.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..amplitude.responses import Accepted, Refusal
from ..arrow.originals import rejects_of, take_rows
from ..model import Chunk, End, Reject, Sent
from ..tally import Tally
from .user_order import Chosen, Claim

SlotState: TypeAlias = Literal["idle", "user", "rate", "pause", "request", "commit"]

# Where parts of one chunk are in several states at once, the first of these counts.
_BUSIEST: Final[tuple[SlotState, ...]] = ("request", "rate", "pause", "commit", "user")
_FEW_RUNS: Final = 8  # up to so many runs of rows are copied as slices, not row by row
_NO_NUMBERS: Final[NDArray[np.int64]] = np.empty(0, np.int64)
_NO_ROWS: Final = pa.record_batch([], names=[])


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of rows: a tally of accepted, merged and rejected ones, the rejects, and what was sent."""

    tally: Tally = Tally()
    rejects: tuple[Reject, ...] = ()
    sent: tuple[Sent, ...] = ()

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.tally + other.tally, self.rejects + other.rejects, self.sent + other.sent)


# Awaited with the outcome of rows; returns once they are committed.
Commit: TypeAlias = Callable[[Chunk, Outcome], Coroutine[Any, Any, None]]


class ChunkInFlight:
    """One chunk in flight: its slot, and its rows that aren't committed yet.

    The slot is in the busiest state of its parts, and free without any. `move_slot` is called with the states
    before and after each change; None: it is free.
    """

    def __init__(
        self, chunk: Chunk, commit: Commit, move_slot: Callable[[SlotState | None, SlotState | None], None]
    ) -> None:
        self.commit, self._move_slot = commit, move_slot
        self._parts: dict[SlotState | None, int] = dict.fromkeys((*_BUSIEST, None), 0)
        self._shown: SlotState | None = None
        self._chunk = chunk
        self._left = chunk.numbers
        self._detached = False
        self._begun = chunk.again

    def move(self, before: SlotState | None, now: SlotState | None) -> None:
        """Move a part from one state to another; None: it is not in the slot."""
        self._parts[before] -= 1
        self._parts[now] += 1
        shown = next((state for state in _BUSIEST if self._parts[state]), None)
        if shown != self._shown:
            self._move_slot(self._shown, shown)
            self._shown = shown

    def detach(self) -> None:
        """Keep only what is needed of the chunk to commit parts of it."""
        if not self._detached:
            chunk, self._detached = self._chunk, True
            self._chunk = replace(
                chunk,
                body=(),
                ends=chunk.ends[:0].copy(),
                keys=chunk.keys[:0].copy(),
                numbers=chunk.numbers.copy(),
                owners=chunk.owners[:0].copy(),
                rows=_NO_ROWS,
                fingerprints=None,
            )
            self._left = self._chunk.numbers

    def take_unsent(self) -> Chunk | None:
        """Take its rows that need no request, to be committed first; None if there are none."""
        if self._begun or not (self._chunk.rejects or self._chunk.unchanged):
            return None
        self.detach()
        return self._taken(numbers=_NO_NUMBERS, held=self._left)

    def take_ended(self, part: Part) -> Chunk:
        """Take what is to be committed with a part that has its outcome; call it once for each, in order."""
        if not self._detached:
            return self._chunk
        self._left = np.setdiff1d(self._left, part.sent.numbers, assume_unique=True)
        keys = part.keys[:, : self._chunk.keys.shape[1]]
        held = self._left if len(self._left) else None
        return self._taken(numbers=part.sent.numbers, keys=keys, held=held, again=self._begun)

    def _taken(self, **values: Any) -> Chunk:
        """Its range to be committed with these values; later calls commit held rows only."""
        found = replace(self._chunk, **values)
        if not self._begun:
            self._begun = True
            self._chunk = replace(self._chunk, numbers=_NO_NUMBERS, rejects=(), unsent=(), skipped=())
        return found


@dataclass(slots=True, eq=False, kw_only=True)
class Part(Claim):
    """Identifications of a chunk that are sent in one request, and how they have failed so far.

    As a claim it stands for its users. `sent` is what is sent. `state` is what its slot shows for it, None
    without a slot. `begun`: a request may have been sent. `outcome`: it has its end, and is to be committed.
    `given_up`: it is not sent, since its user is refused for too long.

    `since` is when it first failed, `passes` how many requests had passed at its last failure. `by_chance` is
    how many of its last failures chance may explain, and `halved`: it is half of a part that failed too
    often. `rounds` is how often in a row it got smaller by what an answer named. `tried`: its rows may have
    been taken by an earlier try. `doubted`: it is unknown of one of these tries whether it arrived.
    `refused` is how many requests had been accepted when a request with its rows was first refused.
    `only_throttled`: none of its requests failed otherwise.
    From `alone_since` on it has a clock of its own; `hot`: its users are known to be refused.
    """

    chunk: ChunkInFlight
    sent: Chunk
    state: SlotState | None = None
    begun: bool = False
    outcome: Outcome | None = None
    given_up: bool = False
    failures: int = 0
    since: float = math.inf
    passes: int = 0
    alone_since: float | None = None
    hot: bool = False
    by_chance: int = 0
    halved: bool = False
    rounds: int = 0
    tried: bool = False
    doubted: bool = False
    refused: int | None = None
    only_throttled: bool = True

    @property
    def users(self) -> int:
        """How many identifications it has."""
        return len(self.places)

    @property
    def end(self) -> End:
        """The end of rows that the server doesn't take at last."""
        return "in_doubt" if self.doubted else "refused"

    def enter(self, state: SlotState | None) -> None:
        """Show a state in its slot, if it has one; None: leave the slot."""
        if state != self.state and not (self.parked and self.state is None):
            self.chunk.move(self.state, state)
            self.state = state

    def leave_others(self, now: float) -> float:
        """Start a clock of its own, if it has none; when that started."""
        self.alone_since = now if self.alone_since is None else self.alone_since
        return self.alone_since

    def begin_anew(self, *, rounds: int = 0) -> None:
        """Forget its failures, but not `tried` and `doubted`: what is sent next is smaller."""
        self.failures = self.passes = self.by_chance = 0
        self.since, self.alone_since, self.rounds = math.inf, None, rounds
        self.hot = self.halved = False

    def divide(self, chosen: Chosen) -> Self:
        """Take out some identifications."""
        other = Claim.divide(self, chosen)  # zero-argument `super()` doesn't work in a class with slots
        other.sent, self.sent = (selected(self.sent, np.flatnonzero(some)) for some in (chosen, ~chosen))
        self.chunk.detach()
        if self.state is not None:
            self.chunk.move(None, self.state)
        return other


# --- dividing a part -------------------------------------------------------------------------------------


def places(part: Chunk) -> NDArray[np.int64]:
    """Where each identification stands in its chunk: its first row's number; ascending, shape (k,)."""
    if len(part.numbers) == part.users:
        return part.numbers
    return part.numbers[np.unique(part.owners, return_index=True)[1]]


def others(count: int, *taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions, of so many, that aren't among those taken; ascending."""
    return np.setdiff1d(np.arange(count), np.concatenate(taken), assume_unique=True)


def selected(part: Chunk, chosen: NDArray[np.int64]) -> Chunk:
    """The identifications at the ascending positions `chosen`; the same bytes for each as before.

    The result owns its bytes and rows, so that holding a few identifications holds no batch.
    """
    starts = np.concatenate([[0], part.ends[:-1]]) + 1
    body = part.body[0] if len(part.body) == 1 else b"".join(part.body)
    # Neighbours stay side by side: a chunk without a few of its identifications is cut in a few places.
    firsts, lasts = _runs(chosen)
    pieces = [body[start:end] for start, end in zip(starts[firsts], part.ends[lasts], strict=True)]
    mask = np.isin(part.owners, chosen)
    positions = np.flatnonzero(mask)
    starting, ending = _runs(positions)
    if not len(positions) or len(starting) > _FEW_RUNS:
        rows = take_rows(part.rows, positions)
    else:
        slices = [part.rows.slice(at, end - at + 1) for at, end in zip(starting, ending, strict=True)]
        # With an empty one behind it, as a single slice would be returned without a copy.
        rows = pa.concat_batches([*slices, part.rows.slice(0, 0)])
    return replace(
        part,
        body=(b"[" + b",".join(pieces) + b"]",),
        ends=np.cumsum(part.ends[chosen] - starts[chosen] + 1),
        keys=part.keys[chosen],
        numbers=part.numbers[mask],
        owners=np.searchsorted(chosen, part.owners[mask]),
        rows=rows,
        rejects=(),
        unsent=(),
        skipped=(),
        fingerprints=None if part.fingerprints is None else part.fingerprints[mask],
    )


def _runs(chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last of each run of neighbours among ascending positions."""
    gaps, count = np.flatnonzero(np.diff(chosen) != 1), len(chosen)
    return chosen[np.append(0, gaps + 1)[:count]], chosen[np.append(gaps, count - 1)[:count]]


# --- outcomes --------------------------------------------------------------------------------------------


def accepted(part: Chunk, verdict: Accepted, *, counted: bool) -> Outcome:
    """Every identification of the part was taken, unless the server did not count them (`counted` False).

    One row of each user is accepted, the others were merged into it. If the count is wrong or missing, it is
    unknown which events arrived.
    """
    missing = 0 if verdict.ingested is None else max(0, part.users - verdict.ingested)
    if not counted:
        reason = f"the server answered 200 and counted {verdict.ingested:,} of {part.users:,} events"
        if verdict.lacks_count:
            reason = f"the server answered 200 without a count (events_ingested) of the {part.users:,} events"
        doubt = Tally(in_doubt=1, uncounted=missing)
        return Outcome(doubt) + handed_back(part, "uncounted", reason, "in_doubt")
    tally = Tally(accepted=part.users, merged=len(part.numbers) - part.users, uncounted=missing)
    return Outcome(tally, sent=_sent(part, "accepted"))


def refused(part: Chunk, refusal: Refusal, fault: str = "", end: End = "refused") -> Outcome:
    """The rows of the part were refused for their content; `fault` is what the answer names.

    Their `end` is `in_doubt` if an earlier try of them may have arrived.
    """
    reason = f"the server answered {refusal.status}: {refusal.message}".rstrip(": ")
    reason = f"{reason}: {fault}" if fault else reason
    return handed_back(part, "too_big" if refusal.status == 413 else "malformed", reason, end)


def handed_back(part: Chunk, code: str, reason: str, end: End = "refused") -> Outcome:
    """Every row of the part is a reject."""
    count = part.rows.num_rows
    rejects = rejects_of(part, part.rows, np.arange(count), [(code, reason)] * count, part.keep_empty)
    return Outcome(Tally(rejected=count), rejects, _sent(part, end))


def _sent(part: Chunk, end: End) -> tuple[Sent, ...]:
    """What the snapshot keeps of a part. It owns its arrays: it may wait for long to be committed."""
    if part.fingerprints is None or len(part.numbers) == 0:
        return ()
    return (Sent(part.numbers.copy(), part.keys[part.owners], part.fingerprints.copy(), end),)
