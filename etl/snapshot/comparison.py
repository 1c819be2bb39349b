"""Rows compared with the snapshot's entries of their users and devices.

A row that names a device alone is about the user to whom the device was linked: links are for good. It counts
for the user's entry, too, or its values would be taken for unchanged when the user's own rows come again.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from ..arrow.structs import valid_mask
from ..subject import device_keys, names_device_alone, subject_of
from .bit_set import BitSet, KeyFilter
from .fingerprints import LINK, owner_hashes
from .snapshot_entries import (
    added_entries,
    added_schema,
    group_starts,
    key_order,
    last_fingerprints,
    required_field,
)
from .spill_buffer import KEY_FIELD, SpillBuffer, binary_column

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ..model import Fingerprints
    from .file import Snapshot
    from .fingerprints import Layout

_HELD_BYTES: Final = 4_000_000  # of rows until the end: many small pieces among large ones cut memory up
_MOST_LINKS: Final = 500_000  # of one run in memory; without its link only a device's own entry counts


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result for n rows with `fingerprints` (shape (n, p)) and w entries in the snapshot each.

    Of shape (n, w): `keys` are those of the entries, `positions` their places, -1 for an unknown one.
    `differs` (shape (n, w, p)) marks given fingerprints that an entry has not, or otherwise. It does so in
    the `other` rows only (shape (n,)); the rest are of known users and unchanged. `overtaken` rows (shape
    (n,)) were rejected by an earlier run than the last one that sent or confirmed values of their user.
    `runs` (shape (n, 2)) are those two runs.
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
    def differing(self) -> NDArray[np.bool_]:
        """Which fingerprints of a row differ from those of one of its entries; shape (n, p)."""
        return np.asarray(self.differs.any(axis=1))

    def changed(self, counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which rows have an unknown id, or differ in a `counted` column (shape (p,)); shape (n,)."""
        changed = self.unknown
        rows = np.flatnonzero(self.other)
        changed[rows] |= self.differs[rows][:, :, counted].any(axis=(1, 2))
        return changed

    def relinked(self, layout: Layout) -> NDArray[np.bool_]:
        """Which rows link a device to another user than before; shape (n,)."""
        if LINK not in layout.names:
            return np.zeros(len(self.fingerprints), dtype=np.bool_)
        return np.asarray(self.differs[:, -1, -1])


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
    entries = [snapshot.look_up(column, fingerprints, layout) for column in keys.T]
    other: NDArray[np.bool_] = ~np.logical_and.reduce([entry.same for entry in entries])
    differs = np.zeros((len(fingerprints), len(entries), fingerprints.shape[1]), dtype=np.bool_)
    rows = np.flatnonzero(other)
    if len(rows):
        given = fingerprints[rows] != 0
        differs[rows] = np.stack([given & ~entry.equal[rows] for entry in entries], axis=1)
    if LINK in layout.names:
        differs[:, 0, -1] = False
    positions = np.stack([entry.positions for entry in entries], axis=1)
    runs = np.full((len(positions), 2), -1, dtype=np.int64)
    if (rejected >= 0).any():
        accepted = np.maximum.reduce([snapshot.runs(column) for column in positions.T])
        runs = np.stack([rejected, accepted], axis=1)
    overtaken = (runs[:, 0] >= 0) & (runs[:, 1] > runs[:, 0])
    return Comparison(fingerprints, keys, positions, differs, other, overtaken, runs)


class UnchangedUsers:
    """The `entries` of the snapshot that a run confirmed: it found something unchanged, and sent nothing.

    A reject of an earlier run is older than that, and must not overwrite it.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.entries = BitSet(len(snapshot))

    def add(self, seen: Comparison) -> None:
        """Add rows that were compared with the snapshot; overtaken ones don't count."""
        gives = np.zeros(len(seen.fingerprints), dtype=np.bool_)
        for column in seen.fingerprints.T:  # most rows have a value in one of the first columns
            gives |= column != 0
            if gives.all():
                break
        rows = np.flatnonzero(gives & ~seen.overtaken)
        other = seen.other[rows]
        self.entries.add(seen.positions[rows[~other]].ravel())
        rows = rows[other]
        if len(rows):
            same = ((seen.fingerprints[rows] != 0)[:, None] & ~seen.differs[rows]).any(axis=2)
            self.entries.add(seen.positions[rows][same])


