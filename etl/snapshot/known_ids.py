"""Which users of the snapshot are absent from an export, and their ids.

A snapshot has only keys, so a job that unsets the properties of removed users keeps their ids in a file
beside it: for each user the one id by which it is known, that of the user, or of the device where a row names
no user. Unsetting by both would link a device to a user anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.requests import ID_FIELDS
from ..arrow.layout import valid_mask
from ..snapshot_metadata import FileMetadata, SnapshotHeader
from ..subject import names_device_alone, subject_of, user_keys
from .snapshot_entries import BitSet, KeyFilter, owners_of
from .sorted_file import SortedFile, SortedFileWriter
from .spill_buffer import KEY, KEY_FIELD, joined

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from .file import Snapshot

# `field` is the place of the id's field among ID_FIELDS.
_SCHEMA: Final = pa.schema([KEY_FIELD, pa.field("field", pa.uint8()), pa.field("id", pa.string())])
_ENTRY_BYTES: Final = 64  # about
_ROWS: Final = 16_384


class KnownIds(SortedFile):
    """The ids of earlier runs. Use it as a context manager; one thread at a time."""

    kind = "list of ids"
    loss = "then writes it anew, and leaves alone who left before"

    def of(self, keys: NDArray[np.uint64]) -> Iterator[pa.RecordBatch]:
        """The ids of those keys that are known, in ascending order of keys: one in each row.

        Each field has a column, and a row is null but in that of its id.
        """
        for part, _, at, there in self.search(keys):
            if there.any():
                _, fields, ids = part.rows.take(pa.array(at[there])).columns
                own = [pc.if_else(pc.equal(fields, place), ids, None) for place in range(len(ID_FIELDS))]
                yield pa.RecordBatch.from_arrays(own, names=ID_FIELDS)


class KnownIdsWriter(SortedFileWriter):
    """Takes ids and writes them in place of the old ones; see `SortedFileWriter`."""

    def __init__(self, path: Path, header: SnapshotHeader, *, old: KnownIds | None = None) -> None:
        super().__init__(path, _SCHEMA, old)
        self._schema = _SCHEMA.with_metadata(FileMetadata(KnownIds.kind, header).pack())

    def add(self, identifications: pa.RecordBatch) -> None:
        """Add the ids of n identifications, each of which has one; their other columns don't matter."""
        keys = user_keys(identifications)[:, 0]
        unknown = np.ones(len(keys), np.bool_) if self._old is None else self._old.find(keys) < 0
        rows = np.flatnonzero(unknown)
        if len(rows):
            known = identifications.take(pa.array(rows))
            subject, fields = subject_of(known), np.zeros(len(rows), np.uint8)
            for name in reversed(subject.fields):  # the leading one last, as it counts before the other
                fields[valid_mask(known.column(name))] = ID_FIELDS.index(name)
            ids = pc.coalesce(*(ids for _, ids in subject.columns(known)))
            self._added.add(keys[rows], pa.array(fields), ids)

    def finish(self) -> int:
        """Write the new file in place of the old one; the number of its entries."""
        if self._old is not None and not self._added.rows and not self._forgotten.rows:
            return len(self._old)
        return self._write(self._schema, self._merged, _ENTRY_BYTES)

    def _merged(self, old: pa.RecordBatch, gone: NDArray[np.bool_], first: int, stop: int) -> pa.RecordBatch:
        """Of each key the ids that were added last."""
        rows = joined([old.filter(pa.array(~gone)), self._added.read(first, stop)], _SCHEMA)
        keys = rows.column(KEY).to_numpy()
        _, places = np.unique(keys[::-1], return_index=True)
        return rows.take(pa.array(len(keys) - 1 - places))


class SeenUsers:
    """The users that an export names: a bit for each entry of the snapshot.

    A row of a device alone is about the user to whom the device is linked, so that user is seen, too. And a
    device isn't absent while its user is seen.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._seen = BitSet(len(snapshot))
        self._new = KeyFilter()  # users whom the snapshot doesn't know, who may have devices that it knows

    def see(self, keys: NDArray[np.uint64]) -> None:
        """Add users of shape (n, w): every row of the export counts, also one that is rejected."""
        positions = [self._snapshot.find(column) for column in keys.T]
        for column in positions:
            self._seen.add(column)
        if keys.shape[1] == 2:
            owners = self._snapshot.owners_at(positions[0][names_device_alone(keys)])
            self._seen.add(self._snapshot.find(owners[owners != 0]))
            self._new.add(keys[positions[0] < 0, 0])

    def absent(self, ids: KnownIds) -> Iterator[pa.RecordBatch]:
        """The ids of the users of the snapshot who weren't seen; in ascending order of keys, in batches."""
        for part in self._snapshot.pieces():
            owners = owners_of(part.rows)
            for start in range(0, len(part), _ROWS):
                places = np.arange(start, min(start + _ROWS, len(part)))
                gone = places[~self._seen.has(part.first + places)]
                linked = gone[owners[gone] != 0]
                users = owners[linked]
                positions = self._snapshot.find(users)
                there = self._seen.has(positions)
                # Rarely also a user who wasn't seen and is new; then a device isn't unset.
                there |= (positions < 0) & self._new.has(users)
                gone = np.setdiff1d(gone, linked[there], assume_unique=True)
                yield from ids.of(part.keys[gone])
