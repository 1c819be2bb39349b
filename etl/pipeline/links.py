"""Whose a device is, as far as rows of a run have said: rows of the device alone are that user's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from etl.keys import Keys
from etl.model import Chunk

# So many pairs are gathered before they are sorted, if nobody asks.
_GATHERED: Final = 1 << 16


class Links:
    """Pairs of keys, 16 bytes for each device; of a device's users the last one counts.

    They are kept in sorted runs, each more than twice as long as the one after it.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[Keys, Keys]] = []
        self._new: list[Keys] = []
        self._gathered = 0

    def learn(self, keys: Keys) -> None:
        """Take the keys of rows in source order; shape (n, w), of which w = 1 says nothing."""
        if keys.shape[1] == 2:
            user, device = keys.T
            pairs = keys[(user != device) & (device != ~user)]  # see `keys.user_keys`
            self._new.append(pairs)
            self._gathered += len(pairs)
            if self._gathered >= _GATHERED:
                self._sort()

    def on(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The same chunks; those with rows of a device alone know whose it is. Rows of chunks are learned."""
        for chunk in chunks:
            self.learn(chunk.keys)
            linked = self.users(chunk.keys)
            yield chunk if linked is None else replace(chunk, linked=linked)

    def users(self, keys: Keys) -> Keys | None:
        """The key of whom each identification is about, shape (k,); None where `keys` (k, w) say it."""
        if keys.shape[1] != 2:
            return None
        alone = np.flatnonzero(keys[:, 0] == keys[:, 1])
        if not len(alone):
            return None
        self._sort()
        found = keys[:, 0].copy()
        for devices, users in self._runs:  # from the oldest on
            places = np.searchsorted(devices, keys[alone, 1]).clip(max=len(devices) - 1)
            known = devices[places] == keys[alone, 1]
            found[alone[known]] = users[places[known]]
        return None if np.array_equal(found, keys[:, 0]) else found

    def _sort(self) -> None:
        pairs = np.concatenate(self._new) if self._gathered else np.empty((0, 2), np.uint64)
        self._new, self._gathered = [], 0
        if not len(pairs):
            return
        self._runs.append(_sorted(pairs[:, 1], pairs[:, 0]))
        while len(self._runs) > 1 and len(self._runs[-2][0]) <= 2 * len(self._runs[-1][0]):
            newer, older = self._runs.pop(), self._runs.pop()
            together = (np.concatenate([one, other]) for one, other in zip(older, newer, strict=True))
            self._runs.append(_sorted(*together))


def _sorted(devices: Keys, users: Keys) -> tuple[Keys, Keys]:
    """By device; of equal ones the last one stays."""
    found, last = np.unique(devices[::-1], return_index=True)
    return found, users[::-1][last]