def with_owners(keys: NDArray[np.uint64], snapshot: Snapshot | None) -> NDArray[np.uint64]:
    """The keys of rows (shape (n, w)), with its user in place of a linked device that is named alone."""
    if snapshot is None or keys.shape[1] == 1:
        return keys
    alone = np.flatnonzero(names_device_alone(keys))
    if len(alone) == 0:
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
    """The links that a run makes itself, of devices that other rows of it name alone.

    All rows of the run are given to `collect` first, in any order, and then to `resolve`, in theirs. A row
    above the one that links its device stays a row of the device: the user's own values win then.
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
        """The next rows, with its user in place of a device that is named alone."""
        keys = with_owners(keys, self._old)
        if not self._alone or keys.shape[1] == 1:
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


class FinalChanges(AbstractContextManager["FinalChanges"]):
    """Takes all rows of an export in source order, compared with a snapshot; then knows what differs.

    Use it as a context manager until it is `finish`ed; what it knows then stays. StateError where rows don't
    fit into memory and can't be written beside `path`.
    """

    def __init__(self, snapshot: Snapshot, layout: Layout, path: Path) -> None:
        n = len(snapshot)
        self._snapshot = snapshot
        self._layout = layout
        self._every = layout.cumulative
        self._differs = [BitSet(n) for _ in layout.names]
        self._differed = np.zeros(len(layout.names), np.bool_)  # columns in which a row differed
        self._touched, self._any = BitSet(n), False  # entries with a row that differed; whether there is one
        self._users = BitSet(n)  # touched entries that are not of a device beside a user
        self._steady = BitSet(n)  # entries with a row that was unchanged in the cumulative columns
        # Of touched entries, hashes of the ids that their rows have.
        owners = pa.schema([KEY_FIELD, required_field("owner", pa.uint16())])
        self._owners = SpillBuffer(path, owners, held_bytes=_HELD_BYTES)
        self._rows = SpillBuffer(path, added_schema(layout), held_bytes=_HELD_BYTES)
        self._unchanged = UnchangedUsers(snapshot)
        self.unchanged = self._unchanged.entries  # entries in which something was found unchanged

    def __exit__(self, *error: object) -> None:
        self._owners.__exit__(*error)
        self._rows.__exit__(*error)

    def add(self, seen: Comparison, ids: pa.RecordBatch) -> None:
        """Take the next n rows, and the columns of their ids."""
        self._unchanged.add(seen)
        if self._every.any():
            self._gather(seen)
        rows = np.flatnonzero(seen.other)
        if len(rows) == 0 and not self._any:
            return
        there = (seen.positions >= 0) & ~seen.overtaken[:, None]
        differs = there[rows] & seen.differs[rows].any(axis=2)
        if differs.any():
            self._any = True
            self._touched.add(seen.positions[rows][differs])
        if self._any:
            # Of these, unchanged rows count as well: they may be the last.
            told = there & self._touched.has(seen.positions)
            self._users.add(seen.positions[told[:, 0], 0])
            if not self._every.all():
                self._judge(seen, np.flatnonzero(told.ravel()), ids)

    def finish(self) -> None:
        """All rows were taken."""
        for rows in self._owners.parts():
            # What is sent to one user of a shared entry doesn't decide what another one has.
            keys, owners = (column.to_numpy() for column in rows.columns)
            order = key_order(keys)
            keys, owners = keys[order], owners[order]
            shared = self._snapshot.find(keys[group_starts(owners) & ~group_starts(keys)])
            for column in np.flatnonzero(~self._every) if len(shared) else ():
                self._differs[column].add(shared)
        for rows in self._rows.parts():
            if rows.num_rows:
                entries = last_fingerprints(added_entries(rows, self._layout, 0), self._every)
                found = self._snapshot.look_up(entries.keys, entries.fingerprints, self._layout)
                differs = (entries.fingerprints != 0) & ~found.equal
                self.unchanged.add(found.positions[~differs.any(axis=1)])
                for column in np.flatnonzero(self._every):
                    self._differs[column].add(found.positions[differs[:, column]])
        self._snapshot.release()

    def changed(self, apart: BitSet | None = None) -> int:
        """How many of the known users are to be sent something that isn't an increment.

        Where devices are compared, too, how many of these, if they are more. Entries in `apart` don't count.
        """
        changed = BitSet(len(self._snapshot))
        for name, differs in zip(self._layout.names, self._differs, strict=True):
            if name in self._layout.counted:
                changed.update(differs)
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
        there = (seen.positions >= 0) & ~seen.overtaken[:, None]
        differs = seen.differs.copy()
        rows = np.flatnonzero(seen.other)
        own, positions, here = differs[rows], seen.positions[rows], there[rows]
        for column in np.flatnonzero(~self._every):
            own[:, :, column] &= ~here | self._differs[column].has(positions)
        differs[rows] = own
        for column in np.flatnonzero(self._every):
            given = (seen.fingerprints[:, column] != 0)[:, None]
            stays = given & self._differs[column].has(seen.positions)
            differs[:, :, column] = np.where(there, stays, differs[:, :, column])
        # With a cumulative column, an unchanged row may be one of those that go.
        other = seen.other | differs[:, :, self._every].any(axis=(1, 2)) if self._every.any() else seen.other
        return replace(seen, differs=differs, other=other)

    def _gather(self, seen: Comparison) -> None:
        """Keep the rows that differ in a cumulative column; of the others, that they are there."""
        others = np.flatnonzero(seen.other)
        differs = np.zeros(seen.positions.shape, dtype=np.bool_)
        if len(others):
            may = (seen.positions[others] >= 0) & ~seen.overtaken[others, None]
            differs[others] = may & seen.differs[others][:, :, self._every].any(axis=2)
        given = (seen.fingerprints[:, self._every] != 0).any(axis=1) & ~seen.overtaken
        self._steady.add(seen.positions[given[:, None] & ~differs])
        rows, entries = np.nonzero(differs)
        if len(rows):
            fingerprints = seen.fingerprints[rows] * self._every
            self._rows.add(seen.keys[rows, entries], binary_column(fingerprints))

    def _judge(self, seen: Comparison, cells: NDArray[np.int64], ids: pa.RecordBatch) -> None:
        """Of each entry and column the last row that gives it counts. `cells` are numbers in (n, w)."""
        positions = seen.positions.ravel()[cells]
        rows, entry = np.divmod(cells, seen.positions.shape[1])
        own_ids = ids.take(pa.array(rows))
        owners = owner_hashes(own_ids, self._layout)[np.arange(len(rows)), entry]
        named: NDArray[np.bool_] | slice = slice(None)
        if seen.positions.shape[1] == 2:
            # The owner of a device that is named alone is the same user.
            named = (entry == 1) | valid_mask(own_ids.column(subject_of(own_ids).lead))
        self._owners.add(seen.keys.ravel()[cells][named], owners[named])
        differs = seen.differs.reshape(-1, len(self._every))[cells]
        given = seen.fingerprints[rows] != 0
        if LINK in self._layout.names:  # which is the device's
            given[entry == 0, -1] = False
        alone = len(np.unique(positions)) == len(positions)
        self._differed |= differs.any(axis=0)
        for column in np.flatnonzero(self._differed & ~self._every):
            last = np.flatnonzero(given[:, column])
            if not alone:
                last = last[len(last) - 1 - np.unique(positions[last][::-1], return_index=True)[1]]
            now = differs[last, column]
            self._differs[column].add(positions[last[now]])
            self._differs[column].remove(positions[last[~now]])
