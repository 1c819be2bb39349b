"""Who of the snapshot is in an export, and who has left.

What a row says of a device alone goes to the user whom the device is linked to. So that user is there, and
nothing is to be unset by that device while its user is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from etl.changes.bits import Bits

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

    from etl.changes.ids import KnownIds
    from etl.changes.snapshot import Snapshot

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

    def see(self, keys: NDArray[np.uint64]) -> None:
        """Users of shape (n, w) are there: every row of the export counts, also one that is rejected."""
        for column in keys.T:
            self._seen.add(self._snapshot.find(column))
        if keys.shape[1] == 2:
            alone = keys[:, 0] == keys[:, 1]
            self._alone.add(self._snapshot.find(keys[alone, 0]))

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
                there = self._seen.has(self._snapshot.find(owners[part][linked]))
                gone = np.setdiff1d(gone, linked[there], assume_unique=True)
                for found, rows in ids.of(keys[part][gone]):
                    yield Absent(found, rows)

    def _see_owners(self) -> None:
        """Whoever a device that was named alone is linked to is there."""
        if len(self._alone):
            for first, owners in self._snapshot.owners():
                linked = np.flatnonzero(owners)
                named = linked[self._alone.has(first + linked)]
                self._seen.add(self._snapshot.find(owners[named]))
