"""What is in flight: chunks in parts; which part goes when, and is committed when. No I/O.

A chunk begins as one part, in a slot. Rows of users who are held up become parts of their own, and so does
what has to be sent apart. A part that will take long is parked: it has no slot, and others go ahead without
its users. What remains in the slot gives it back once it is committed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..model import Chunk, End
from .parts import Outcome, halves, handed_back, only, places
from .timing import Slot, SlotState, SlotTimes
from .user_order import Chosen, Claim, HotUsers, UserOrder

# Awaited with an outcome once rows have their end; returns once they are committed.
Commit = Callable[[Chunk, Outcome], Coroutine[Any, Any, None]]

_NO_NUMBERS: Final[NDArray[np.int64]] = np.empty(0, np.int64)
_NO_ROWS: Final = pa.record_batch([], names=[])
# The objects of a chunk of one row, and of what carries it; about.
_FEW_ARRAYS: Final = 16 << 10


class ChunkInFlight:
    """One chunk in flight: its slot, and its rows that aren't committed yet."""

    def __init__(self, chunk: Chunk, commit: Commit, slot: Slot) -> None:
        self.commit, self.slot = commit, slot
        self._chunk = chunk
        self._left = chunk.numbers
        self._detached = False
        self._begun = chunk.again

    def detach(self) -> None:
        """From now on it keeps no more of the chunk than is needed to commit parts of it."""
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
        """Its rows of which nothing is to be sent, to be committed first; None where there are none."""
        if self._begun or not (self._chunk.rejects or self._chunk.unchanged):
            return None
        self.detach()
        return self._taken(numbers=_NO_NUMBERS, held=self._left)

    def take_ended(self, part: Part) -> Chunk:
        """What is to be committed now that a part has its end; to be called once for each, in order."""
        if not self._detached:
            return self._chunk
        self._left = np.setdiff1d(self._left, part.sent.numbers, assume_unique=True)
        keys = part.keys[:, : self._chunk.keys.shape[1]]
        held = self._left if len(self._left) else None
        return self._taken(numbers=part.sent.numbers, keys=keys, held=held, again=self._begun)

    def _taken(self, **values: Any) -> Chunk:
        """Its range is committed with these values; what follows is only what was held."""
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
        """Its slot shows this state, if it has one; None: it leaves its slot."""
        if state != self.state and not (self.parked and self.state is None):
            self.chunk.slot.move(self.state, state)
            self.state = state

    def leave_others(self, now: float) -> float:
        """Have a clock of its own from now on, if it has none; since when it has one."""
        self.alone_since = now if self.alone_since is None else self.alone_since
        return self.alone_since

    def begin_anew(self, *, rounds: int = 0) -> None:
        """Forget how it failed, but not what became of its rows: what is sent next is smaller."""
        self.failures = self.passes = self.by_chance = 0
        self.since, self.alone_since, self.rounds = math.inf, None, rounds
        self.hot = self.halved = False

    def divide(self, chosen: Chosen) -> Self:
        """Take out some identifications, none of which has its end."""
        other = Claim.divide(self, chosen)  # zero-argument `super()` doesn't work in a class with slots
        other.sent, self.sent = (only(self.sent, np.flatnonzero(some)) for some in (chosen, ~chosen))
        self.chunk.detach()
        if self.state is not None:
            self.chunk.slot.move(None, self.state)
        return other


