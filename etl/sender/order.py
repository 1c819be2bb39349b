"""Never two requests in flight for one user: who has to wait for whom. No I/O."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

NOBODY: Keys = np.empty(0, dtype=np.uint64)
# Far more slots than keys under way, and two for each: a stranger's key seldom finds both of them taken.
_SLOTS = 1 << 22
_ONE = np.uint32(1)  # of the type of the slots: numpy counts twenty times as fast


class Order:
    """The users of the chunks that are under way, each chunk known by its ticket (1, 2, 3 ...)."""

    def __init__(self) -> None:
        self._open: dict[int, Keys] = {}  # sorted, each key once
        self._left: dict[int, Keys] = {}  # of some tickets, whose requests aren't all answered: who is left
        self._taken = np.zeros(_SLOTS, dtype=np.uint32)  # how many keys under way fall into each slot

    def enter(self, ticket: int, keys: Keys) -> list[int]:
        """Put a chunk's users under way; say which earlier tickets have to leave before it may be sent.

        `keys` may have any shape.
        """
        users = np.unique(keys) if keys.ndim > 1 and keys.shape[1] > 1 else np.sort(keys, axis=None)
        earlier = self._sharing(users)
        self._put(ticket, users)
        return earlier

    def leave(self, ticket: int) -> None:
        """The chunk is settled, or given up."""
        self._left.pop(ticket, None)
        np.subtract.at(self._taken, _slots(self._open.pop(ticket)), _ONE)

    def narrow(self, ticket: int, keys: Keys) -> None:
        """Of the chunk's users only these have requests without an answer.

        The others are still the ticket's: until it leaves, nothing that comes after them is settled.
        """
        self._left[ticket] = np.unique(keys)

    def has(self, ticket: int) -> bool:
        """Whether the ticket is under way."""
        return ticket in self._open

    def shared(self, ticket: int, keys: Keys) -> NDArray[np.bool_]:
        """Which of `keys` (any shape) have requests of the ticket without an answer."""
        return _found(keys, self._left.get(ticket, self._open.get(ticket, NOBODY)))

    def _sharing(self, users: Keys) -> list[int]:
        # Most chunks share nobody; the slots say so for nearly all of their keys.
        suspects = users[(self._taken[_slots(users)] > 0).all(axis=0)]
        if not len(suspects):
            return []
        return [ticket for ticket, keys in self._open.items() if _found(suspects, keys).any()]

    def _put(self, ticket: int, users: Keys) -> None:
        self._open[ticket] = users
        np.add.at(self._taken, _slots(users), _ONE)


def _slots(keys: Keys) -> NDArray[np.int64]:
    """Two slots for each key, shape (2, n)."""
    return np.stack([keys, keys >> np.uint64(32)]).astype(np.int64) & (_SLOTS - 1)


def _found(wanted: Keys, among: Keys) -> NDArray[np.bool_]:
    """Which of `wanted` are in the sorted `among`; the shape of `wanted`."""
    if not len(among):
        return np.zeros(wanted.shape, dtype=np.bool_)
    places = np.searchsorted(among, wanted)
    found: NDArray[np.bool_] = among[np.minimum(places, len(among) - 1)] == wanted
    return found
