"""Never two requests in flight for one user: which rows have to wait for which. No I/O."""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..arrow.hashing import Keys, keys_in

Places = NDArray[np.int64]
Chosen = NDArray[np.bool_]

# Far more buckets than keys in flight, and two for each: a stranger's key seldom finds both of them taken.
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

    places: Places
    keys: Keys
    ticket: int = 0
    parked: bool = False
    answered: bool = False
    before: dict[Self, None] = field(default_factory=dict)
    after: dict[Self, None] = field(default_factory=dict)
    buckets: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))

    def where(self, places: Places) -> Chosen:
        """Which of its identifications stand at these places, all of which it has; shape (k,)."""
        found = np.zeros(len(self.places), dtype=np.bool_)
        found[np.searchsorted(self.places, places)] = True
        return found

    def waiting(self) -> Chosen:
        """Which of its identifications have to wait for a claim before it; shape (k,)."""
        found = np.zeros(len(self.places), dtype=np.bool_)
        for one in self.before:
            found |= keys_in(self.keys, one.keys).any(axis=1)
        return found

    def divide(self, chosen: Chosen) -> Self:
        """Take some, not all, of its identifications out of it; only `UserOrder.split` calls this."""
        other = type(self)(
            places=self.places[chosen],
            keys=self.keys[chosen],
            ticket=self.ticket,
            parked=self.parked,
            answered=self.answered,
        )
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
        if len(suspects):
            for one in self._holders(suspects):
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
        for part in (claim, other):
            part.buckets = _buckets(part.keys.ravel())
            self._taken[part.buckets] += _COUNT(1)
            self._index(part)
        return other

    def park(self, claim: C) -> None:
        """What the claim has will take long: others are to go ahead without its users."""
        if not claim.parked:
            self._in_slots.pop(claim)
            claim.parked = True
            self._index(claim)

    def leave(self, claim: C) -> list[C]:
        """The claim is committed; those that waited for it."""
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
            numbers = np.unique(np.searchsorted(borders, shared, side="right"))
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
