"""Never two requests in flight for one user: which rows have to wait for which. No I/O."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from etl.keys import Keys, among

Places = NDArray[np.int64]
Mask = NDArray[np.bool_]

# Far more slots than keys under way, and two for each: a stranger's key seldom finds both of them taken.
_SLOTS: Final = 1 << 21
# Counts up to more claims than can be under way. Small, for the processor's caches.
_COUNT: Final = np.uint16
_ticket_of: Final = attrgetter("ticket")


@dataclass(slots=True, eq=False)
class Claim:
    """Identifications of one chunk that are under way together: `places` in it, (k,), and `keys`, (k, w).

    `ticket` counts the chunks. `before` are the earlier claims that share a user with it and are still under
    way, `after` the later ones that wait for it. `apart`: it keeps no lane, so others go ahead without its
    users. `answered`: every request of it has its answer, so later rows of its users may be sent, but not
    committed.
    """

    ticket: int
    places: Places
    keys: Keys
    apart: bool = False
    answered: bool = False
    before: dict[Claim, None] = field(default_factory=dict)
    after: dict[Claim, None] = field(default_factory=dict)
    slots: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))

    def where(self, places: Places) -> Mask:
        """Which of its identifications stand at these places, all of which it has; shape (k,)."""
        found = np.zeros(len(self.places), dtype=np.bool_)
        found[np.searchsorted(self.places, places)] = True
        return found

    def waiting(self) -> Mask:
        """Which of its identifications have to wait for a claim before it; shape (k,)."""
        found = np.zeros(len(self.places), dtype=np.bool_)
        for one in self.before:
            found |= among(self.keys, one.keys).any(axis=1)
        return found


class Order:
    """The claims under way, in source order.

    A claim waits for the latest earlier claim of each of its users, and that one for the one before it: a
    queue for each user. So whoever leaves wakes the next in the queue, however many stand behind it.
    Claims that are apart stand in queues by key; of the others there are no more than lanes, and they are
    looked through where a key may be one of theirs.
    """

    def __init__(self) -> None:
        self._tickets = 0
        self._in_lanes: dict[Claim, None] = {}
        self._queues: dict[int, list[Claim]] = {}
        self._taken = np.zeros(_SLOTS, dtype=_COUNT)  # how many claims have a key in each slot

    def enter(self, places: Places, keys: Keys) -> Claim:
        """Put the identifications of the next chunk under way, at these places in it, with these keys."""
        self._tickets += 1
        claim = Claim(self._tickets, places, keys.copy())  # a copy: it stays for longer than the chunk
        users = claim.keys.ravel()
        claim.slots = _slots(users)
        counts = self._taken[claim.slots]
        taken = counts > 0
        # Most chunks share nobody; the slots say so for nearly all of their keys.
        suspects = users[taken[::2] & taken[1::2]]
        if len(suspects):
            for one in self._holders(suspects):
                _link(one, claim)
        # A slot that a claim has twice counts once, here and when it leaves.
        self._taken[claim.slots] = counts + _COUNT(1)
        self._in_lanes[claim] = None
        return claim

    def split(self, claim: Claim, chosen: Mask) -> Claim:
        """Take some, not all, of a claim's identifications out of it, as a claim of their own."""
        self._forget(claim)
        other = Claim(
            claim.ticket, claim.places[chosen], claim.keys[chosen], apart=claim.apart, answered=claim.answered
        )
        claim.places, claim.keys = claim.places[~chosen], claim.keys[~chosen]
        for one in tuple(claim.before):
            if _share(one, other):
                _link(one, other)
            if not _share(one, claim):
                _unlink(one, claim)
        for one in tuple(claim.after):
            if _share(other, one):
                _link(other, one)
            if not _share(claim, one):
                _unlink(claim, one)
        for part in (claim, other):
            part.slots = _slots(part.keys.ravel())
            self._taken[part.slots] += _COUNT(1)
            self._index(part)
        return other

    def set_apart(self, claim: Claim) -> None:
        """What the claim has will take long: others are to go ahead without its users."""
        if not claim.apart:
            self._in_lanes.pop(claim)
            claim.apart = True
            self._index(claim)

    def leave(self, claim: Claim) -> list[Claim]:
        """The claim is committed; those that waited for it."""
        self._forget(claim)
        after = list(claim.after)
        for one in after:
            _unlink(claim, one)
            for earlier in claim.before:  # it left out of turn
                if _share(earlier, one):
                    _link(earlier, one)
        for earlier in tuple(claim.before):
            _unlink(earlier, claim)
        return after

    def queue(self, key: int) -> tuple[Claim, ...]:
        """The claims set apart that have a key, in source order."""
        return tuple(self._queues.get(key, ()))

    def _holders(self, suspects: Keys) -> Iterable[Claim]:
        """Claims that have one of these keys: of those apart only the latest of each queue."""
        found: dict[Claim, None] = {}
        if self._queues:
            for key in suspects.tolist():
                queue = self._queues.get(key)
                if queue:
                    # Two users of one chunk may have one key, and stand in two claims.
                    last = bisect_right(queue, queue[-1].ticket - 1, key=_ticket_of)
                    found |= dict.fromkeys(queue[last:])
        if self._in_lanes:
            claims = list(self._in_lanes)
            keys = [one.keys.ravel() for one in claims]
            shared = np.flatnonzero(among(np.concatenate(keys), suspects))
            borders = np.cumsum([len(some) for some in keys])
            numbers = np.unique(np.searchsorted(borders, shared, side="right"))
            found |= dict.fromkeys(claims[number] for number in numbers)
        return found

    def _index(self, claim: Claim) -> None:
        if not claim.apart:
            self._in_lanes[claim] = None
            return
        for key in {*claim.keys.ravel().tolist()}:
            insort(self._queues.setdefault(key, []), claim, key=_ticket_of)

    def _forget(self, claim: Claim) -> None:
        self._taken[claim.slots] -= _COUNT(1)
        if not claim.apart:
            del self._in_lanes[claim]
            return
        for key in {*claim.keys.ravel().tolist()}:
            queue = self._queues[key]
            queue.remove(claim)
            if not queue:
                del self._queues[key]


def _link(earlier: Claim, later: Claim) -> None:
    earlier.after[later] = None
    later.before[earlier] = None


def _unlink(earlier: Claim, later: Claim) -> None:
    del earlier.after[later]
    del later.before[earlier]


def _share(one: Claim, other: Claim) -> bool:
    """Whether two claims have a key in common."""
    small, large = sorted((one.keys, other.keys), key=len)
    return bool(among(large, small).any())


def _slots(keys: Keys) -> NDArray[np.intp]:
    """Two slots for each key, side by side, from its two halves; shape (2n,)."""
    return (keys.view(np.uint32) & np.uint32(_SLOTS - 1)).astype(np.intp)
