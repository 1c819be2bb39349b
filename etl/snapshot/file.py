"""The snapshot: fingerprints of the values that Amplitude took last of each user. Its columns, and a reader.

Fingerprints by property are stored user by user, not property by property: a lookup reads one place in
memory, not one for each property. Before them is one for them all, and for a user without a change only that
is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self, cast

import numpy as np
import pyarrow as pa

from .bit_set import BitSet
from .fingerprints import whole_fingerprints
from .snapshot_entries import (
    IN_DOUBT,
    OWNER,
    PRINTS,
    SnapshotEntries,
    added_schema,
    required_field,
)
from .sorted_file import FileMetadata, SnapshotHeader, SortedFile
from .spill_buffer import KEY, KEY_FIELD, binary_column, matrix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ..model import Fingerprints
    from .layout import Layout
    from .sorted_file import Partition

_RUN, _WHOLE = "run", "whole"  # columns
_SNAPSHOT: Final = "snapshot"
_LOSS: Final = "then sends everyone, and writes it anew"


@dataclass(frozen=True, slots=True)
class EntryMatches:
    """What a snapshot has of n rows.

    `positions` (int64, shape (n,)) are the entries of their users, -1 where there is none. `equal` (bool,
    shape (n, p)): which of their fingerprints the entry has, too; where all that count are equal, the others
    count as equal. `same` (bool, shape (n,)) marks rows of known users where that is so.
    """

    positions: NDArray[np.int64]
    equal: NDArray[np.bool_]
    same: NDArray[np.bool_]


class Snapshot(SortedFile):
    """An open snapshot. Use it as a context manager; one thread at a time.

    `mode` and `hashing` are those of the layout it was made with, `names` are its columns of fingerprints.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SNAPSHOT, loss=_LOSS)
        self.mode = cast("Literal['property', 'user']", self.metadata.mode)
        self.header = self.metadata.header
        self.hashing = self.metadata.hashing
        self.names = tuple(self.metadata.names)

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """Open the snapshot at `path`; None where there is none.

        Raises StaleCheckpointError where it is damaged or was written by a newer version.
        """
        return cls(path) if path.exists() else None

    def look_up(self, keys: NDArray[np.uint64], fingerprints: Fingerprints, layout: Layout) -> EntryMatches:
        """Compare n rows (`keys` (n,), `fingerprints` (n, p)) with their users' entries."""
        order = np.argsort(keys)
        needles, wholes = keys[order], whole_fingerprints(fingerprints, layout)[order]
        # In the order of the needles; put back at the end.
        positions = np.full(len(keys), -1, dtype=np.int64)
        same = np.zeros(len(keys), dtype=np.bool_)
        equal = np.zeros(fingerprints.shape, dtype=np.bool_)
        for span, part in self.split(needles):
            at, hit = part.search(needles[span])
            positions[span] = np.where(hit, at + part.first, -1)
            # All fingerprints that count are as in the entry, or none is given.
            same[span] = hit & ((wholes[span] == 0) | (part.column(_WHOLE)[at] == wholes[span]))
            self.release(wholes.itemsize * len(part))
            rest = np.flatnonzero(hit & ~same[span])
            if len(rest) and layout.mode == "property":
                rows = order[span][rest]
                equal[rows] = self._equal(part, at[rest], fingerprints[rows], layout)
        equal[order[same]] = True
        back, alike = np.empty_like(positions), np.empty_like(same)
        back[order], alike[order] = positions, same
        return EntryMatches(back, equal, alike)

    def runs(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of the runs that last sent or confirmed these entries; -1 for the position -1."""
        runs = np.full(len(positions), -1, dtype=np.int64)
        for part, here in self._parts_of(positions):
            runs[here] = part.column(_RUN)[positions[here] - part.first] & ~IN_DOUBT
        return runs

    def owners_at(self, positions: NDArray[np.int64]) -> NDArray[np.uint64]:
        """The keys of the users to whom the devices of these entries are linked; 0 for none, and for -1."""
        owners = np.zeros(len(positions), dtype=np.uint64)
        for part, here in self._parts_of(positions):
            owners[here] = _stored_owners(part.rows)[positions[here] - part.first]
        return owners

    def doubtful(self) -> BitSet:
        """The entries in doubt: it is unknown whether what was sent to these users arrived."""
        found = BitSet(len(self))
        for part in self.partitions:
            found.add(part.first + np.flatnonzero(part.column(_RUN) & IN_DOUBT))
            self.release(4 * len(part))
        return found

    def entries(self, low: int, high: int, layout: Layout) -> SnapshotEntries:
        """The entries with keys from `low` to `high - 1`, in their order, with the columns of `layout`."""
        return _entries_of(list(self.between(low, high)), self.names, layout)

    def sorted_keys(self) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """All keys in ascending order, in pieces, each with the position of its first."""
        for part in self.partitions:
            yield part.first, part.keys
            self.release(8 * len(part))

    def owners(self) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """The owner of each entry's device, as in `owners_at`, in pieces as in `sorted_keys`."""
        for part in self.partitions:
            yield part.first, _stored_owners(part.rows)
            self.release(8 * len(part))

    def _parts_of(self, positions: NDArray[np.int64]) -> Iterator[tuple[Partition, NDArray[np.int64]]]:
        """The partitions of these entries, each with the places of its own among `positions`."""
        for part in self.partitions:
            here = np.flatnonzero((positions >= part.first) & (positions < part.first + len(part)))
            if len(here):
                yield part, here

    def _equal(
        self, part: Partition, at: NDArray[np.int64], fingerprints: Fingerprints, layout: Layout
    ) -> NDArray[np.bool_]:
        stored = _stored_fingerprints(part.rows, layout)
        here, there = _common_columns(layout.names, self.names)
        equal = np.zeros(fingerprints.shape, dtype=np.bool_)
        equal[:, here] = stored[at][:, there] == fingerprints[:, here]
        # However few are read: the system maps large pieces around each.
        self.release(stored.nbytes)
        return equal


def snapshot_schema(layout: Layout, header: SnapshotHeader, hashing: int) -> pa.Schema:
    """A snapshot's columns, with its metadata."""
    fields = [KEY_FIELD, required_field(_RUN, pa.uint32())]
    fields.append(required_field(_WHOLE, pa.from_numpy_dtype(layout.dtype)))
    if layout.paired:
        fields.append(required_field(OWNER, pa.uint64()))
    if layout.mode == "property":
        fields.append(added_schema(layout).field(PRINTS))
    return pa.schema(fields, FileMetadata(_SNAPSHOT, header, layout.mode, layout.names, hashing).pack())


def snapshot_rows(entries: SnapshotEntries, layout: Layout, schema: pa.Schema) -> pa.RecordBatch:
    """Rows of `snapshot_schema`."""
    wholes = whole_fingerprints(entries.fingerprints, layout)
    columns = [pa.array(entries.keys), pa.array(entries.runs), pa.array(wholes)]
    if layout.paired:
        columns.append(pa.array(entries.owners))
    if layout.mode == "property":
        columns.append(binary_column(entries.fingerprints))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def no_entries(layout: Layout) -> SnapshotEntries:
    """The entries of an empty snapshot."""
    keys, fingerprints = np.empty(0, np.uint64), np.empty((0, len(layout.names)), dtype=layout.dtype)
    return SnapshotEntries(keys, np.empty(0, np.uint32), fingerprints, keys if layout.paired else None)


def _entries_of(pieces: Sequence[pa.RecordBatch], names: Sequence[str], layout: Layout) -> SnapshotEntries:
    """Rows of a snapshot with the columns `names` as entries with those of `layout`, 0 where it lacks one."""
    rows = pa.Table.from_batches(pieces).combine_chunks().to_batches()[:1] if pieces else []
    if not rows:
        return no_entries(layout)
    stored = _stored_fingerprints(rows[0], layout)
    fingerprints = np.zeros((len(stored), len(layout.names)), dtype=layout.dtype)
    here, there = _common_columns(layout.names, names)
    fingerprints[:, here] = stored[:, there]
    owners = _stored_owners(rows[0]) if layout.paired else None
    return SnapshotEntries(
        rows[0].column(KEY).to_numpy(), rows[0].column(_RUN).to_numpy(), fingerprints, owners
    )


def _stored_owners(rows: pa.RecordBatch) -> NDArray[np.uint64]:
    """The users to whom the devices among a snapshot's rows are linked; shape (m,). Old ones have none."""
    if OWNER not in rows.schema.names:
        return np.zeros(rows.num_rows, dtype=np.uint64)
    owners: NDArray[np.uint64] = rows.column(OWNER).to_numpy()
    return owners


def _stored_fingerprints(rows: pa.RecordBatch, layout: Layout) -> Fingerprints:
    """The fingerprints of a snapshot's rows, in the snapshot's own order of columns, not copied."""
    if layout.mode == "user":
        whole: Fingerprints = rows.column(_WHOLE).to_numpy().reshape(-1, 1)
        return whole
    return matrix(rows.column(PRINTS), layout.dtype)


def _common_columns(names: Sequence[str], stored: Sequence[str]) -> tuple[list[int], list[int]]:
    """Places of the names that are in both, in the one and in the other."""
    places = {name: place for place, name in enumerate(stored)}
    both = [(place, places[name]) for place, name in enumerate(names) if name in places]
    return [here for here, _ in both], [there for _, there in both]
