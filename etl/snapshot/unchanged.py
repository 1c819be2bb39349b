"""Of whom a run found something as it was: on these it has had its say, though it sends nothing.

A reject of an earlier run is older than that, and must not overwrite it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from etl.snapshot.bits import Bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl.model import Fingerprints
    from etl.snapshot.comparison import Comparison
    from etl.snapshot.snapshot_file import Snapshot


class Unchanged:
    """Remembers them, one bit for each entry of the snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.entries = Bits(len(snapshot))

    def add(self, seen: Comparison) -> None:
        """Take rows, compared with the snapshot; those that a later run overtook say nothing."""
        rows = np.flatnonzero(_give_any(seen.fingerprints) & ~seen.overtaken)
        other = seen.other[rows]
        self.entries.add(seen.positions[rows[~other]].ravel())
        rows = rows[other]
        if len(rows):
            same = ((seen.fingerprints[rows] != 0)[:, None] & ~seen.differs[rows]).any(axis=2)
            self.entries.add(seen.positions[rows][same])


def _give_any(fingerprints: Fingerprints) -> NDArray[np.bool_]:
    """Which rows have anything to be compared; shape (n,). Most have a value in one of the first columns."""
    found = np.zeros(len(fingerprints), dtype=np.bool_)
    for column in fingerprints.T:
        found |= column != 0
        if found.all():
            break
    return found
