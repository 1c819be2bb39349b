"""Whose device a row means that names a device alone: that of the user whom it was linked to, for good.

Such a row counts for the user's entry as well, or what it said would be taken for nothing when the user's own
rows come again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from etl.snapshot.bits import Bits
from etl.snapshot.comparison import device_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl.snapshot.snapshot_file import Snapshot

SLOTS: Final = 1 << 27  # of a set of keys, most of which it tells apart; 16 MB, made where it is needed
_MOST: Final = 500_000  # links of one run that are kept in memory; beyond them only a device's entry counts


def with_owners(keys: NDArray[np.uint64], snapshot: Snapshot | None) -> NDArray[np.uint64]:
    """The keys of rows (shape (n, w)), with the user in place of a device that is named alone and linked."""
    if keys.shape[1] == 1 or snapshot is None:
        return keys
    alone = np.flatnonzero(_are_alone(keys))
    if len(alone) == 0:
        return keys
    owners = snapshot.owners_at(snapshot.find(keys[alone, 0]))
    linked = owners != 0
    keys = keys.copy()
    keys[alone[linked], 0] = owners[linked]
    return keys


def owners_of(keys: NDArray[np.uint64], snapshot: Snapshot | None) -> NDArray[np.uint64]:
    """The users whom devices are linked to that rows of shape (n, w) name alone; shape (m,)."""
    users = with_owners(keys, snapshot)[:, 0]
    owners: NDArray[np.uint64] = users[users != keys[:, 0]]
    return owners


class Links:
    """The links that a run makes itself, for devices that it names alone, too.

    All rows of the run are to be looked at first, in any order, and then followed in theirs.
    """

    def __init__(self, old: Snapshot | None) -> None:
        self._old = old
        self._alone: Bits | None = None
        self._owners: dict[int, int] = {}

    def look_at(self, keys: NDArray[np.uint64]) -> None:
        """Rows of the run, shape (n, w)."""
        keys = with_owners(keys, self._old)
        devices = keys[_are_alone(keys), 0]
        if len(devices):
            if self._alone is None:
                self._alone = Bits(SLOTS)
            self._alone.add(slots_of(devices))

    def follow(self, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The next rows, with the user in place of a device that is named alone."""
        keys = with_owners(keys, self._old)
        if self._alone is None or keys.shape[1] == 1:
            return keys
        devices = device_keys(keys)
        links = np.flatnonzero((devices != keys[:, 0]) & self._alone.has(slots_of(devices)))
        for user, device in keys[links].tolist() if len(self._owners) < _MOST else ():
            self._owners.setdefault(device, user)
        alone = np.flatnonzero(_are_alone(keys))
        if len(alone) and self._owners:
            keys = keys.copy()
            keys[alone, 0] = [self._owners.get(device, device) for device in keys[alone, 0].tolist()]
        return keys


def _are_alone(keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which rows name a device alone; shape (n,)."""
    if keys.shape[1] == 1:
        return np.zeros(len(keys), dtype=np.bool_)
    alone: NDArray[np.bool_] = keys[:, 0] == keys[:, 1]
    return alone


def slots_of(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where n keys stand in a set of `SLOTS` bits; shape (n,)."""
    slots: NDArray[np.int64] = (keys % np.uint64(SLOTS)).astype(np.int64)
    return slots
