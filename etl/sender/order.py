"""Never two requests in flight for one user: who has to wait for whom. No I/O."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_SLOTS = 1 << 20
_NOBODY: Keys = np.empty(0, dtype=np.uint64)


class Order:
    """The users of the chunks that are under way, each chunk known by its ticket (1, 2, 3 ...)."""

    def __init__(self) -> None:
        self._open: dict[int, Keys] = {}  # sorted
        # How many open keys fall in each slot: most users meet nobody, and this says so at once.
        self._slots = np.zeros(_SLOTS, dtype=np.int32)

    def enter(self, ticket: int, keys: Keys) -> list[int]:
        """Put a chunk's users under way; say which earlier tickets have to leave before it may be sent.

        `keys` may have any shape.
        """
        users = np.sort(keys, axis=None)
        earlier = self._sharing(users)
        self._open[ticket] = users
        np.add.at(self._slots, _slot(users), 1)
        return earlier

    def leave(self, ticket: int) -> None:
        """The chunk is settled, or given up."""
        np.subtract.at(self._slots, _slot(self._open.pop(ticket)), 1)

    def narrow(self, ticket: int, keys: Keys) -> None:
        """Of the chunk's users only these are still under way."""
        self.leave(ticket)
        self.enter(ticket, keys)

    def has(self, ticket: int) -> bool:
        """Whether the ticket is under way."""
        return ticket in self._open

    def shared(self, ticket: int, keys: Keys) -> NDArray[np.bool_]:
        """Which of `keys` (any shape) the ticket has under way; all False once it has left."""
        return _found(keys, self._open.get(ticket, _NOBODY))

    def _sharing(self, users: Keys) -> list[int]:
        suspects = users[self._slots[_slot(users)] > 0]
        if not len(suspects):
            return []
        return [ticket for ticket, keys in self._open.items() if _found(suspects, keys).any()]


def _found(wanted: Keys, among: Keys) -> NDArray[np.bool_]:
    """Which of `wanted` are in the sorted `among`; the shape of `wanted`."""
    if not len(among):
        return np.zeros(wanted.shape, dtype=np.bool_)
    places = np.searchsorted(among, wanted)
    found: NDArray[np.bool_] = among[np.minimum(places, len(among) - 1)] == wanted
    return found


def _slot(keys: Keys) -> NDArray[np.int64]:
    return (keys & np.uint64(_SLOTS - 1)).astype(np.int64)
