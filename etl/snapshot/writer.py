"""Writing the snapshot anew from the old one and what was accepted since: whole, partition by partition."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from .comparison import device_keys
from .file import no_entries, snapshot_rows, snapshot_schema
from .snapshot_entries import (
    IN_DOUBT,
    SnapshotEntries,
    added_entries,
    added_schema,
    doubts_of,
    forget_entries,
    last_certain,
    merge_entries,
)
from .sorted_file import SortedFileWriter
from .spill_buffer import KEY, KEY_FIELD, SpillBuffer, binary_column, lowest_keys

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ..model import Fingerprints
    from .bit_set import BitSet
    from .file import Snapshot
    from .layout import Layout
    from .sorted_file import SnapshotHeader


class SnapshotWriter(SortedFileWriter):
    """Takes what was sent, in source order, and writes a new snapshot of it and the old one.

    `unchanged` are the entries of the old one that the run confirmed: it sent nothing for them, but they get
    its number. See `SortedFileWriter`. Raises ValueError for an old snapshot of another mode.
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        header: SnapshotHeader,
        *,
        old: Snapshot | None = None,
        unchanged: BitSet | None = None,
    ) -> None:
        if old is not None and old.mode != layout.mode:
            raise ValueError(f"the snapshot is by {old.mode}, not by {layout.mode}")
        super().__init__(path, added_schema(layout, sent=True), old)
        self._layout = layout
        self._number = header.number
        self._emptied = SpillBuffer(path, pa.schema([KEY_FIELD]))
        self._snapshot = old
        self._unchanged = unchanged
        # Fingerprints that stay are those of the old one; new ones were made to be compared with it.
        self._schema = snapshot_schema(layout, header, layout.hashing if old is None else old.hashing)

    def add(self, keys: NDArray[np.uint64], fingerprints: Fingerprints) -> None:
        """Add rows that were accepted: `keys` of shape (m, w), `fingerprints` of shape (m, p).

        0 keeps what was before. Of two rows of a user the later one counts; in cumulative columns, all do. A
        row with two ids makes an entry for each, both with these fingerprints, or, of shape (m, 2p), each
        with its own.
        """
        self._take(keys, fingerprints, doubtful=False)

    def invalidate(self, keys: NDArray[np.uint64], fingerprints: Fingerprints) -> None:
        """Add rows that were sent without knowing whether they arrived; as in `add`.

        What these users have in the columns that are given is unknown, whatever was added before; so it is in
        all columns where `fingerprints` has none (shape (m, 0)), and in cumulative ones, since a row that
        goes because of another is not recorded in them. What is added later counts again.
        """
        columns = len(self._layout.names)
        given = fingerprints != 0 if fingerprints.shape[1] else np.ones((len(keys), columns), dtype=np.bool_)
        if columns:  # a job with nothing but increments has none
            given |= np.tile(self._layout.cumulative, given.shape[1] // columns)
        self._take(keys, given, doubtful=True)

    def empty(self, keys: NDArray[np.uint64]) -> None:
        """What these m users have is unknown, as far as they stay in the snapshot."""
        self._emptied.add(keys)

    def __enter__(self) -> Self:
        super().__enter__()
        self._open.enter_context(self._emptied)
        return self

    def finish(self) -> int:
        """Write the new snapshot in place of the old one; the number of its entries."""
        return self._write(self._schema, 16 + self._layout.dtype.itemsize * len(self._layout.names))

    def _take(self, keys: NDArray[np.uint64], fingerprints: NDArray[Any], *, doubtful: bool) -> None:
        users, owners = keys[:, 0], np.zeros(len(keys), dtype=np.uint64)
        if keys.shape[1] == 2:
            devices = device_keys(keys)
            places = np.flatnonzero(np.stack([np.ones(len(keys), np.bool_), devices != users], axis=1))
            # A link that is in doubt counts: to take a device for a user's does no harm.
            owners = np.stack([owners, users], axis=1).ravel()[places]
            users = np.stack([users, devices], axis=1).ravel()[places]
            columns = len(self._layout.names)
            own = fingerprints.shape[1] > columns
            fingerprints = fingerprints.reshape(-1, columns)[places] if own else fingerprints[places // 2]
        prints = binary_column(fingerprints.astype(self._layout.dtype))
        doubts = np.full(len(users), doubtful, dtype=np.uint8)
        self._added.add(users, prints, doubts, *([owners] if self._layout.paired else []))

    def _partition(self, first: int, stop: int) -> pa.RecordBatch:
        rows = self._added.read(first, stop)
        new = added_entries(rows, self._layout, self._number)
        gone = self._forgotten.read(first, stop).column(KEY).to_numpy()
        stay = forget_entries(self._old_entries(first, stop), gone)
        if self._emptied.rows:
            unknown_users = np.isin(stay.keys, self._emptied.read(first, stop).column(KEY).to_numpy())
            stay = stay.without_fingerprints(unknown_users).in_doubt(unknown_users)
        new, unknown = last_certain(new, doubts_of(rows), self._layout.cumulative)
        return snapshot_rows(merge_entries(stay, new, unknown), self._layout, self._schema)

    def _old_entries(self, first: int, stop: int) -> SnapshotEntries:
        if self._snapshot is None:
            return no_entries(self._layout)
        old = self._snapshot.entries(*lowest_keys(first, stop), self._layout)
        if self._unchanged is None or len(old) == 0:
            return old
        place = int(self._snapshot.find(old.keys[:1])[0])
        seen = self._unchanged.has(np.arange(place, place + len(old)))
        return replace(old, runs=np.where(seen, (old.runs & IN_DOUBT) | np.uint32(self._number), old.runs))
