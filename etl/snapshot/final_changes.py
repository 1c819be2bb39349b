"""What differs from the snapshot once all rows of an export have had their say.

A row that says something new is no change yet: where a later row of the same user gives back what the
snapshot has, the user ends as they began, and nothing has to be sent. So the whole export is looked through
first. One bit is kept for each entry and column: 13 columns of 20 million users take 33 MB. And of each user
of whom a row differs two bytes of who it is, as two may share a key.

- In most columns the last row of a user has the last word: the bit says whether it differs.
- In a cumulative column every row counts. Those that differ are gathered by user, beside the snapshot if they
  are many, and in the end made one fingerprint, which is compared.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa

from etl.leaves import valid
from etl.snapshot.bits import Bits
from etl.snapshot.columns import Entries, added_entries, added_rows, added_schema
from etl.snapshot.fingerprints import whose
from etl.snapshot.layout import LINK
from etl.snapshot.merging import last_given
from etl.snapshot.spill import Spill, parts
from etl.snapshot.unchanged import Unchanged

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from etl.snapshot.comparison import Comparison
    from etl.snapshot.layout import Layout
    from etl.snapshot.snapshot_file import Snapshot


class FinalChanges:
    """Takes all rows of an export in source order, compared with a snapshot; then tells what differs.

    Use it as a context manager until it is `finish`ed; what it knows by then stays. StateError where rows
    don't fit into memory and can't be written beside `path`.
    """

    def __init__(self, snapshot: Snapshot, layout: Layout, path: Path) -> None:
        n = len(snapshot)
        self._snapshot = snapshot
        self._layout = layout
        self._every = layout.cumulative
        self._differs = [Bits(n) for _ in layout.names]
        self._touched, self._any = Bits(n), False  # of which a row differed; whether there is one
        self._users = Bits(n)  # those of the touched that are no devices beside a user
        self._steady = Bits(n)  # of which a row was as before in the cumulative columns
        self._owners = np.zeros(n, dtype=np.uint16)  # of the touched entries
        self._strangers: list[NDArray[np.int64]] = []  # whose entries are more than one's
        self._rows = Spill(path, added_schema(layout))
        self._unchanged = Unchanged(snapshot)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(self._rows)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def add(self, seen: Comparison, ids: pa.RecordBatch) -> None:
        """Take the n rows that come next, and the columns of their ids."""
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
            # Of these the rows that are as before count as well: they may be the last.
            told = there & self._touched.has(seen.positions)
            self._users.add(seen.positions[told[:, 0], 0])
            if not self._every.all():
                self._judge(seen, np.flatnonzero(told.ravel()), ids)

    def finish(self) -> None:
        """All rows were taken."""
        for column in np.flatnonzero(~self._every) if self._strangers else ():
            self._differs[column].add(np.concatenate(self._strangers))
        size = self._rows.rows * sum(field.type.byte_width for field in self._rows.schema)
        for first, stop in parts(size):
            added = added_entries(self._rows.taken(first, stop), self._layout, 0)
            if len(added):
                self._compare(last_given(added, self._every))

    def changed(self, apart: Bits | None = None) -> int:
        """How many of the users that the snapshot knows are to be sent something that isn't an increment.

        Where devices are compared, too, how many of these, if they are more. Entries that are `apart` don't
        count.
        """
        changed = self._counted()
        if apart is not None:
            changed.part(apart)
        users = changed.shared(self._users)
        return max(users, len(changed) - users)

    @property
    def unchanged(self) -> Bits:
        """The entries in which something was found as it was."""
        return self._unchanged.entries

    @property
    def reaches_back(self) -> bool:
        """Whether rows that are as before are to be sent because of later ones."""
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
        # With a cumulative column, a row that is as before may be one of those that go.
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
            self._rows.add(added_rows(seen.keys[rows, entries], fingerprints, self._rows.schema))

    def _judge(self, seen: Comparison, cells: NDArray[np.int64], ids: pa.RecordBatch) -> None:
        """Of each entry and column the last row that gives it counts. `cells` are numbers in (n, w)."""
        entries = seen.positions.shape[1]
        positions = seen.positions.ravel()[cells]
        rows, entry = np.divmod(cells, entries)
        own = ids.take(pa.array(rows))
        owners = whose(own, self._layout)[np.arange(len(rows)), entry]
        # Whoever a device that is named alone belongs to is nobody else.
        named = (entry == 1) | valid(own.column("user_id")) if entries == 2 else np.ones(len(rows), np.bool_)
        self._find_strangers(positions[named], owners[named])
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
        """Users who share a key: what the one is told is not the last word on the other."""
        new = self._owners[positions] == 0
        self._owners[positions[new]] = owners[new]
        other = self._owners[positions] != owners
        if other.any():
            self._strangers.append(positions[other])

    def _compare(self, entries: Entries) -> None:
        found = self._snapshot.look_up(entries.keys, entries.fingerprints, self._layout)
        differs = (entries.fingerprints != 0) & ~found.equal
        self.unchanged.add(found.positions[~differs.any(axis=1)])
        for column in np.flatnonzero(self._every):
            self._differs[column].add(found.positions[differs[:, column]])

    def _counted(self) -> Bits:
        """The entries that differ in a column in which that is a reason to send."""
        changed = Bits(len(self._snapshot))
        for name, bits in zip(self._layout.names, self._differs, strict=True):
            if name in self._layout.counted:
                changed.unite(bits)
        return changed
