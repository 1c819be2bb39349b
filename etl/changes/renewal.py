"""Writing the snapshot anew from what was accepted: whole or not at all, partition by partition."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

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
from etl.changes.files import fresh_name, replacing, translated
from etl.changes.merging import last_given, merged, without
from etl.changes.partitions import KEY
from etl.changes.spill import BUCKETS, Spill, lowest_keys

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from etl.changes.layout import Layout
    from etl.changes.snapshot import Snapshot
    from etl.changes.stamp import Stamp
    from etl.model import Prints

PARTITION_BYTES: Final = 16_000_000
_FORGOTTEN: Final = pa.schema([pa.field(KEY, pa.uint64(), nullable=False)])


class Renewal:
    """Gathers what was accepted, in source order, and makes a new snapshot of it and the old one.

    Use it as a context manager. Until `finish` has returned, the old snapshot is what there is.
    Raises ValueError for an old snapshot of another mode, StateError where the folder can't be written.
    """

    def __init__(self, path: Path, layout: Layout, stamp: Stamp, *, old: Snapshot | None = None) -> None:
        if old is not None and old.mode != layout.mode:
            raise ValueError(f"the snapshot is by {old.mode}, not by {layout.mode}")
        self._path = path
        self._layout = layout
        self._stamp = stamp
        self._old = old
        self._added = Spill(path, added_schema(layout))
        self._forgotten = Spill(path, _FORGOTTEN)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with translated(self._path):
            fresh_name(self._path).unlink(missing_ok=True)
        self._open.enter_context(self._added)
        self._open.enter_context(self._forgotten)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def add(self, keys: NDArray[np.uint64], prints: Prints) -> None:
        """Rows were accepted: `keys` of shape (m, w), `prints` of shape (m, p); 0 leaves what was before.

        Of two rows of a user the later one counts. A row with two ids makes an entry for each.
        """
        if keys.shape[1] == 2:
            devices = device_keys(keys)
            places = np.flatnonzero(np.stack([np.ones(len(keys), np.bool_), devices != keys[:, 0]], axis=1))
            keys = np.stack([keys[:, 0], devices], axis=1).ravel()[places]
            prints = prints[places // 2]
        self._added.add(added_rows(keys.ravel(), prints.astype(self._layout.dtype), self._added.schema))

    def forget(self, keys: NDArray[np.uint64]) -> None:
        """Leave out what the old snapshot has of these m users; what is added of them stays."""
        self._forgotten.add(pa.RecordBatch.from_arrays([pa.array(keys)], schema=_FORGOTTEN))

    def finish(self) -> int:
        """Write the new snapshot in place of the old one; the number of its entries."""
        entries = 0
        step = BUCKETS >> self._partition_bits()
        schema = snapshot_schema(self._layout, self._stamp)
        with replacing(self._path, schema) as writer:
            for first in range(0, BUCKETS, step):
                rows = self._partition(first, first + step, schema)
                entries += rows.num_rows
                if rows.num_rows:
                    writer.write_batch(rows)
        return entries

    def _partition_bits(self) -> int:
        """How many of the highest bits of a key say in which partition it is."""
        most = self._added.rows + (0 if self._old is None else len(self._old))
        size = most * (16 + self._layout.dtype.itemsize * len(self._layout.names))
        return min(math.ceil(math.log2(max(size / PARTITION_BYTES, 1))), BUCKETS.bit_length() - 1)

    def _partition(self, first: int, stop: int, schema: pa.Schema) -> pa.RecordBatch:
        """The entries of the buckets `first` to `stop - 1`."""
        if self._old is None:
            old = snapshot_entries([], (), self._layout)
        else:
            old = self._old.entries(*lowest_keys(first, stop), self._layout)
        gone = self._forgotten.taken(first, stop).column(KEY).to_numpy()
        added = added_entries(self._added.taken(first, stop), self._layout, self._stamp.number)
        return snapshot_rows(merged(without(old, gone), last_given(added)), self._layout, schema)
