"""Rows beside what the snapshot has of their users."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from etl.snapshot.layout import LINK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl.model import Fingerprints
    from etl.snapshot.layout import Layout
    from etl.snapshot.snapshot_file import Snapshot

    Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is to be said of n rows with `fingerprints` (shape (n, p)) and w entries in the snapshot each.

    Of shape (n, w): `keys` are those of the entries, `positions` their places, -1 for an unknown one.
    `differs` (shape (n, w, p)) marks given fingerprints that an entry has otherwise or not at all. It does so
    in the `other` rows only (shape (n,)); the rest are of known users and as before. `overtaken` rows (shape
    (n,)) were rejected by an earlier run than the one that last had its say on their user: that sent
    something, or found it as it was. `runs` (shape (n, 2)) are those two runs.
    """

    fingerprints: Fingerprints
    keys: NDArray[np.uint64]
    positions: NDArray[np.int64]
    differs: Mask
    other: Mask
    overtaken: Mask
    runs: NDArray[np.int64]

    def between(self, start: int, stop: int) -> Comparison:
        """What is said of the rows `start` to `stop - 1`."""
        return Comparison(*(getattr(self, field.name)[start:stop] for field in fields(self)))

    @property
    def unknown(self) -> Mask:
        """Which rows have an unknown id; shape (n,)."""
        return _any(self.positions < 0)

    @property
    def differing(self) -> Mask:
        """Which fingerprints of a row differ from what one of its entries has; shape (n, p)."""
        return _any(self.differs)

    def changed(self, counted: Mask) -> Mask:
        """Which rows have an unknown id, or differ in a `counted` column (shape (p,)); shape (n,)."""
        changed = self.unknown
        rows = np.flatnonzero(self.other)
        changed[rows] |= self.differs[rows][:, :, counted].any(axis=(1, 2))
        return changed

    def linked(self, layout: Layout) -> Mask:
        """Which rows tie a device to another user than before; shape (n,)."""
        if LINK not in layout.names:
            return np.zeros(len(self.fingerprints), dtype=np.bool_)
        linked: Mask = self.differs[:, -1, -1]
        return linked


def compare(
    fingerprints: Fingerprints,
    keys: NDArray[np.uint64],
    snapshot: Snapshot,
    layout: Layout,
    rejected: NDArray[np.int64],
) -> Comparison:
    """Compare rows with `fingerprints` (shape (n, p)) and `keys` (shape (n, w)) with the snapshot.

    `rejected` (shape (n,)) is the number of the run that rejected a row, -1 if none did. A row with two ids
    is compared with the entries of both, but for the link, which is the device's.
    """
    keys = entry_keys(keys)
    entries = [snapshot.look_up(column, fingerprints, layout) for column in keys.T]
    other: Mask = ~np.logical_and.reduce([entry.same for entry in entries])
    differs = np.zeros((len(fingerprints), len(entries), fingerprints.shape[1]), dtype=np.bool_)
    rows = np.flatnonzero(other)
    if len(rows):
        given = fingerprints[rows] != 0
        differs[rows] = np.stack([given & ~entry.equal[rows] for entry in entries], axis=1)
    if LINK in layout.names:
        differs[:, 0, -1] = False
    positions = np.stack([entry.positions for entry in entries], axis=1)
    runs = _runs(positions, snapshot, rejected)
    return Comparison(
        fingerprints=fingerprints,
        keys=keys,
        positions=positions,
        differs=differs,
        other=other,
        overtaken=(runs[:, 0] >= 0) & (runs[:, 1] > runs[:, 0]),
        runs=runs,
    )


def entry_keys(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The keys of the entries of rows; a row that names no device has its user's there, too."""
    return keys if keys.shape[1] == 1 else np.stack([keys[:, 0], device_keys(keys)], axis=1)


def device_keys(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The second key of rows of shape (n, 2), which is the first again where a row has no device."""
    second: NDArray[np.uint64] = np.where(keys[:, 1] == ~keys[:, 0], keys[:, 0], keys[:, 1])
    return second


def _any(by_entry: Mask) -> Mask:
    """Whether it is so of one of the entries; they are on axis 1."""
    some: NDArray[Any] = by_entry[:, 0] if by_entry.shape[1] == 1 else np.asarray(by_entry.any(axis=1))
    return some


def _runs(positions: NDArray[np.int64], snapshot: Snapshot, rejected: NDArray[np.int64]) -> NDArray[np.int64]:
    """The run that rejected each row, and the last one that had its say on the user; shape (n, 2)."""
    if not (rejected >= 0).any():
        return np.full((len(positions), 2), -1, dtype=np.int64)
    accepted = np.maximum.reduce([snapshot.runs(column) for column in positions.T])
    return np.stack([rejected, accepted], axis=1)
