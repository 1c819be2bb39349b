"""Which rows wait for which, so that a user has one request in flight at most; refused users. No I/O."""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Final, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..amplitude.responses import Failure, SlowDown, describe
from ..subject import Keys, keys_in
from .backoff import Clock

Chosen = NDArray[np.bool_]

# Far more buckets than keys in flight, and two for each key: those of another key are seldom both taken.
_BUCKETS: Final = 1 << 21
# Counts up to more claims than can be in flight. Small, for the processor's caches.
_COUNT: Final = np.uint16
_ticket_of: Final = attrgetter("ticket")


@dataclass(slots=True, eq=False)
class Claim:
    """Identifications of one chunk that are in flight together: `places` in it, (k,), and `keys`, (k, w).

    `ticket` counts the chunks. `before` are the earlier claims that share a user with it and are still in
    flight, `after` the later ones that wait for it. `parked`: it keeps no slot, so others go ahead without
    its users. `answered`: every request of it has its answer, so later rows of its users may be sent, but
    not committed.
    """

    places: NDArray[np.int64]
    keys: Keys
    ticket: int = 0
    parked: bool = False
    answered: bool = False
    before: dict[Self, None] = field(default_factory=dict)
    after: dict[Self, None] = field(default_factory=dict)
    buckets: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))

    def waiting(self) -> Chosen:
        """Which of its identifications have to wait for a claim before it; shape (k,)."""
        found = np.zeros(len(self.places), dtype=np.bool_)
        for one in self.before:
            found |= keys_in(self.keys, one.keys).any(axis=1)
        return found

    def divide(self, chosen: Chosen) -> Self:
        """Take some, not all, of its identifications out of it; only `UserOrder.split` calls this."""
        other = replace(self, places=self.places[chosen], keys=self.keys[chosen], before={}, after={})
        self.places, self.keys = self.places[~chosen], self.keys[~chosen]
        return other

    def shares_user(self, other: Self) -> bool:
        """Whether two claims have a key in common."""
        small, large = sorted((self.keys, other.keys), key=len)
        return bool(keys_in(large, small).any())

    def wait_for(self, earlier: Self) -> None:
        """Wait until an earlier claim has left."""
        earlier.after[self] = None
        self.before[earlier] = None

    def wait_no_more(self, earlier: Self) -> None:
        """Undo `wait_for`."""
        del earlier.after[self]
        del self.before[earlier]


C = TypeVar("C", bound=Claim)


class UserOrder(Generic[C]):
    """The claims in flight, in source order.

    A claim waits for the latest earlier claim of each of its users, and that one for the one before it: a
    queue for each user. So a claim that leaves wakes the next in the queue, however many stand behind it.
    Claims that are parked stand in queues by key; of the others there are no more than slots, and they are
    looked through where a key may be one of theirs.
    """

    def __init__(self) -> None:
        self._tickets = 0
        self._in_slots: dict[C, None] = {}
        self._queues: dict[int, list[C]] = {}
        self._taken = np.zeros(_BUCKETS, dtype=_COUNT)  # how many claims have a key in each bucket

    def enter(self, claim: C) -> None:
        """Put the identifications of the next chunk in flight."""
        self._tickets += 1
        claim.ticket = self._tickets
        users = claim.keys.ravel()
        claim.buckets = _buckets(users)
        counts = self._taken[claim.buckets]
        taken = counts > 0
        # Most chunks share nobody; the buckets show it for nearly all of their keys.
        suspects = users[taken[::2] & taken[1::2]]
        for one in self._holders(suspects) if len(suspects) else ():
            claim.wait_for(one)
        # A bucket that a claim has twice counts once, here and when it leaves.
        self._taken[claim.buckets] = counts + _COUNT(1)
        self._in_slots[claim] = None

    def split(self, claim: C, chosen: Chosen) -> C:
        """Take some, not all, of a claim's identifications out of it, as a claim of their own."""
        self._forget(claim)
        other = claim.divide(chosen)
        for one in tuple(claim.before):
            if one.shares_user(other):
                other.wait_for(one)
            if not one.shares_user(claim):
                claim.wait_no_more(one)
        for one in tuple(claim.after):
            if other.shares_user(one):
                one.wait_for(other)
            if not claim.shares_user(one):
                one.wait_no_more(claim)
        if claim.shares_user(other):  # a row of a device alone, and one of its user, in one chunk
            earlier, later = sorted((claim, other), key=lambda one: int(one.places[0]))
            later.wait_for(earlier)
        for part in (claim, other):
            part.buckets = _buckets(part.keys.ravel())
            self._taken[part.buckets] += _COUNT(1)
            self._index(part)
        return other

    def park(self, claim: C) -> None:
        """Park a claim that will take long: others go ahead without its users."""
        if not claim.parked:
            self._in_slots.pop(claim)
            claim.parked = True
            self._index(claim)

    def leave(self, claim: C) -> list[C]:
        """Remove a claim that is committed; those that waited for it."""
        self._forget(claim)
        after = list(claim.after)
        for one in after:
            one.wait_no_more(claim)
            for earlier in claim.before:  # it left out of turn
                if earlier.shares_user(one):
                    one.wait_for(earlier)
        for earlier in tuple(claim.before):
            claim.wait_no_more(earlier)
        return after

    def queue(self, key: int) -> tuple[C, ...]:
        """The parked claims that have a key, in source order."""
        return tuple(self._queues.get(key, ()))

    def _holders(self, suspects: Keys) -> dict[C, None]:
        """Claims that have one of these keys: of the parked ones only the latest of each queue."""
        found: dict[C, None] = {}
        for key in suspects.tolist() if self._queues else ():
            if queue := self._queues.get(key):
                # Two users of one chunk may have one key, and stand in two claims.
                last = bisect_right(queue, queue[-1].ticket - 1, key=_ticket_of)
                found |= dict.fromkeys(queue[last:])
        if self._in_slots:
            claims = list(self._in_slots)
            keys = [one.keys.ravel() for one in claims]
            shared = np.flatnonzero(keys_in(np.concatenate(keys), suspects))
            borders = np.cumsum([len(some) for some in keys])
            numbers = np.searchsorted(borders, shared, side="right").tolist()  # ascending
            found |= dict.fromkeys(claims[number] for number in numbers)
        return found

    def _index(self, claim: C) -> None:
        if not claim.parked:
            self._in_slots[claim] = None
            return
        for key in {*claim.keys.ravel().tolist()}:
            insort(self._queues.setdefault(key, []), claim, key=_ticket_of)

    def _forget(self, claim: C) -> None:
        self._taken[claim.buckets] -= _COUNT(1)
        if not claim.parked:
            del self._in_slots[claim]
            return
        for key in {*claim.keys.ravel().tolist()}:
            queue = self._queues[key]
            queue.remove(claim)
            if not queue:
                del self._queues[key]


