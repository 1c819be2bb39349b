"""The files about users that a run leaves to the next one: the snapshot, and the list of their ids.

The snapshot has fingerprints of the values that Amplitude took last of each user. Fingerprints by property
are stored user by user: a look-up reads one place in memory, not one for each property. A column besides has
one fingerprint of them all, and of a user without a change only that is read. A writer merges the old file
and what was accepted since into a new one, partition by partition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.requests import ID_FIELDS
from ..arrow.layout import valid_mask
from ..snapshot_metadata import FileMetadata, SnapshotHeader
from ..subject import device_keys, subject_of, user_keys
from .fingerprints import whole_fingerprints
from .snapshot_entries import (
    IN_DOUBT,
    OWNER,
    PRINTS,
    RUN,
    WHOLE,
    SnapshotEntries,
    added_schema,
    count_changes,
    entries_in,
    last_fingerprints,
    owners_of,
    required_field,
    shared_columns,
    with_old_values,
)
from .sorted_file import BitSet, SortedFile, SortedFileWriter
from .spill_buffer import (
    KEY,
    KEY_FIELD,
    SpillBuffer,
    binary_column,
    joined,
    places_in,
    raw_values,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from ..model import Fingerprints
    from .fingerprints import Layout


class Snapshot(SortedFile):
    """An open snapshot. Use it as a context manager; one thread at a time.

    `mode` is that of the layout it was made with, `names` are its columns of fingerprints.
    """

    kind = "snapshot"
    loss = "then sends everyone, and writes it anew"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.mode = self.metadata.mode
        self.header = self.metadata.header
        self.names = tuple(self.metadata.names)

    def look_up(
        self, keys: NDArray[np.uint64], fingerprints: Fingerprints, layout: Layout
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Compare n rows (`keys` (n,), `fingerprints` (n, p)) with their users' entries.

        Returns the positions of the entries, shape (n,), -1 if there is none; which given fingerprints an
        entry lacks or has other values of, shape (n, p); and which rows are of known users and the same in
        all columns that count, shape (n,). These count as the same in the other columns, too.
        """
        wholes, rest, values = whole_fingerprints(fingerprints, layout), [np.empty(0, np.int64)], [b""]
        positions, same = np.full(len(keys), -1, dtype=np.int64), np.zeros(len(keys), dtype=np.bool_)
        for part, own, at, hit in self.search(keys):
            positions[own] = np.where(hit, at + part.first, -1)
            # All fingerprints that count are as in the entry, or none is given.
            whole = wholes[own]
            stored_wholes = part.rows.column(WHOLE).to_numpy()
            same[own] = alike = hit & ((whole == 0) | (stored_wholes[at] == whole))
            if layout.mode == "property" and len(other := np.flatnonzero(hit & ~alike)):
                rest.append(own[other])
                values.append(self.values_at(part.rows.column(PRINTS), at[other]))
        differs, others = np.zeros(fingerprints.shape, dtype=np.bool_), ~same
        if len(rows := np.concatenate(rest)):
            here, there = shared_columns(layout, self.names)
            stored = np.frombuffer(b"".join(values), layout.dtype).reshape(len(rows), -1)
            given = fingerprints[rows]
            own_differs = given != 0
            own_differs[:, here] &= stored[:, there] != given[:, here]
            differs[rows], others[rows] = own_differs, False
        left = np.flatnonzero(others)  # unknown users, and with one fingerprint for all what isn't the same
        differs[left] = fingerprints[left] != 0
        return positions, differs, same

    def runs(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of the runs that last sent or confirmed these entries; -1 for the position -1."""
        none = np.full(len(positions), -1, dtype=np.int64)
        return self._filled(none, positions, lambda rows: rows.column(RUN).to_numpy() & ~IN_DOUBT)

    def owners_at(self, positions: NDArray[np.int64]) -> NDArray[np.uint64]:
        """The keys of the users to whom the devices of these entries are linked; 0 for none, and for -1."""
        return self._filled(np.zeros(len(positions), dtype=np.uint64), positions, owners_of)

    def doubtful(self) -> BitSet:
        """The entries in doubt: it is unknown whether what was sent to these users arrived."""
        found = BitSet(len(self))
        for part in self.pieces():
            found.add(part.first + np.flatnonzero(part.rows.column(RUN).to_numpy() & IN_DOUBT))
        return found

    def _filled(
        self,
        found: NDArray[Any],
        positions: NDArray[np.int64],
        numbers: Callable[[pa.RecordBatch], NDArray[Any]],
    ) -> NDArray[Any]:
        """Put into `found` the numbers that partitions have at these positions."""
        for part in self.partitions:
            here = np.flatnonzero((positions >= part.first) & (positions < part.first + len(part)))
            if len(here):
                found[here] = numbers(part.rows)[positions[here] - part.first]
        return found


def snapshot_schema(layout: Layout, header: SnapshotHeader) -> pa.Schema:
    """A snapshot's columns, with its metadata."""
    whole = required_field(WHOLE, pa.from_numpy_dtype(layout.dtype))
    fields = [KEY_FIELD, required_field(RUN, pa.uint32()), whole]
    fields += [required_field(OWNER, pa.uint64())] if layout.paired else []
    fields += [added_schema(layout).field(PRINTS)] if layout.mode == "property" else []
    return pa.schema(fields, FileMetadata(Snapshot.kind, header, layout.mode, layout.names).pack())


def snapshot_rows(entries: SnapshotEntries, layout: Layout, schema: pa.Schema) -> pa.RecordBatch:
    """Rows of `snapshot_schema`."""
    wholes = whole_fingerprints(entries.fingerprints, layout)
    columns = {KEY: entries.keys, RUN: entries.runs, WHOLE: wholes, OWNER: entries.owners}
    columns[PRINTS] = binary_column(entries.fingerprints)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


class SnapshotWriter(SortedFileWriter):
    """Takes what was sent, in source order, and writes a new snapshot of it and the old one.

    `unchanged` are the entries of the old one that the run confirmed: it sent nothing for them, but they get
    its number. `changes` (int64, shape (3, p)) counts, once it is written, the users with a first or another
    fingerprint, and those forgotten, by column. The old one is of the layout's mode. See `SortedFileWriter`.
    """

    _old: Snapshot | None

    def __init__(
        self,
        path: Path,
        layout: Layout,
        header: SnapshotHeader,
        *,
        old: Snapshot | None = None,
        unchanged: BitSet | None = None,
    ) -> None:
        super().__init__(path, added_schema(layout, sent=True), old)
        self._layout = layout
        self._number = header.number
        self.changes = np.zeros((3, len(layout.names)), dtype=np.int64)
        self._emptied = self.enter_context(SpillBuffer(path, pa.schema([KEY_FIELD])))
        self._unchanged = unchanged
        self._schema = snapshot_schema(layout, header)
        # Whether rows stay as they are: the same job counts the same columns.
        self._same = (
            old is not None
            and old.schema.equals(self._schema)
            and (old.names, old.header.job) == (layout.names, header.job or None)
        )

    def add(self, keys: NDArray[np.uint64], fingerprints: NDArray[Any], *, in_doubt: bool = False) -> None:
        """Add rows that were accepted: `keys` of shape (m, w), `fingerprints` of shape (m, p).

        0 keeps what was before. Of two rows of a user the later one counts; in cumulative columns, all do. A
        row with two ids makes an entry for each, both with these fingerprints, or, of shape (m, 2p), each
        with its own. Those of rows in doubt only show which columns are given, see `invalidate`.
        """
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
        runs = np.full(len(users), np.uint32(self._number) | (IN_DOUBT if in_doubt else np.uint32(0)))
        self._added.add(users, prints, runs, *([owners] if self._layout.paired else []))

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
        self.add(keys, given, in_doubt=True)

    def empty(self, keys: NDArray[np.uint64]) -> None:
        """Make unknown what these m users have, as far as they stay in the snapshot."""
        self._emptied.add(keys)

    def finish(self) -> int:
        """Write the new snapshot in place of the old one; the number of its entries."""
        size = 16 + self._layout.dtype.itemsize * len(self._layout.names)
        return self._write(self._schema, self._merged, size)

    def _merged(self, rows: pa.RecordBatch, gone: NDArray[np.bool_], first: int, stop: int) -> pa.RecordBatch:
        added, names = self._added.read(first, stop), self._old.names if self._old else self._layout.names
        new = entries_in(added, self._layout, self._layout.names)
        new, unknown = last_fingerprints(new, self._layout.cumulative)
        del added  # a partition is large, and its rows are copied
        if rows.num_rows and self._unchanged is not None:
            rows = self._confirmed(rows, self._unchanged)
        stay = entries_in(rows, self._layout, names)
        emptied = np.isin(stay.keys, self._emptied.read(first, stop).column(KEY))
        at, known = places_in(stay.keys, new.keys)
        self.changes += count_changes(new, known, stay.take(at[known]), stay.take(gone))
        if self._same and not gone.any() and not emptied.any():
            rows = pa.RecordBatch.from_arrays(rows.columns, schema=self._schema)
        else:
            stay = stay.without_fingerprints(gone | emptied).in_doubt(emptied)
            if gone.any():  # a device that is linked to another user stays
                stay = stay.take(~gone if stay.owners is None else ~gone | (stay.owners != 0))
            at, known = places_in(stay.keys, new.keys)
            rows = snapshot_rows(stay, self._layout, self._schema)
        fresh = with_old_values(new, known, stay.take(at[known]), unknown)
        return self._patched(rows, at, known, snapshot_rows(fresh, self._layout, self._schema))

    def _patched(
        self, rows: pa.RecordBatch, at: NDArray[np.int64], known: NDArray[np.bool_], fresh: pa.RecordBatch
    ) -> pa.RecordBatch:
        """Rows of the old snapshot, with the fresh ones in place of those that are `known`, or before."""
        if not rows.num_rows or not fresh.num_rows:
            return rows if rows.num_rows else fresh
        added, places = at[~known], at + np.cumsum(~known) - ~known  # where new keys go, and all fresh rows
        columns = []
        for stored, given in zip(rows.columns, fresh.columns, strict=True):  # each is copied by itself
            theirs = raw_values(given)
            ours = np.insert(raw_values(stored), added, theirs[~known])
            ours[places] = theirs
            columns.append(pa.Array.from_buffers(stored.type, len(ours), [None, pa.py_buffer(ours)]))
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _confirmed(self, rows: pa.RecordBatch, unchanged: BitSet) -> pa.RecordBatch:
        """Neighbouring rows of the old snapshot, with this run's number where it confirmed them."""
        assert self._old is not None  # noqa: S101 - it has these rows
        first = int(self._old.find(rows.column(KEY)[:1].to_numpy())[0])
        seen, runs = unchanged.has(np.arange(first, first + rows.num_rows)), rows.column(RUN).to_numpy()
        runs = np.where(seen, (runs & IN_DOUBT) | np.uint32(self._number), runs)
        field = rows.schema.field(RUN)
        return rows.set_column(rows.schema.names.index(RUN), field, pa.array(runs, field.type))


# --- ids -------------------------------------------------------------------------------------------------

# `field` is the place of the id's field among ID_FIELDS.
_IDS: Final = pa.schema([KEY_FIELD, pa.field("field", pa.uint8()), pa.field("id", pa.string())])
_ID_BYTES: Final = 64  # of an entry with an id, about


class KnownIds(SortedFile):
    """The ids of earlier runs. Use it as a context manager; one thread at a time.

    A snapshot has only keys, so a job that unsets the properties of removed users keeps their ids in a file
    beside it: for each user the one id by which it is known, that of the user, or of the device where a row
    names no user. Unsetting by both would link a device to a user anew.
    """

    kind = "list of ids"
    loss = "then writes it anew, and doesn't unset users who left before"

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
        super().__init__(path, _IDS, old)
        self._schema = _IDS.with_metadata(FileMetadata(KnownIds.kind, header).pack())

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
        return self._write(self._schema, self._merged, _ID_BYTES)

    def _merged(self, old: pa.RecordBatch, gone: NDArray[np.bool_], first: int, stop: int) -> pa.RecordBatch:
        """The ids of each key that were added last."""
        rows = joined([old.filter(pa.array(~gone)), self._added.read(first, stop)], _IDS)
        keys = rows.column(KEY).to_numpy()
        _, places = np.unique(keys[::-1], return_index=True)
        return rows.take(pa.array(len(keys) - 1 - places))
