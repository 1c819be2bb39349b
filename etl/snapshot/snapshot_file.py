"""The snapshot: for each user, fingerprints of what Amplitude took last. Reading it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self, cast

import numpy as np

from etl.snapshot.bits import Bits
from etl.snapshot.columns import (
    IN_DOUBT,
    RUN,
    SNAPSHOT,
    WHOLE,
    Entries,
    owners_of,
    shared,
    snapshot_entries,
    stored_fingerprints,
)
from etl.snapshot.fingerprints import whole_fingerprints
from etl.snapshot.partitions import PartitionFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from etl.model import Fingerprints
    from etl.snapshot.layout import Layout
    from etl.snapshot.partitions import Partition

_LOSS: Final = "then sends everyone, and writes it anew"


@dataclass(frozen=True, slots=True)
class Found:
    """What a snapshot knows of n rows.

    `positions` (int64, shape (n,)) are the entries of their users, -1 where there is none. `equal` (bool,
    shape (n, p)) says which of their fingerprints the entry has, too; where all that count are equal, the
    others count as equal. `same` (bool, shape (n,)) marks rows of known users where that is so.
    """

    positions: NDArray[np.int64]
    equal: NDArray[np.bool_]
    same: NDArray[np.bool_]


class Snapshot:
    """An open snapshot. Use it as a context manager; one thread at a time.

    `mode` and `hashing` are those of the layout it was made with, `names` are its columns of fingerprints.
    """

    def __init__(self, file: PartitionFile) -> None:
        self._file = file
        self.mode = cast("Literal['property', 'user']", file.contents.mode)
        self.stamp = file.contents.stamp
        self.hashing = file.contents.hashing
        self.names = tuple(file.contents.names)

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """Open the snapshot at `path`; None where there is none.

        Raises StaleCheckpointError where it is damaged or was written by a newer version.
        """
        return cls(PartitionFile(path, SNAPSHOT, loss=_LOSS)) if path.exists() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._file)

    def __bool__(self) -> bool:
        return True  # also where it knows nobody

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Positions of n keys, shape (n,); -1 for those that are unknown."""
        return self._file.find(keys)

    def look_up(self, keys: NDArray[np.uint64], fingerprints: Fingerprints, layout: Layout) -> Found:
        """Compare n rows (`keys` (n,), `fingerprints` (n, p)) with their users' entries."""
        order = np.argsort(keys)
        needles, wholes = keys[order], whole_fingerprints(fingerprints, layout)[order]
        # In the order of the needles; put back in the end.
        positions = np.full(len(keys), -1, dtype=np.int64)
        same = np.zeros(len(keys), dtype=np.bool_)
        equal = np.zeros(fingerprints.shape, dtype=np.bool_)
        for span, part in self._file.split(needles):
            at, hit = part.search(needles[span])
            positions[span] = np.where(hit, at + part.first, -1)
            same[span] = hit & self._same(part, at, wholes[span])
            rest = np.flatnonzero(hit & ~same[span])
            if len(rest) and layout.mode == "property":
                rows = order[span][rest]
                equal[rows] = self._equal(part, at[rest], fingerprints[rows], layout)
        equal[order[same]] = True
        back, alike = np.empty_like(positions), np.empty_like(same)
        back[order], alike[order] = positions, same
        return Found(back, equal, alike)

    def runs(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of the runs that last had their say on these entries; -1 for the position -1."""
        runs = np.full(len(positions), -1, dtype=np.int64)
        for part in self._file.partitions:
            here = np.flatnonzero((positions >= part.first) & (positions < part.first + len(part)))
            runs[here] = part.column(RUN)[positions[here] - part.first] & ~IN_DOUBT
        return runs

    def owners_at(self, positions: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Whom the devices of these entries are linked to, as keys; 0 for nobody, and for the position -1."""
        owners = np.zeros(len(positions), dtype=np.uint64)
        for part in self._file.partitions:
            here = np.flatnonzero((positions >= part.first) & (positions < part.first + len(part)))
            if len(here):
                owners[here] = owners_of(part.rows)[positions[here] - part.first]
        return owners

    def doubtful(self) -> Bits:
        """The entries of users who were sent something that nobody knows the fate of."""
        found = Bits(len(self))
        for part in self._file.partitions:
            found.add(part.first + np.flatnonzero(part.column(RUN) & IN_DOUBT))
            self._file.touched(4 * len(part))
        return found

    def entries(self, low: int, high: int, layout: Layout) -> Entries:
        """The entries with keys from `low` to `high - 1`, in their order, with the columns of `layout`."""
        return snapshot_entries(list(self._file.between(low, high)), self.names, layout)

    def sorted_keys(self) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """All keys in ascending order, in pieces, each with the position of its first."""
        for part in self._file.partitions:
            yield part.first, part.keys
            self._file.touched(8 * len(part))

    def owners(self) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """Whom the device of each entry is linked to, as a key, 0 for nobody; in pieces as `sorted_keys`."""
        for part in self._file.partitions:
            yield part.first, owners_of(part.rows)
            self._file.touched(8 * len(part))

    def _same(self, part: Partition, at: NDArray[np.int64], wholes: Fingerprints) -> NDArray[np.bool_]:
        """Which rows have all fingerprints that count as the entry has them, or none at all."""
        self._file.touched(wholes.itemsize * len(part))
        same: NDArray[np.bool_] = (wholes == 0) | (part.column(WHOLE)[at] == wholes)
        return same

    def _equal(
        self, part: Partition, at: NDArray[np.int64], fingerprints: Fingerprints, layout: Layout
    ) -> NDArray[np.bool_]:
        stored = stored_fingerprints(part.rows, layout)
        here, there = shared(layout.names, self.names)
        equal = np.zeros(fingerprints.shape, dtype=np.bool_)
        equal[:, here] = stored[at][:, there] == fingerprints[:, here]
        # However few are looked at: the system maps large pieces around each.
        self._file.touched(stored.nbytes)
        return equal
