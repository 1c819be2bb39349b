"""Never two requests in flight for one user: who has to wait for whom. No I/O."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_NOBODY: Keys = np.empty(0, dtype=np.uint64)


class Order:
    """The users of the chunks that are under way, each chunk known by its ticket (1, 2, 3 ...)."""

    def __init__(self) -> None:
        self._open: dict[int, Keys] = {}  # sorted, each key once

    def enter(self, ticket: int, keys: Keys) -> list[int]:
        """Put a chunk's users under way; say which earlier tickets have to leave before it may be sent.

        `keys` may have any shape.
        """
        users = np.unique(keys) if keys.ndim > 1 and keys.shape[1] > 1 else np.sort(keys, axis=None)
        earlier = self._sharing(users)
        self._open[ticket] = users
        return earlier

    def leave(self, ticket: int) -> None:
        """The chunk is settled, or given up."""
        del self._open[ticket]

    def narrow(self, ticket: int, keys: Keys) -> None:
        """Of the chunk's users only these are still under way."""
        self._open[ticket] = np.unique(keys)

    def has(self, ticket: int) -> bool:
        """Whether the ticket is under way."""
        return ticket in self._open

    def shared(self, ticket: int, keys: Keys) -> NDArray[np.bool_]:
        """Which of `keys` (any shape) the ticket has under way; all False once it has left."""
        return _found(keys, self._open.get(ticket, _NOBODY))

    def _sharing(self, users: Keys) -> list[int]:
        # A stable sort only merges what is sorted already. Most chunks share nobody; this says so at once.
        everyone = np.sort(np.concatenate([users, *self._open.values()]), kind="stable")
        if not (everyone[1:] == everyone[:-1]).any():
            return []
        return [ticket for ticket, keys in self._open.items() if _found(users, keys).any()]


def _found(wanted: Keys, among: Keys) -> NDArray[np.bool_]:
    """Which of `wanted` are in the sorted `among`; the shape of `wanted`."""
    if not len(among):
        return np.zeros(wanted.shape, dtype=np.bool_)
    places = np.searchsorted(among, wanted)
    found: NDArray[np.bool_] = among[np.minimum(places, len(among) - 1)] == wanted
    return found
