"""Never two requests in flight for one user: who has to wait for whom. No I/O."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

NOBODY: Keys = np.empty(0, dtype=np.uint64)
# Far more slots than keys under way, and two for each: a stranger's key seldom finds both of them taken.
_SLOTS = 1 << 21
# Counts up to more chunks than can be under way. Small, for the processor's caches.
_COUNT = np.uint16


class Order:
    """The users of the chunks that are under way, each chunk known by its ticket (1, 2, 3 ...)."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[Keys, NDArray[np.intp]]] = {}  # with the slots of the keys
        self._left: dict[int, Keys] = {}  # of some tickets, whose requests aren't all answered: who is left
        self._taken = np.zeros(_SLOTS, dtype=_COUNT)  # how many chunks under way have a key in each slot

    def enter(self, ticket: int, keys: Keys) -> list[int]:
        """Put a chunk's users under way; say which earlier tickets have to leave before it may be sent.

        `keys` may have any shape.
        """
        users = keys.flatten()  # a copy: they stay for longer than what they are part of
        slots = _slots(users)
        counts = self._taken[slots]
        earlier = self._sharing(users, counts > 0)
        self._open[ticket] = users, slots
        # A slot that a chunk has twice counts once, here and when it leaves.
        self._taken[slots] = counts + _COUNT(1)
        return earlier

    def leave(self, ticket: int) -> None:
        """The chunk is settled, or given up."""
        self._left.pop(ticket, None)
        self._taken[self._open.pop(ticket)[1]] -= _COUNT(1)

    def narrow(self, ticket: int, keys: Keys) -> None:
        """Of the chunk's users only these have requests without an answer.

        The others are still the ticket's: until it leaves, nothing that comes after them is settled.
        """
        self._left[ticket] = keys.flatten()

    def has(self, ticket: int) -> bool:
        """Whether the ticket is under way."""
        return ticket in self._open

    def shared(self, ticket: int, keys: Keys) -> NDArray[np.bool_]:
        """Which of `keys` (any shape) have requests of the ticket without an answer."""
        left = self._left.get(ticket)
        return np.isin(keys, self._users(ticket) if left is None else left)

    def _users(self, ticket: int) -> Keys:
        return self._open[ticket][0] if ticket in self._open else NOBODY

    def _sharing(self, users: Keys, taken: NDArray[np.bool_]) -> list[int]:
        # Most chunks share nobody; the slots say so for nearly all of their keys.
        suspects = users[taken[::2] & taken[1::2]]
        if not len(suspects):
            return []
        under_way = [keys for keys, _ in self._open.values()]
        found = np.flatnonzero(np.isin(np.concatenate(under_way), suspects))
        borders = np.cumsum([len(keys) for keys in under_way])
        tickets = list(self._open)
        return [tickets[place] for place in np.unique(np.searchsorted(borders, found, side="right"))]


def without(keys: Keys, gone: Keys) -> Keys:
    """The rows of `keys` (shape (k, w)) less those of `gone`, one for one: two users may have one key."""
    _, inverse = np.unique(np.concatenate([gone, keys]), axis=0, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    same = inverse.ravel()[order]
    # Of each group of equal rows, those that are gone come first, and take as many of the others with them.
    place = np.arange(len(same)) - np.searchsorted(same, same)
    lost = np.bincount(inverse.ravel()[: len(gone)], minlength=int(same[-1]) + 1)[same]
    kept = order[place >= 2 * lost] - len(gone)
    return keys[np.sort(kept)]


def _slots(keys: Keys) -> NDArray[np.intp]:
    """Two slots for each key, side by side, from its two halves; shape (2n,)."""
    return (keys.view(np.uint32) & np.uint32(_SLOTS - 1)).astype(np.intp)
