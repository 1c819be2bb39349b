"""Rows compared with the snapshot's entries of their users and devices.

A row that names a device alone is about the user to whom the device was linked: links are for good. It counts
for the user's entry, too, or its values would be taken for unchanged when the user's own rows come again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .bit_set import BitSet, KeyFilter
from .layout import LINK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..model import Fingerprints
    from .file import Snapshot
    from .layout import Layout

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
        return _any_entry(self.positions < 0)

    @property
    def differing(self) -> NDArray[np.bool_]:
        """Which fingerprints of a row differ from those of one of its entries; shape (n, p)."""
        return _any_entry(self.differs)

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
    alone = np.flatnonzero(_names_device_alone(keys))
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

    All rows of the run are given to `collect` first, in any order, and then to `resolve`, in theirs.
    """

    def __init__(self, old: Snapshot | None) -> None:
        self._old = old
        self._alone = KeyFilter()
        self._owners: dict[int, int] = {}

    def collect(self, keys: NDArray[np.uint64]) -> None:
        """Take rows of the run, shape (n, w)."""
        keys = with_owners(keys, self._old)
        self._alone.add(keys[_names_device_alone(keys), 0])

    def resolve(self, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The next rows, with its user in place of a device that is named alone."""
        keys = with_owners(keys, self._old)
        if not self._alone or keys.shape[1] == 1:
            return keys
        devices = device_keys(keys)
        links = np.flatnonzero((devices != keys[:, 0]) & self._alone.has(devices))
        for user, device in keys[links].tolist() if len(self._owners) < _MOST_LINKS else ():
            self._owners.setdefault(device, user)
        alone = np.flatnonzero(_names_device_alone(keys))
        if len(alone) and self._owners:
            keys = keys.copy()
            keys[alone, 0] = [self._owners.get(device, device) for device in keys[alone, 0].tolist()]
        return keys


def device_keys(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The second key of rows of shape (n, 2), which is the first again where a row has no device."""
    second: NDArray[np.uint64] = np.where(keys[:, 1] == ~keys[:, 0], keys[:, 0], keys[:, 1])
    return second


def _names_device_alone(keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which rows of a job with both ids name no user; shape (n,)."""
    if keys.shape[1] == 1:
        return np.zeros(len(keys), dtype=np.bool_)
    alone: NDArray[np.bool_] = keys[:, 0] == keys[:, 1]
    return alone


def _any_entry(by_entry: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether it is true for one of the entries; they are on axis 1."""
    some: NDArray[Any] = by_entry[:, 0] if by_entry.shape[1] == 1 else np.asarray(by_entry.any(axis=1))
    return some
