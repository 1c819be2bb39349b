"""Writing the snapshot anew from what was accepted: whole or not at all, partition by partition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl.changes.columns import (
    added_entries,
    added_rows,
    added_schema,
    snapshot_entries,
    snapshot_rows,
    snapshot_schema,
)
from etl.changes.comparison import device_keys
from etl.changes.merging import last_given, merged, without
from etl.changes.rewriting import Rewriting
from etl.changes.spill import lowest_keys

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from etl.changes.layout import Layout
    from etl.changes.snapshot import Snapshot
    from etl.changes.stamp import Stamp
    from etl.model import Prints


class Renewal(Rewriting):
    """Gathers what was accepted, in source order, and makes a new snapshot of it and the old one.

    See `Rewriting`. What is forgotten and then added stays. Raises ValueError for an old snapshot of another
    mode.
    """

    def __init__(self, path: Path, layout: Layout, stamp: Stamp, *, old: Snapshot | None = None) -> None:
        if old is not None and old.mode != layout.mode:
            raise ValueError(f"the snapshot is by {old.mode}, not by {layout.mode}")
        super().__init__(path, added_schema(layout))
        self._layout = layout
        self._stamp = stamp
        self._old = old
        # Fingerprints that stay are those of the old one; new ones were made to be compared with it.
        self._schema = snapshot_schema(layout, stamp, layout.hashing if old is None else old.hashing)

    def add(self, keys: NDArray[np.uint64], prints: Prints) -> None:
        """Rows were accepted: `keys` of shape (m, w), `prints` of shape (m, p); 0 leaves what was before.

        Of two rows of a user the later one counts; in cumulative columns, all do. A row with two ids makes an
        entry for each, both with these fingerprints, or, of shape (m, 2p), each with its own.
        """
        if keys.shape[1] == 2:
            devices = device_keys(keys)
            places = np.flatnonzero(np.stack([np.ones(len(keys), np.bool_), devices != keys[:, 0]], axis=1))
            keys = np.stack([keys[:, 0], devices], axis=1).ravel()[places]
            columns = len(self._layout.names)
            own = prints.shape[1] > columns
            prints = prints.reshape(-1, columns)[places] if own else prints[places // 2]
        self._added.add(added_rows(keys.ravel(), prints.astype(self._layout.dtype), self._added.schema))

    def finish(self) -> int:
        """Write the new snapshot in place of the old one; the number of its entries."""
        most = self._added.rows + (0 if self._old is None else len(self._old))
        return self._write(self._schema, most * (16 + self._layout.dtype.itemsize * len(self._layout.names)))

    def _partition(self, first: int, stop: int) -> pa.RecordBatch:
        """The entries of the buckets `first` to `stop - 1`."""
        if self._old is None:
            old = snapshot_entries([], (), self._layout)
        else:
            old = self._old.entries(*lowest_keys(first, stop), self._layout)
        added = added_entries(self._added.taken(first, stop), self._layout, self._stamp.number)
        stay = without(old, self._gone(first, stop))
        return snapshot_rows(
            merged(stay, last_given(added, self._layout.cumulative)), self._layout, self._schema
        )
