"""Whose a device is, as far as the rows of a run show: what names it alone waits for that user's rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from ..arrow.hashing import Keys
from ..model import Chunk
from ..subject import device_keys, names_device_alone

# New pairs are sorted once there are so many, or when somebody asks.
_UNSORTED: Final = 1 << 16


class DeviceOwners:
    """Whose a device is, as rows of this run have shown: later rows of the device alone are that user's.

    Pairs of keys, 16 bytes for each device; of a device's users the last one counts.

    They are kept in sorted runs, each more than twice as long as the one after it.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[Keys, Keys]] = []
        self._new: list[Keys] = []

    def learn(self, keys: Keys) -> None:
        """Add the keys of rows in source order; shape (n, w). Nothing is learned where w is 1."""
        if keys.shape[1] == 2:
            self._new.append(keys[device_keys(keys) != keys[:, 0]])  # rows that name both
            if sum(map(len, self._new)) >= _UNSORTED:
                self._sort()

    def on(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The same chunks, with the owners of devices that are named alone. Their rows are learned, too."""
        for chunk in chunks:
            self.learn(chunk.keys)
            linked = self.users(chunk.keys)
            yield chunk if linked is None else replace(chunk, linked=linked)

    def users(self, keys: Keys) -> Keys | None:
        """The key of the user of each identification, shape (k,); None if these are the first of `keys`."""
        alone = np.flatnonzero(names_device_alone(keys))
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
        pairs = np.concatenate([np.empty((0, 2), np.uint64), *self._new])
        self._new = []
        if not len(pairs):
            return
        users, devices = pairs.T
        while True:
            devices, last = np.unique(devices[::-1], return_index=True)  # of equal ones the last stays
            users = users[::-1][last]
            if not self._runs or len(self._runs[-1][0]) > 2 * len(devices):
                break
            older = self._runs.pop()
            devices, users = np.concatenate([older[0], devices]), np.concatenate([older[1], users])
        self._runs.append((devices, users))
