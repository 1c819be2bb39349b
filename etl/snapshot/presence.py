"""Who of the snapshot is in an export, and who has left.

What a row says of a device alone goes to the user whom the device is linked to. So that user is there, and
nothing is to be unset by that device while its user is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from etl.snapshot.bits import Bits
from etl.snapshot.links import SLOTS, slots_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

    from etl.snapshot.ids import KnownIds
    from etl.snapshot.snapshot_file import Snapshot

_ROWS: Final = 16_384


@dataclass(frozen=True, slots=True)
class Absent:
    """m users who left: `keys` (uint64, shape (m,)), and their `ids` (`user_id` or `device_id`, not both)."""

    keys: NDArray[np.uint64]
    ids: pa.RecordBatch


class Presence:
    """Remembers who was seen, one bit for each entry of the snapshot, and another for devices alone."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._seen = Bits(len(snapshot))
        self._alone = Bits(len(snapshot))
        self._new: Bits | None = (
            None  # users whom the snapshot doesn't know, who may have devices that it knows
        )

    def see(self, keys: NDArray[np.uint64]) -> None:
        """Users of shape (n, w) are there: every row of the export counts, also one that is rejected."""
        positions = [self._snapshot.find(column) for column in keys.T]
        for column in positions:
            self._seen.add(column)
        if keys.shape[1] == 2:
            self._alone.add(positions[0][keys[:, 0] == keys[:, 1]])
            new = keys[positions[0] < 0, 0]
            if len(new):
                self._new = Bits(SLOTS) if self._new is None else self._new
                self._new.add(slots_of(new))

    def absent(self, ids: KnownIds) -> Iterator[Absent]:
        """Who is in the snapshot, has known ids and wasn't seen; in ascending order of keys, in batches."""
        self._see_owners()
        pieces = zip(self._snapshot.sorted_keys(), self._snapshot.owners(), strict=True)
        for (first, keys), (_, owners) in pieces:
            for start in range(0, len(keys), _ROWS):
                part = slice(start, min(start + _ROWS, len(keys)))
                seen = self._seen.has(np.arange(first + part.start, first + part.stop))
                gone = np.flatnonzero(~seen)
                linked = gone[owners[part][gone] != 0]
                there = self._are_there(owners[part][linked])
                gone = np.setdiff1d(gone, linked[there], assume_unique=True)
                for found, rows in ids.of(keys[part][gone]):
                    yield Absent(found, rows)

    def _are_there(self, users: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which users were seen; perhaps also one who wasn't and is new, which leaves a device alone."""
        positions = self._snapshot.find(users)
        there = self._seen.has(positions)
        if self._new is not None:
            there |= (positions < 0) & self._new.has(slots_of(users))
        return there

    def _see_owners(self) -> None:
        """Whoever a device that was named alone is linked to is there."""
        if len(self._alone):
            for first, owners in self._snapshot.owners():
                linked = np.flatnonzero(owners)
                named = linked[self._alone.has(first + linked)]
                self._seen.add(self._snapshot.find(owners[named]))
