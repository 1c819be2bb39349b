"""Rows beside what the snapshot has of their users."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from etl.changes.layout import LINK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl.changes.layout import Layout
    from etl.changes.snapshot import Snapshot
    from etl.model import Prints

    Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is to be said of n rows.

    `positions` (shape (n, w)) are their users' entries, -1 for an unknown one. `differs` (shape (n, p)) marks
    given prints that an entry has otherwise or not at all. Of shape (n,): `unknown` rows have an unknown id;
    `linked` ones tie a device to another user than before; `changed` ones have a difference that counts, or
    are unknown; `overtaken` ones were rejected by an earlier run than the one that last had their user
    accepted. `runs` (shape (n, 2)) are those two runs.
    """

    positions: NDArray[np.int64]
    differs: Mask
    unknown: Mask
    linked: Mask
    changed: Mask
    overtaken: Mask
    runs: NDArray[np.int64]

    def between(self, start: int, stop: int) -> Comparison:
        """What is said of the rows `start` to `stop - 1`."""
        return Comparison(*(getattr(self, field.name)[start:stop] for field in fields(self)))


def compare(
    prints: Prints,
    keys: NDArray[np.uint64],
    snapshot: Snapshot,
    layout: Layout,
    rejected: NDArray[np.int64],
) -> Comparison:
    """Compare rows with `prints` (shape (n, p)) and `keys` (shape (n, w)) with the snapshot.

    `rejected` (shape (n,)) is the number of the run that rejected a row, -1 if none did. A row with two ids
    is compared with the entries of both, but for the link, which is the device's.
    """
    entries = [snapshot.look_up(column, prints, layout) for column in _users(keys)]
    given = prints != 0
    differs = given & np.logical_or.reduce([~entry.equal for entry in entries])
    linked = np.zeros(len(prints), dtype=np.bool_)
    if LINK in layout.names:
        linked = given[:, -1] & ~entries[-1].equal[:, -1]
        differs[:, -1] = linked
    positions = np.stack([entry.positions for entry in entries], axis=1)
    unknown: Mask = np.logical_or.reduce(positions < 0, axis=1)
    runs = _runs(positions, snapshot, rejected)
    counted = np.isin(layout.names, layout.counted)
    return Comparison(
        positions=positions,
        differs=differs,
        unknown=unknown,
        linked=linked,
        changed=unknown | differs[:, counted].any(axis=1),
        overtaken=(runs[:, 0] >= 0) & (runs[:, 1] > runs[:, 0]),
        runs=runs,
    )


def _runs(positions: NDArray[np.int64], snapshot: Snapshot, rejected: NDArray[np.int64]) -> NDArray[np.int64]:
    """The run that rejected each row, and the last one that had its user accepted; shape (n, 2)."""
    if not (rejected >= 0).any():
        return np.full((len(positions), 2), -1, dtype=np.int64)
    accepted = np.maximum.reduce([snapshot.runs(column) for column in positions.T])
    return np.stack([rejected, accepted], axis=1)


def _users(keys: NDArray[np.uint64]) -> list[NDArray[np.uint64]]:
    """Keys by column; a row that names no device has its user's there, too."""
    if keys.shape[1] == 1:
        return [keys[:, 0]]
    return [keys[:, 0], device_keys(keys)]


def device_keys(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The second key of rows of shape (n, 2), which is the first again where a row has no device."""
    second: NDArray[np.uint64] = np.where(keys[:, 1] == ~keys[:, 0], keys[:, 0], keys[:, 1])
    return second
