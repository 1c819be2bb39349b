"""Writing the snapshot anew from what was accepted: whole or not at all, partition by partition."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from etl.snapshot.columns import (
    IN_DOUBT,
    Entries,
    added_entries,
    doubts_of,
    sent_rows,
    sent_schema,
    snapshot_entries,
    snapshot_rows,
    snapshot_schema,
)
from etl.snapshot.comparison import device_keys
from etl.snapshot.merging import emptied, last_sure, merged, without
from etl.snapshot.partitions import KEY
from etl.snapshot.rewriting import KEY_FIELD, Rewriting
from etl.snapshot.spill import Spill, lowest_keys

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from etl.model import Fingerprints
    from etl.snapshot.bits import Bits
    from etl.snapshot.layout import Layout
    from etl.snapshot.snapshot_file import Snapshot
    from etl.snapshot.stamp import Stamp


class Renewal(Rewriting):
    """Gathers what was sent, in source order, and makes a new snapshot of it and the old one.

    `unchanged` are the places of those in the old one whom the run found as they were: nothing was sent, but
    the run has had its say on them. See `Rewriting`. What is forgotten and then added stays. Raises
    ValueError for an old snapshot of another mode.
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        stamp: Stamp,
        *,
        old: Snapshot | None = None,
        unchanged: Bits | None = None,
    ) -> None:
        if old is not None and old.mode != layout.mode:
            raise ValueError(f"the snapshot is by {old.mode}, not by {layout.mode}")
        super().__init__(path, sent_schema(layout))
        self._layout = layout
        self._stamp = stamp
        self._emptied = Spill(path, pa.schema([KEY_FIELD]))
        self._old = old
        self._unchanged = unchanged
        # Fingerprints that stay are those of the old one; new ones were made to be compared with it.
        self._schema = snapshot_schema(layout, stamp, layout.hashing if old is None else old.hashing)

    def add(self, keys: NDArray[np.uint64], fingerprints: Fingerprints) -> None:
        """Rows were accepted: `keys` of shape (m, w), `fingerprints` of shape (m, p).

        0 leaves what was before. Of two rows of a user the later one counts; in cumulative columns, all do. A
        row with two ids makes an entry for each, both with these fingerprints, or, of shape (m, 2p), each
        with its own.
        """
        self._take(keys, fingerprints, doubtful=False)

    def doubt(self, keys: NDArray[np.uint64], fingerprints: Fingerprints) -> None:
        """Rows were sent, and nobody knows whether they arrived; as in `add`.

        What these users have in the columns that are given is unknown, whatever was said before; so it is in
        all columns where `fingerprints` has none (shape (m, 0)), and in cumulative ones, since a row that
        goes because of another is not recorded in them. What is said later counts again.
        """
        columns = len(self._layout.names)
        given = fingerprints != 0 if fingerprints.shape[1] else np.ones((len(keys), columns), dtype=np.bool_)
        if columns:  # a job of counters alone has none
            given |= np.tile(self._layout.cumulative, given.shape[1] // columns)
        self._take(keys, given, doubtful=True)

    def empty(self, keys: NDArray[np.uint64]) -> None:
        """Of these m users, as far as they stay in the snapshot, nobody knows what they have."""
        self._emptied.add(pa.RecordBatch.from_arrays([pa.array(keys)], schema=self._emptied.schema))

    def __enter__(self) -> Self:
        super().__enter__()
        self._open.enter_context(self._emptied)
        return self

    def _take(self, keys: NDArray[np.uint64], fingerprints: NDArray[Any], *, doubtful: bool) -> None:
        users, owners = keys[:, 0], None
        if self._layout.paired:
            owners = np.zeros(len(keys), dtype=np.uint64)
        if keys.shape[1] == 2:
            devices = device_keys(keys)
            places = np.flatnonzero(np.stack([np.ones(len(keys), np.bool_), devices != users], axis=1))
            # A link that is in doubt counts: to take a device for a user's does no harm.
            owners = None if owners is None else np.stack([owners, users], axis=1).ravel()[places]
            users = np.stack([users, devices], axis=1).ravel()[places]
            columns = len(self._layout.names)
            own = fingerprints.shape[1] > columns
            fingerprints = fingerprints.reshape(-1, columns)[places] if own else fingerprints[places // 2]
        self._added.add(
            sent_rows(
                users,
                fingerprints.astype(self._layout.dtype),
                owners,
                doubtful=doubtful,
                schema=self._added.schema,
            )
        )

    def finish(self) -> int:
        """Write the new snapshot in place of the old one; the number of its entries."""
        most = self._added.rows + (0 if self._old is None else len(self._old))
        return self._write(self._schema, most * (16 + self._layout.dtype.itemsize * len(self._layout.names)))

    def _partition(self, first: int, stop: int) -> pa.RecordBatch:
        """The entries of the buckets `first` to `stop - 1`."""
        rows = self._added.taken(first, stop)
        added = added_entries(rows, self._layout, self._stamp.number)
        stay = without(self._before(first, stop), self._gone(first, stop))
        if self._emptied.rows:
            stay = emptied(stay, self._emptied.taken(first, stop).column(KEY).to_numpy())
        new, unknown = last_sure(added, doubts_of(rows), self._layout.cumulative)
        return snapshot_rows(merged(stay, new, unknown), self._layout, self._schema)

    def _before(self, first: int, stop: int) -> Entries:
        """The old entries of these buckets."""
        if self._old is None:
            return snapshot_entries([], (), self._layout)
        old = self._old.entries(*lowest_keys(first, stop), self._layout)
        if self._unchanged is None or len(old) == 0:
            return old
        place = int(self._old.find(old.keys[:1])[0])
        seen = self._unchanged.has(np.arange(place, place + len(old)))
        return replace(
            old, runs=np.where(seen, (old.runs & IN_DOUBT) | np.uint32(self._stamp.number), old.runs)
        )
