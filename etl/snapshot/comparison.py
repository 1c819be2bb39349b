"""Rows compared with the snapshot's entries of their users and devices; and entries that no row names.

A row that names only a device is about the user to whom the device was linked first: links are for good. It
counts for the user's entry, too; otherwise its values would count as unchanged when the user's own rows come.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from ..arrow.layout import valid_mask
from ..subject import device_keys, names_device_alone, subject_of
from .fingerprints import LINK, owner_hashes
from .snapshot_entries import added_schema, entries_in, last_fingerprints, owners_of, required_field
from .sorted_file import BitSet, KeyFilter
from .spill_buffer import KEY_FIELD, SpillBuffer, binary_column, group_starts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from ..model import Fingerprints
    from .file import KnownIds, Snapshot
    from .fingerprints import Layout

_HELD_BYTES: Final = 4_000_000  # of rows until the end: many small pieces among large ones cut memory up
_ROWS_AT_ONCE: Final = 16_384  # of the snapshot, in which absent users are looked for
_MOST_LINKS: Final = 500_000  # of one run in memory; without its link only a device's own entry counts


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result for n rows with `fingerprints` (shape (n, p)) and w entries in the snapshot each.

    `keys` and `positions` (shape (n, w)) are those of the entries, -1 for the position of an unknown one.
    `differs` (shape (n, w, p)) marks given fingerprints that an entry lacks or has other values of, in the
    `other` rows only (shape (n,)); all rows besides are of known users and unchanged. `overtaken` rows (shape
    (n,)) were rejected by an earlier run than the last one that sent or confirmed values of their user;
    `runs` (shape (n, 2)) are these two runs.
    """

    fingerprints: Fingerprints
    keys: NDArray[np.uint64]
    positions: NDArray[np.int64]
    differs: NDArray[np.bool_]
    other: NDArray[np.bool_]
    overtaken: NDArray[np.bool_]
    runs: NDArray[np.int64]

    def take(self, rows: slice | NDArray[np.int64]) -> Comparison:
        """The result for these rows."""
        return Comparison(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def unknown(self) -> NDArray[np.bool_]:
        """Which rows have an unknown id; shape (n,)."""
        return np.asarray((self.positions < 0).any(axis=1))

    @property
    def counts(self) -> NDArray[np.bool_]:
        """Which entries are known, of rows that no later run overtook; shape (n, w)."""
        return (self.positions >= 0) & ~self.overtaken[:, None]

    @property
    def differing(self) -> NDArray[np.bool_]:
        """Which fingerprints of a row differ from those of one of its entries; shape (n, p)."""
        return np.asarray(self.differs.any(axis=1))

    def changed(self, counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which rows have an unknown id, or differ in a `counted` column (shape (p,)); shape (n,)."""
        changed = self.unknown
        rows = np.flatnonzero(self.other)
        changed[rows] |= self.differs[rows][:, :, counted].any(axis=(1, 2))
        return changed


def compare(
    fingerprints: Fingerprints,
    keys: NDArray[np.uint64],
    snapshot: Snapshot,
    layout: Layout,
    rejected: NDArray[np.int64],
) -> Comparison:
    """Compare rows with `fingerprints` (shape (n, p)) and `keys` (shape (n, w)) with the snapshot.

    `rejected` (shape (n,)) is the number of the run that rejected a row, -1 if none did. A row with two ids
    is compared with the entries of both, except for the link, which is the device's.
    """
    if keys.shape[1] == 2:  # where a row names no device, its second entry is that of its user, too
        keys = np.stack([keys[:, 0], device_keys(keys)], axis=1)
    found = [snapshot.look_up(column, fingerprints, layout) for column in keys.T]
    positions, differs, same = (np.stack(parts, axis=1) for parts in zip(*found, strict=True))
    if LINK in layout.names:
        differs[:, 0, -1] = False
    runs = np.full((len(positions), 2), -1, dtype=np.int64)
    if (rejected >= 0).any():
        accepted = np.maximum.reduce([snapshot.runs(column) for column in positions.T])
        runs = np.stack([rejected, accepted], axis=1)
    overtaken = (runs[:, 0] >= 0) & (runs[:, 1] > runs[:, 0])
    other = np.asarray(~same.all(axis=1))
    return Comparison(fingerprints, keys, positions, differs, other, overtaken, runs)


def add_unchanged(entries: BitSet, seen: Comparison) -> None:
    """Add the entries of which rows confirm a value; overtaken rows don't count.

    A reject of an earlier run is older than that, and must not overwrite them.
    """
    gives = np.zeros(len(seen.fingerprints), dtype=np.bool_)
    for column in seen.fingerprints.T:  # most rows have a value in one of the first columns
        gives |= column != 0
        if gives.all():
            break
    rows = np.flatnonzero(gives & ~seen.overtaken)
    other = seen.other[rows]
    entries.add(seen.positions[rows[~other]].ravel())
    rows = rows[other]
    same = ((seen.fingerprints[rows] != 0)[:, None] & ~seen.differs[rows]).any(axis=2)
    entries.add(seen.positions[rows][same])


def with_owners(keys: NDArray[np.uint64], snapshot: Snapshot | None) -> NDArray[np.uint64]:
    """The keys of rows (shape (n, w)); in place of a linked device that is named alone that of its user."""
    alone = np.flatnonzero(names_device_alone(keys))
    if snapshot is None or len(alone) == 0:
        return keys
    owners = snapshot.owners_at(snapshot.find(keys[alone, 0]))
    linked = owners != 0
    keys = keys.copy()
    keys[alone[linked], 0] = owners[linked]
    return keys


def device_owners(keys: NDArray[np.uint64], snapshot: Snapshot | None) -> NDArray[np.uint64]:
    """The users of the linked devices that rows of shape (n, w) name alone; shape (m,)."""
    users = with_owners(keys, snapshot)[:, 0]
    owners: NDArray[np.uint64] = users[users != keys[:, 0]]
    return owners


class DeviceLinks:
    """Links that a run makes itself, of devices that other rows of the run name alone.

    Give all rows of the run to `collect`, in any order, and then to `resolve`, in theirs. A row before the
    one that links its device stays a row of the device: the user's own values win then.
    """

    def __init__(self, old: Snapshot | None) -> None:
        self._old = old
        self._alone = KeyFilter()
        self._owners: dict[int, int] = {}

    def collect(self, keys: NDArray[np.uint64]) -> None:
        """Take rows of the run, shape (n, w)."""
        keys = with_owners(keys, self._old)
        self._alone.add(keys[names_device_alone(keys), 0])

    def resolve(self, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The keys of the next rows; in place of a device that is named alone that of its user."""
        keys = with_owners(keys, self._old)
        if not self._alone:
            return keys
        devices, alone = device_keys(keys), names_device_alone(keys)
        keys = keys.copy()
        for row in np.flatnonzero(self._alone.has(devices)).tolist():
            user, device = int(keys[row, 0]), int(devices[row])
            if alone[row]:
                keys[row, 0] = self._owners.get(device, device)
            elif user != device and len(self._owners) < _MOST_LINKS:
                self._owners.setdefault(device, user)
        return keys


class SeenUsers:
    """The users that an export names, one bit for each entry of the snapshot; and those absent from it.

    A row that names only a device names its linked user, too. A device isn't absent while its user is seen.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._seen = BitSet(len(snapshot))
        self._new = KeyFilter()  # users whom the snapshot doesn't know, who may have devices that it knows

    def see(self, keys: NDArray[np.uint64]) -> None:
        """Add the keys of rows, shape (n, w); rejected rows count, too."""
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
            for start in range(0, len(part), _ROWS_AT_ONCE):
                places = np.arange(start, min(start + _ROWS_AT_ONCE, len(part)))
                gone = places[~self._seen.has(part.first + places)]
                linked = gone[owners[gone] != 0]
                users = owners[linked]
                positions = self._snapshot.find(users)
                there = self._seen.has(positions)
                # The filter rarely has other keys, too; then a device isn't unset.
                there |= (positions < 0) & self._new.has(users)
                gone = np.setdiff1d(gone, linked[there], assume_unique=True)
                yield from ids.of(part.keys[gone])


class FinalChanges(ExitStack):
    """Takes all rows of an export in source order, compared with a snapshot; then knows what differs.

    Use it as a context manager until `finish`; its results stay valid. `unchanged` are the entries with a
    confirmed value. StateError if rows don't fit into memory and can't be written beside `path`.
    """

    def __init__(self, snapshot: Snapshot, layout: Layout, path: Path) -> None:
        super().__init__()
        n = len(snapshot)
        self._snapshot = snapshot
        self._layout = layout
        self._every = layout.cumulative
        self._differs = [BitSet(n) for _ in layout.names]
        self._differed = np.zeros(len(layout.names), np.bool_)  # columns in which a row differed
        self._touched = BitSet(n)  # entries with a row that differed
        self._users = BitSet(n)  # touched entries that are not of a device beside a user
        self._steady = BitSet(n)  # entries with a row that was unchanged in the cumulative columns
        # Of touched entries, hashes of the ids that their rows have.
        owners = pa.schema([KEY_FIELD, required_field("owner", pa.uint16())])
        self._owners = self.enter_context(SpillBuffer(path, owners, held_bytes=_HELD_BYTES))
        self._rows = self.enter_context(SpillBuffer(path, added_schema(layout), held_bytes=_HELD_BYTES))
        self.unchanged = BitSet(n)

    def add(self, seen: Comparison, ids: pa.RecordBatch) -> None:
        """Take the next n rows, and the columns of their ids."""
        add_unchanged(self.unchanged, seen)
        if self._every.any():
            self._gather(seen)
        rows, counts = np.flatnonzero(seen.other), seen.counts
        differs = counts[rows, :, None] & seen.differs[rows]
        self._differed |= differs.any(axis=(0, 1))
        if not self._differed.any():
            return
        self._touched.add(seen.positions[rows][differs.any(axis=2)])
        # Of these, unchanged rows count as well: they may be the last.
        relevant = counts & self._touched.has(seen.positions)
        self._users.add(seen.positions[relevant[:, 0], 0])
        if not self._every.all():
            self._note_last_rows(seen, np.flatnonzero(relevant), ids)

    def finish(self) -> None:
        """All rows were taken."""
        for rows in self._owners.parts():
            # Users who share an entry may each have other values, so the entry always differs.
            keys, owners = (column.to_numpy() for column in rows.columns)
            shared = self._snapshot.find(keys[group_starts(owners) & ~group_starts(keys)])
            for column in np.flatnonzero(~self._every):
                self._differs[column].add(shared)
        for rows in self._rows.parts():
            entries, _ = last_fingerprints(entries_in(rows, self._layout, self._layout.names), self._every)
            positions, differs, _ = self._snapshot.look_up(entries.keys, entries.fingerprints, self._layout)
            self.unchanged.add(positions[~differs.any(axis=1)])
            for column in np.flatnonzero(self._every):
                self._differs[column].add(positions[differs[:, column]])
        self._snapshot.release()

    def changed(self, apart: BitSet | None = None) -> int:
        """How many known users are sent something besides increments; entries in `apart` don't count.

        If devices are compared, too, and more of them are: how many devices.
        """
        changed = BitSet(len(self._snapshot))
        for column in np.flatnonzero(self._layout.counted):
            changed.update(self._differs[column])
        if apart is not None:
            changed.subtract(apart)
        users = changed.shared(self._users)
        return max(users, len(changed) - users)

    @property
    def reaches_back(self) -> bool:
        """Whether unchanged rows are to be sent because of later ones."""
        columns = np.flatnonzero(self._every)
        return any(self._differs[column].shared(self._steady) for column in columns)

    def narrowed(self, seen: Comparison) -> Comparison:
        """The same rows, with only those differences that stay in the end."""
        differs, other, counts = seen.differs.copy(), seen.other, seen.counts
        rows = np.flatnonzero(other)
        for column, stays in enumerate(self._differs):
            if not self._every[column]:
                differs[rows, :, column] &= ~counts[rows] | stays.has(seen.positions[rows])
                continue
            # An unchanged row may be one of those that go.
            given = (seen.fingerprints[:, column] != 0)[:, None]
            own = np.where(counts, given & stays.has(seen.positions), differs[:, :, column])
            differs[:, :, column], other = own, other | own.any(axis=1)
        return replace(seen, differs=differs, other=other)

    def _gather(self, seen: Comparison) -> None:
        """Keep the rows that differ in a cumulative column; note the entries of other rows as steady."""
        differs = seen.counts & seen.differs[:, :, self._every].any(axis=2)
        given = (seen.fingerprints[:, self._every] != 0).any(axis=1) & ~seen.overtaken
        self._steady.add(seen.positions[given[:, None] & ~differs])
        rows, entries = np.nonzero(differs)
        if len(rows):
            fingerprints = seen.fingerprints[rows] * self._every
            self._rows.add(seen.keys[rows, entries], binary_column(fingerprints))

    def _note_last_rows(self, seen: Comparison, cells: NDArray[np.int64], ids: pa.RecordBatch) -> None:
        """Note whether the last row that gives a column of an entry differs. `cells` are places in (n, w)."""
        positions = seen.positions.ravel()[cells]
        rows, entry = np.divmod(cells, seen.positions.shape[1])
        own_ids = ids.take(pa.array(rows))
        owners = owner_hashes(own_ids)[np.arange(len(rows)), entry]
        # The owner of a device that is named alone is the same user.
        named = (entry == 1) | valid_mask(own_ids.column(subject_of(own_ids).lead))
        self._owners.add(seen.keys.ravel()[cells][named], owners[named])
        differs = seen.differs.reshape(-1, len(self._every))[cells]
        given = seen.fingerprints[rows] != 0
        if LINK in self._layout.names:  # which is the device's
            given[entry == 0, -1] = False
        alone = len(np.unique(positions)) == len(positions)
        for column in np.flatnonzero(self._differed & ~self._every):
            last = np.flatnonzero(given[:, column])
            if not alone:
                last = last[len(last) - 1 - np.unique(positions[last][::-1], return_index=True)[1]]
            now = differs[last, column]
            self._differs[column].add(positions[last[now]])
            self._differs[column].remove(positions[last[~now]])