class PartsInFlight:
    """The parts in flight, in the order of their users; `begin` is called with each that is to be sent.

    `parked` are those that are parked and without an answer, with the bytes that each had then, together
    `parked_bytes`; `unanswered` counts identifications. `changed` is called when one of these gets less.
    `complete` is set once no more chunks come.
    """

    def __init__(
        self,
        times: SlotTimes,
        hot_users: HotUsers,
        *,
        begin: Callable[[Part], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        changed: Callable[[], object],
        stopping: Callable[[], bool],
    ) -> None:
        self.parked: dict[Part, int] = {}
        self.parked_bytes = self.unanswered = 0
        self.complete = False
        self._held_before = 0  # how many of `unanswered` an earlier process held
        self.hot_users, self.begin, self.spawn = hot_users, begin, spawn
        self._times, self._changed, self._stopping = times, changed, stopping
        self._order = UserOrder[Part]()

    def take(self, chunk: Chunk, commit: Commit) -> None:
        """Take the next chunk, for which a slot is free, and send what can be sent."""
        keys = chunk.keys.copy() if chunk.linked is None else np.column_stack([chunk.keys, chunk.linked])
        sent = chunk
        if chunk.rejects or chunk.unsent or chunk.skipped:  # which the chunk commits with
            sent = replace(chunk, rejects=(), unsent=(), skipped=())
        whole = ChunkInFlight(chunk, commit, Slot(self._times))
        part = Part(places=places(chunk), keys=keys, chunk=whole, sent=sent)
        part.enter("user")
        self._count_unanswered(part, part.users)
        self._order.enter(part)
        self._proceed(part)

    def split(self, part: Part, chosen: Chosen) -> Part:
        """Take identifications without an end out of a part, as one of their own; all are the part itself."""
        if chosen.all():
            return part
        other = self._order.split(part, chosen)
        if part in self.parked:
            self.parked[other] = 0
        return other

    def divide(self, part: Part, *groups: NDArray[np.int64]) -> list[Part | None]:
        """Divide a part into groups of positions, which are all of it; None for a group without any."""
        each = [part.places[group] for group in groups]
        return [self.split(part, np.isin(part.places, some)) if len(some) else None for some in each]

    def halve(self, part: Part) -> None:
        """Send the two halves of a part, each by itself."""
        for half in self.divide(part, *halves(part.users)):
            if half is not None:
                self.begin(half)

    def park(self, part: Part) -> None:
        """A part will take long: it keeps no slot, and others go ahead without its users."""
        if not part.parked:
            self._order.park(part)
            part.enter(None)
            self.parked[part] = sum(map(len, part.sent.body)) + int(part.sent.rows.nbytes) + _FEW_ARRAYS
            self.parked_bytes += self.parked[part]
            self._changed()
            self._proceed_all(part.after)

    def hold(self, part: Part) -> None:
        """A part was refused, and waits; its users' later rows may be sent meanwhile, but not committed."""
        self.park(part)
        self.parked_bytes -= self.parked.pop(part)
        part.answered = True
        self._count_unanswered(part, -part.users)
        self._changed()
        self._proceed_all(part.after)

    @property
    def only_held_left(self) -> bool:
        """Whether all that is left was held by an earlier process, when others of its chunk had passed."""
        return self.complete and self.unanswered == self._held_before

    def _count_unanswered(self, part: Part, users: int) -> None:
        self.unanswered += users
        self._held_before += users if part.sent.again else 0

    def finish(self, part: Part, outcome: Outcome) -> None:
        """A part has its end."""
        self._end(part, outcome)
        if outcome.rejects and self.hot_users:
            # Rows that wait for a user whose time is over have their end without a request.
            for key in part.keys[self.hot_users.over(part.keys), 0].tolist():
                self._proceed_all(one for one in self._order.queue(key) if not one.begun)

    def _proceed_all(self, some: Iterable[Part]) -> None:
        for one in tuple(some):
            self._proceed(one)

    def _proceed(self, part: Part) -> None:
        """Do what can be done with a part by now: send it, or some of it, or commit it."""
        hot = self.hot_users
        if part.begun:
            self._commit_if_ended(part)
        elif self._stopping():
            pass
        elif part.parked:
            if (over := hot.over(part.keys)).any():
                hopeless = self.split(part, over)
                hopeless.begun = hopeless.given_up = True
                reason = f"not sent, as the server kept refusing this user: {hot.message(hopeless.keys)}"
                self._end(hopeless, handed_back(hopeless.sent, "transient", reason, "unsent"))
            if not part.begun and all(one.answered for one in part.before):
                self._send(part)
        elif all(one.parked for one in part.before):
            slow = part.waiting() | hot.known(part.keys) if part.before or hot else None
            if slow is None or not slow.any():
                self._send(part)
                return
            slow_part = self.split(part, slow)
            self.park(slow_part)
            if slow_part is not part:
                self._send(part)
            else:  # it owns what it has, and what isn't sent of its chunk is committed at once
                part.sent = only(part.sent, np.arange(part.users))
                if (unsent := part.chunk.take_unsent()) is not None:
                    self.spawn(part.chunk.commit(unsent, Outcome()))
                part.chunk.detach()
            self._proceed(slow_part)

    def _send(self, part: Part) -> None:
        part.begun, part.alone_since = True, self.hot_users.since(part.keys)
        part.enter("request")
        if part.users:
            self.begin(part)
        else:
            self._end(part, Outcome())

    def _end(self, part: Part, outcome: Outcome) -> None:
        part.outcome = outcome
        if not part.answered:
            self._count_unanswered(part, -part.users)
            self._changed()
        self._commit_if_ended(part)

    def _commit_if_ended(self, part: Part) -> None:
        """Commit a part that has its end, unless an earlier one of its users has none.

        Committed before that, they would be sent out of order by the next run. What was never sent may be.
        """
        if part.outcome is not None and (part.given_up or not part.before):
            outcome, part.outcome = part.outcome, None
            part.enter("commit")
            self.spawn(self._commit(part, part.chunk.take_ended(part), outcome))

    async def _commit(self, part: Part, chunk: Chunk, outcome: Outcome) -> None:
        await part.chunk.commit(chunk, outcome)
        after = self._order.leave(part)
        self.parked_bytes -= self.parked.pop(part, 0)
        part.enter(None)
        self._changed()
        self._proceed_all(after)
