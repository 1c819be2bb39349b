"""Who of the snapshot is in an export, and who has left."""

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
    """Remembers who was seen, one bit for each entry of the snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._seen = Bits(len(snapshot))

    def see(self, keys: NDArray[np.uint64]) -> None:
        """Users of shape (n, w) are there: every row of the export counts, also one that is rejected."""
        for column in keys.T:
            self._seen.add(self._snapshot.find(column))

    def absent(self, ids: KnownIds) -> Iterator[Absent]:
        """Who is in the snapshot, has known ids and wasn't seen; in ascending order of keys, in batches."""
        for first, keys in self._snapshot.sorted_keys():
            for start in range(0, len(keys), _ROWS):
                part = keys[start : start + _ROWS]
                seen = self._seen.has(np.arange(first + start, first + start + len(part)))
                for found, rows in ids.of(part[~seen]):
                    yield Absent(found, rows)
