"""Stage 3, DIFF: of each row what Amplitude doesn't have yet, judged by the snapshot.

Whatever is left out, the profiles end as they would if every row were sent in full. What is left of a row
doesn't depend on how the rows were batched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from etl.amplitude import ID_FIELDS
from etl.keys import user_keys
from etl.model import Mapped, Reject
from etl.snapshot.bits import Bits
from etl.snapshot.comparison import Comparison, compare
from etl.snapshot.fingerprints import fingerprints_of, given
from etl.snapshot.followers import followers
from etl.snapshot.links import with_owners
from etl.snapshot.remains import remains
from etl.values import originals, shown_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

    from etl.json_lines import Splice
    from etl.leaves import Path
    from etl.model import Fingerprints
    from etl.snapshot.final_changes import FinalChanges
    from etl.snapshot.layout import Layout
    from etl.snapshot.snapshot_file import Snapshot

    Mask = NDArray[np.bool_]

# Rows looked up together: a share of the snapshot's entries, and no more than memory is for.
_SHARE: Final = 200
_MOST: Final = 65_536
_HELD_BYTES: Final = 48_000_000


@dataclass(frozen=True, slots=True)
class Compared:
    """What is left of a mapped batch of n rows, k rows of it.

    `mapped` has only what is to be sent, with its fingerprints; rows that a later run overtook are rejects in
    it. `new` (shape (k,)) marks rows of users that the snapshot doesn't know, `changes` (shape (k, p)) the
    fingerprints that differ in rows of known users. `unchanged` rows said nothing new. `seen` is what was
    found of all n rows, `ids` are theirs, and `rows` (shape (k,)) are those that are left; None where nothing
    was compared.
    """

    mapped: Mapped
    new: Mask
    changes: Mask
    unchanged: int
    seen: Comparison | None = None
    ids: pa.RecordBatch | None = None
    rows: NDArray[np.int64] | None = None


class Differ:
    """Compares batches in source order; it remembers which users had a row sent in this run.

    With `full`, or without a snapshot, everything is sent. `final` says what differs in the end, where the
    whole source was looked through before. `splice` is that of `fingerprints_of`. Raises ValueError for a
    snapshot of another mode.
    """

    def __init__(
        self,
        layout: Layout,
        snapshot: Snapshot | None = None,
        *,
        full: bool = False,
        final: FinalChanges | None = None,
        splice: Splice | None = None,
    ) -> None:
        if snapshot is not None and snapshot.mode != layout.mode:
            raise ValueError(f"the snapshot is by {snapshot.mode}, not by {layout.mode}")
        self._layout = layout
        self._snapshot = snapshot
        self._full = full
        self._final = final
        self._splice = splice
        self._counted = np.isin(layout.names, layout.counted)
        self._sent = Bits(0 if snapshot is None else len(snapshot))

    def mark(self, keys: NDArray[np.uint64]) -> None:
        """Users of shape (m, w) had rows sent in this run before the rows that come next."""
        if self._snapshot is not None and not self._full:
            for column in with_owners(keys, self._snapshot).T:
                self._sent.add(self._snapshot.find(column))

    def each(self, batches: Iterable[Mapped]) -> Iterator[Compared]:
        """Compare batches one by one. Of a big snapshot, several are looked up together.

        It is stored by key, and an export isn't: however few rows are looked up, all of it is passed over.
        """
        at_once = min(len(self._snapshot) // _SHARE, _MOST) if self._snapshot and not self._full else 0
        gathered: list[Mapped] = []
        for mapped in batches:
            gathered.append(mapped)
            rows = sum(len(some.kept) for some in gathered)
            if rows >= at_once or sum(some.batch.rows.nbytes for some in gathered) > _HELD_BYTES:
                yield from self._together(gathered)
                gathered = []
        yield from self._together(gathered)

    def diff(self, mapped: Mapped) -> Compared:
        """Compare a batch."""
        (compared,) = self._together([mapped])
        return compared

    def _together(self, batches: list[Mapped]) -> Iterator[Compared]:
        fingerprints = [
            fingerprints_of(mapped.identifications, self._layout, self._splice) for mapped in batches
        ]
        if self._snapshot is None or self._full:
            for mapped, own in zip(batches, fingerprints, strict=True):
                new = np.full(len(own), self._snapshot is None)
                yield Compared(replace(mapped, fingerprints=own), new, np.zeros(own.shape, np.bool_), 0)
        elif batches:
            keys = np.concatenate([user_keys(mapped.identifications) for mapped in batches])
            runs = np.concatenate([_runs(mapped) for mapped in batches])
            keys = with_owners(keys, self._snapshot)
            seen = compare(np.concatenate(fingerprints), keys, self._snapshot, self._layout, runs)
            ends = np.cumsum([len(own) for own in fingerprints]).tolist()
            for mapped, own, end in zip(batches, fingerprints, ends, strict=True):
                yield self._left(mapped, seen.between(end - len(own), end))

    def _left(self, mapped: Mapped, seen: Comparison) -> Compared:
        """What is left of a batch, after all the rows before it."""
        if self._final is not None:
            seen = self._final.narrowed(seen)
        may, changed = ~seen.overtaken, seen.changed(self._counted)
        before = self._sent.has(seen.positions).any(axis=1)
        alone = (may & (changed | before)) | self._has_increment(mapped.identifications)
        after = before | followers(seen.positions, alone, may=may)
        going = alone | (may & after)
        rows = np.flatnonzero(going)
        if len(rows) == 0:
            return self._nothing_left(mapped, seen, changed)
        self._sent.add(seen.positions[rows].ravel())
        unknown = seen.unknown
        differing = seen.differing & (may & changed)[:, None]
        whole = may & (after | unknown | seen.linked(self._layout))
        keeps = self._keeps(differing, whole)
        late = np.flatnonzero(seen.overtaken & changed & ~going)
        left = replace(
            mapped,
            kept=mapped.kept[rows],
            identifications=remains(
                mapped.identifications, rows, [(paths, keep[rows]) for paths, keep in keeps]
            ),
            fingerprints=self._recorded(seen, differing | whole[:, None])[rows],
            rejects=_with_superseded(mapped, late, seen.runs[late]),
        )
        changes = differing & ~unknown[:, None]
        new, unchanged = may & unknown, len(going) - len(rows) - len(late)
        return Compared(left, new[rows], changes[rows], unchanged, seen, _ids(mapped), rows)

    def _nothing_left(self, mapped: Mapped, seen: Comparison, changed: Mask) -> Compared:
        """The same of a batch of which no row goes, as are most of most nights."""
        late, rows = np.flatnonzero(seen.overtaken & changed), np.empty(0, dtype=np.int64)
        nothing = np.zeros((0, seen.fingerprints.shape[1]), dtype=np.bool_)
        left = replace(
            mapped,
            kept=rows,
            identifications=mapped.identifications.slice(0, 0),
            fingerprints=self._recorded(seen.between(0, 0), nothing),
            rejects=_with_superseded(mapped, late, seen.runs[late]),
        )
        unchanged = len(seen.fingerprints) - len(late)
        return Compared(left, np.empty(0, np.bool_), nothing, unchanged, seen, _ids(mapped), rows)

    def _recorded(self, seen: Comparison, sent: Mask) -> Fingerprints:
        """The fingerprints that the snapshot is to have of rows of which `sent` (shape (n, p)) goes.

        Shape (n, p), or (n, 2p) where each of a row's entries has its own. In a cumulative column an entry
        gets all of a run's fingerprints or none: with a part of them it would differ the next night.
        """
        if self._final is None or not self._layout.cumulative.any():
            return seen.fingerprints * sent
        entries = seen.positions.shape[1] if self._layout.by_entry else 1
        recorded = np.repeat(sent[:, None], entries, axis=1)
        every = self._layout.cumulative
        recorded[:, :, every] &= (seen.differs | (seen.positions < 0)[:, :, None])[:, :entries, every]
        fingerprints: Fingerprints = (seen.fingerprints[:, None] * recorded).reshape(
            len(sent), entries * sent.shape[1]
        )
        return fingerprints

    def _has_increment(self, identifications: pa.RecordBatch) -> Mask:
        paths = [path for bundle in self._layout.bundles if bundle.unrepeatable for path in bundle.paths]
        return given(identifications, tuple(paths))

    def _keeps(self, differing: Mask, whole: Mask) -> Iterator[tuple[tuple[Path, ...], Mask]]:
        """The paths of each bundle with the rows, of those that are sent, in which it stays."""
        together = whole | differing.any(axis=1)
        places = {bundle: place for place, bundle in enumerate(self._layout.compared)}
        for bundle in self._layout.bundles:
            if bundle.unrepeatable:
                keep = np.ones(len(whole), dtype=np.bool_)
            elif self._layout.mode == "user":
                keep = together
            else:
                keep = whole | differing[:, places[bundle]]
            yield bundle.paths, keep


def _ids(mapped: Mapped) -> pa.RecordBatch:
    identifications = mapped.identifications
    return identifications.select([name for name in ID_FIELDS if name in identifications.schema.names])


def _runs(mapped: Mapped) -> NDArray[np.int64]:
    """The runs that rejected the rows; -1 for rows that none did."""
    if mapped.batch.runs is None:
        return np.full(len(mapped.kept), -1, dtype=np.int64)
    return mapped.batch.runs[mapped.kept]


def _with_superseded(mapped: Mapped, rows: NDArray[np.int64], runs: NDArray[np.int64]) -> tuple[Reject, ...]:
    """The batch's rejects and the rows that a later run overtook; `runs` (shape (m, 2)) are both runs."""
    if len(rows) == 0:
        return mapped.rejects
    batch, positions = mapped.batch, mapped.kept[rows]
    found = originals(
        shown_rows(batch), positions, source=batch.source, text=batch.text, keep_empty=mapped.keep_empty
    )
    late = [
        Reject(batch.source, number, "superseded", _overtaken(*pair), row.values, origin=row.origin)
        for number, pair, row in zip(batch.numbers[positions].tolist(), runs.tolist(), found, strict=True)
    ]
    return tuple(sorted([*mapped.rejects, *late], key=lambda reject: reject.row))


def _overtaken(rejected: int, accepted: int) -> str:
    return (
        f"run {rejected} rejected this row, and run {accepted} sent other values of this user, or found that "
        "Amplitude has them; to send the row in spite of that, run with --full"
    )
