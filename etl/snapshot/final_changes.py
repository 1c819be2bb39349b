"""What differs from the snapshot at the end of an export.

A row with a new value is no change yet: where a later row of the same user restores what the snapshot has,
the user ends unchanged, and nothing has to be sent. So the whole export is read first. One bit is kept for
each entry and column: 13 columns of 20 million users take 33 MB. And for each user with a row that differs,
two bytes of a hash of the id, as two users may share a key.

- In most columns the last row of a user decides: the bit is whether it differs.
- In a cumulative column every row counts. Those that differ are gathered by user, beside the snapshot if they
are   many, and at the end combined to one fingerprint, which is compared.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa

from ..arrow.structs import valid_mask
from .bit_set import BitSet
from .comparison import UnchangedUsers
from .fingerprints import owner_hashes
from .layout import LINK
from .snapshot_entries import added_entries, added_schema, last_fingerprints
from .spill_buffer import SpillBuffer, binary_column

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from .comparison import Comparison
    from .file import Snapshot
    from .layout import Layout


class FinalChanges:
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
        self._touched, self._any = BitSet(n), False  # entries with a row that differed; whether there is one
        self._users = BitSet(n)  # touched entries that are not of a device beside a user
        self._steady = BitSet(n)  # entries with a row that was unchanged in the cumulative columns
        self._owners = np.zeros(n, dtype=np.uint16)  # hashes of the ids of touched entries
        self._strangers: list[NDArray[np.int64]] = []  # entries that several users share
        self._rows = SpillBuffer(path, added_schema(layout))
        self._unchanged = UnchangedUsers(snapshot)
        self.unchanged = self._unchanged.entries  # entries in which something was found unchanged

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
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
        # What is sent to one user of a shared entry doesn't decide what another one has.
        for column in np.flatnonzero(~self._every) if self._strangers else ():
            self._differs[column].add(np.concatenate(self._strangers))
        for rows in self._rows.parts():
            if rows.num_rows:
                entries = last_fingerprints(added_entries(rows, self._layout, 0), self._every)
                found = self._snapshot.look_up(entries.keys, entries.fingerprints, self._layout)
                differs = (entries.fingerprints != 0) & ~found.equal
                self.unchanged.add(found.positions[~differs.any(axis=1)])
                for column in np.flatnonzero(self._every):
                    self._differs[column].add(found.positions[differs[:, column]])

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
        if seen.positions.shape[1] == 2:
            # The owner of a device that is named alone is the same user.
            named = (entry == 1) | valid_mask(own_ids.column("user_id"))
            self._find_strangers(positions[named], owners[named])
        else:
            self._find_strangers(positions, owners)
        differs = seen.differs.reshape(-1, len(self._every))[cells]
        given = seen.fingerprints[rows] != 0
        if LINK in self._layout.names:  # which is the device's
            given[entry == 0, -1] = False
        alone = len(np.unique(positions)) == len(positions)
        for column in np.flatnonzero(~self._every):
            last = np.flatnonzero(given[:, column])
            if not alone:
                own = positions[last]
                last = last[len(own) - 1 - np.unique(own[::-1], return_index=True)[1]]
            now = differs[last, column]
            self._differs[column].add(positions[last[now]])
            self._differs[column].remove(positions[last[~now]])

    def _find_strangers(self, positions: NDArray[np.int64], owners: NDArray[np.uint16]) -> None:
        new = self._owners[positions] == 0
        self._owners[positions[new]] = owners[new]
        other = self._owners[positions] != owners
        if other.any():
            self._strangers.append(positions[other])
