"""Stage 3, DIFF: what is left of each row once it has been compared with the snapshot.

The profiles end as they would if every row were sent in full, and what is left of a row doesn't depend on how
the rows were batched.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from ..arrow.layout import nested_rows, value_columns
from ..arrow.originals import rejects_of, rows_with_originals
from ..model import Mapped, Reject
from ..subject import subject_of, user_keys
from .comparison import Comparison, compare, with_owners
from .fingerprints import LINK, fingerprints_of, given
from .sorted_file import BitSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from ..arrow.json_text import Splice
    from ..model import Fingerprints
    from .comparison import FinalChanges
    from .file import Snapshot
    from .fingerprints import Layout

# Rows looked up together: a share of the snapshot's entries, and no more than memory can hold.
_SHARE: Final = 200
_MOST: Final = 81_920
_HELD_BYTES: Final = 48_000_000
_BITS: Final = (1 << 16) - 1
_ROUNDS: Final = 8  # a longer chain of users and devices is followed row by row


@dataclass(frozen=True, slots=True)
class DiffedBatch:
    """The k rows of a mapped batch of n rows that are sent, or would be.

    `mapped` has only what is to be sent, with its fingerprints, and rejects for rows that a later run
    overtook. `changes` (shape (k, p)) marks the fingerprints that differ in rows of users whom the snapshot
    knows. `seen` is the comparison of all n rows, `ids` are theirs, and `rows` (shape (k,)) are those that
    are left; None where nothing was compared.
    """

    mapped: Mapped
    changes: NDArray[np.bool_]
    seen: Comparison | None = None
    ids: pa.RecordBatch | None = None
    rows: NDArray[np.int64] | None = None


@dataclass(slots=True, eq=False)
class Differ:
    """Compares batches in source order; it remembers which users had a row sent in this run.

    Without a snapshot, everything is sent. With `looks` it gives no identifications, only which rows are
    sent. `final` is what differs in the end, if the whole source was read before. `splice` is that of
    `fingerprints_of`. The snapshot is of the layout's mode.
    """

    layout: Layout
    snapshot: Snapshot | None = None
    _: KW_ONLY
    looks: bool = False
    final: FinalChanges | None = None
    splice: Splice | None = None
    _sent: BitSet = field(init=False)

    def __post_init__(self) -> None:
        self._sent = BitSet(0 if self.snapshot is None else len(self.snapshot))

    def mark(self, keys: NDArray[np.uint64]) -> None:
        """Record that users of shape (m, w) had rows sent in this run, before the rows that come next."""
        if self.snapshot is not None:
            for column in with_owners(keys, self.snapshot).T:
                self._sent.add(self.snapshot.find(column))

    def each(self, batches: Iterable[Mapped]) -> Iterator[DiffedBatch]:
        """Compare batches one by one. With a big snapshot, several are looked up together.

        A snapshot is sorted by key and an export isn't, so even a few rows read places all over the file.
        """
        at_once = min(len(self.snapshot) // _SHARE, _MOST) if self.snapshot else 0
        gathered: list[Mapped] = []
        for mapped in map(self.hashed, batches):
            gathered.append(mapped)
            rows = sum(len(some.kept) for some in gathered)
            if rows >= at_once or sum(some.batch.rows.nbytes for some in gathered) > _HELD_BYTES:
                yield from self._together(gathered)
                gathered = []
        yield from self._together(gathered)

    def hashed(self, mapped: Mapped) -> Mapped:
        """A batch with the fingerprints of all its rows; also in another thread, before it is compared."""
        if mapped.fingerprints is not None:
            return mapped
        own = fingerprints_of(mapped.identifications, self.layout, self.splice)
        return replace(mapped, fingerprints=own)

    def _together(self, batches: list[Mapped]) -> Iterator[DiffedBatch]:
        if self.snapshot is None:
            for mapped in batches:
                yield DiffedBatch(mapped, np.zeros((len(mapped.kept), len(self.layout.names)), np.bool_))
        elif batches:
            keys = np.concatenate([user_keys(mapped.identifications) for mapped in batches])
            runs = [
                np.full(len(mapped.kept), -1) if mapped.batch.runs is None else mapped.batch.runs[mapped.kept]
                for mapped in batches
            ]
            own = np.concatenate([one.fingerprints for one in batches if one.fingerprints is not None])
            owned = with_owners(keys, self.snapshot)
            seen = compare(own, owned, self.snapshot, self.layout, np.concatenate(runs))
            stop = 0
            for mapped in batches:
                start, stop = stop, stop + len(mapped.kept)
                yield self._diff(mapped, seen.take(slice(start, stop)))

    def _diff(self, mapped: Mapped, seen: Comparison) -> DiffedBatch:
        """What is left of a batch, after all the rows before it."""
        if self.final is not None:
            seen = self.final.narrowed(seen)
        may, changed = ~seen.overtaken, seen.changed(self.layout.counted)
        before = self._sent.has(seen.positions).any(axis=1)
        increments = [path for group in self.layout.bundles if group.unrepeatable for path in group.paths]
        alone = (may & (changed | before)) | given(mapped.identifications, increments)
        after = before | later_rows(seen.positions, alone, may=may)
        going = alone | (may & after)
        rows, late = np.flatnonzero(going), np.flatnonzero(seen.overtaken & changed & ~going)
        sent = seen.take(rows)
        self._sent.add(sent.positions.ravel())
        unknown = sent.unknown & may[rows]
        differing = sent.differing & (may & changed)[rows, None]
        whole = may[rows] & (after[rows] | unknown)
        if LINK in self.layout.names:  # the device is linked to another user than before
            whole |= may[rows] & sent.differs[:, -1, -1]
        left = replace(
            mapped,
            kept=mapped.kept[rows],
            identifications=self._left(mapped.identifications, rows, differing, whole),
            fingerprints=self._recorded(sent, differing | whole[:, None]),
            rejects=_with_superseded(mapped, late, seen.runs[late]),
        )
        ids = mapped.identifications.select(subject_of(mapped.identifications).fields)
        return DiffedBatch(left, differing & ~unknown[:, None], seen, ids, rows)

    def _left(
        self,
        identifications: pa.RecordBatch,
        rows: NDArray[np.int64],
        differing: NDArray[np.bool_],
        whole: NDArray[np.bool_],
    ) -> pa.RecordBatch:
        """The m `rows` of the identifications, of the same type, with only the values that go.

        Of `whole` rows (shape (m,)) all do, of others those that are `differing` (shape (m, p)), and
        increments always.
        """
        if self.looks or not len(rows):  # of most batches on most nights there are none
            return identifications.slice(0, 0)
        if len(rows) < identifications.num_rows:
            identifications = identifications.take(pa.array(rows))
        columns, everything, cut = dict(value_columns(identifications)), np.arange(len(rows)), False
        groups = [group for group in self.layout.bundles if not group.unrepeatable]
        for place, group in enumerate(groups):  # by property, the columns are of these
            keep = whole | differing[:, 0 if self.layout.mode == "user" else place]
            if not keep.all():
                cut, chosen = True, pa.array(everything, mask=~keep)
                columns |= {path: columns[path].take(chosen) for path in columns.keys() & group.paths}
        if not cut:
            return identifications
        return nested_rows(columns)

    def _recorded(self, seen: Comparison, sent: NDArray[np.bool_]) -> Fingerprints:
        """The fingerprints that the snapshot is to have of rows; `sent` (shape (k, p)) marks what is sent.

        Shape (k, p), or (k, 2p) where each of a row's entries has its own. In a cumulative column an entry
        gets all of a run's fingerprints or none: with a part of them it would differ the next night.
        """
        if self.final is None or not self.layout.cumulative.any():
            return seen.fingerprints * sent
        entries = seen.positions.shape[1] if self.layout.paired else 1
        recorded = np.repeat(sent[:, None], entries, axis=1)
        every = self.layout.cumulative
        recorded[:, :, every] &= (seen.differs | (seen.positions < 0)[:, :, None])[:, :entries, every]
        columns = entries * sent.shape[1]
        fingerprints: Fingerprints = (seen.fingerprints[:, None] * recorded).reshape(len(sent), columns)
        return fingerprints


def later_rows(
    positions: NDArray[np.int64], sent: NDArray[np.bool_], *, may: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which of n rows come after a row of the same user that is sent; shape (n,).

    They must be sent in full, or the older row would decide what the later one leaves out as unchanged.
    `positions` (shape (n, w)) are each row's users, -1 for none. `sent` rows are sent by themselves; a later
    row is sent, too, where it `may`, and then has later rows of its own.
    """
    after = np.zeros(len(sent), dtype=np.bool_)
    width, cell_users = positions.shape[1], positions.ravel()
    for _ in range(_ROUNDS):
        rows = np.flatnonzero(sent | (after & may))
        if not len(rows):
            return after
        users, place = np.unique(positions[rows], return_index=True)
        first = rows[place // width]
        # Most rows are of other users, as a few bits of them show.
        bits = np.zeros(_BITS + 1, dtype=np.bool_)
        bits[users & _BITS] = True
        cells = np.flatnonzero(bits[cell_users & _BITS] & (cell_users >= 0))
        own, found_rows = cell_users[cells], cells // width
        at = np.minimum(np.searchsorted(users, own), len(users) - 1)
        wider = np.zeros(len(sent), dtype=np.bool_)
        wider[found_rows[(users[at] == own) & (first[at] < found_rows)]] = True
        # With one id, a later row shares its user with the row before it: nobody is added.
        if width == 1 or np.array_equal(wider, after):
            return wider
        after = wider
    found: set[int] = set()
    for row, own in enumerate(positions.tolist()):
        after[row] = not found.isdisjoint(own)
        if sent[row] or (after[row] and may[row]):
            found.update(position for position in own if position >= 0)
    return after


def _with_superseded(mapped: Mapped, rows: NDArray[np.int64], runs: NDArray[np.int64]) -> tuple[Reject, ...]:
    """The batch's rejects and the rows that a later run overtook; `runs` (shape (m, 2)) are both runs."""
    if len(rows) == 0:
        return mapped.rejects
    reasons = [
        f"run {rejected} rejected this row, and run {accepted} sent other values of this user, or found "
        "that Amplitude has them; to send the row in spite of that, run with --full"
        for rejected, accepted in runs.tolist()
    ]
    batch, why = mapped.batch, (("superseded", reason) for reason in reasons)
    late = rejects_of(batch, rows_with_originals(batch), mapped.kept[rows], why, mapped.keep_empty)
    return tuple(sorted([*mapped.rejects, *late], key=lambda reject: reject.row))