def _buckets(keys: Keys) -> NDArray[np.intp]:
    """Two buckets for each key, side by side, from its two halves; shape (2n,)."""
    return (keys.view(np.uint32) & np.uint32(_BUCKETS - 1)).astype(np.intp)


# --- users whom the destination refuses ------------------------------------------------------------------

# Of more hot users at once those that were found first are forgotten, and tried again.
_MOST_HOT: Final = 100_000


@dataclass(frozen=True, slots=True)
class _Hot:
    """Since when, the server's message, and whether that was about the user rather than a row."""

    since: float
    message: str
    throttled: bool


class HotUsers:
    """Users whom the destination refuses while others pass, by key: one clock for all rows of each user.

    A user is hot from the first proof until one of the user's rows is taken. `outage` is how many seconds
    after the proof a user is given up. Then rows of a throttled user are not tried any more. Each row of a
    user whose request failed otherwise gets one try: the cause may have been another row.
    """

    def __init__(self, clock: Clock, outage: float) -> None:
        self._clock = clock
        self._outage = outage
        self._users: dict[int, _Hot] = {}

    def __bool__(self) -> bool:
        return bool(self._users)

    def prove(self, keys: Keys, since: float, verdict: Failure) -> None:
        """Note that others passed while requests of users (keys (k, w)) failed; the first proof counts."""
        hot = _Hot(since, describe(verdict), isinstance(verdict, SlowDown))
        for key in keys[:, 0].tolist():
            self._users.setdefault(key, hot)
        while len(self._users) > _MOST_HOT:
            del self._users[next(iter(self._users))]

    def clear(self, keys: Keys) -> None:
        """Note that rows of these users were taken."""
        for key in keys[self.known(keys), 0].tolist() if self._users else ():
            del self._users[key]

    def known(self, keys: Keys) -> Chosen:
        """Which of these identifications are of hot users; shape (k,)."""
        return keys_in(keys[:, 0], np.fromiter(self._users, np.uint64, len(self._users)))

    def since(self, keys: Keys) -> float | None:
        """Since when all of these users are hot; None if one of them isn't."""
        found = [self._users.get(key) for key in keys[:, 0].tolist()] if self._users else [None]
        return None if None in found else max((hot.since for hot in found if hot), default=None)

    def expired(self, keys: Keys) -> Chosen:
        """Which of these identifications are of throttled users who are given up; shape (k,)."""
        found = self.known(keys) if self._users else np.zeros(len(keys), np.bool_)
        for place in np.flatnonzero(found).tolist():
            hot = self._users[int(keys[place, 0])]
            found[place] = hot.throttled and self._clock.now() >= hot.since + self._outage
        return found

    def message(self, keys: Keys) -> str:
        """The server's message about the first of these users, who are hot."""
        return self._users[int(keys[0, 0])].message
