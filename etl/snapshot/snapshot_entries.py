"""Entries of a snapshot as arrays, and how they are merged with what was sent since. No I/O.

An entry in doubt has the highest bit of `run` set. In a job with both ids a device's entry has the key of the
user to whom it was linked first: links are for good.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from .spill_buffer import KEY, KEY_FIELD, group_starts, key_order, matrix
from .value_hashes import GOLDEN_RATIO, hash_bits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..model import Fingerprints
    from .fingerprints import Layout


RUN, WHOLE, PRINTS, OWNER = "run", "whole", "prints", "owner"  # columns
IN_DOUBT: Final = np.uint32(1 << 31)  # in a run's number
_TOGETHER: Final = int(GOLDEN_RATIO) * 12 % 2**64


@dataclass(frozen=True, slots=True)
class SnapshotEntries:
    """m users: `keys` (uint64, shape (m,)), `runs` (uint32, shape (m,)) and `fingerprints` (shape (m, p)).

    `owners` (uint64, shape (m,)): the user to whom a device is linked, 0 for none; None in a job with one id.
    """

    keys: NDArray[np.uint64]
    runs: NDArray[np.uint32]
    fingerprints: Fingerprints
    owners: NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, places: NDArray[Any]) -> SnapshotEntries:
        """The entries at these places, or where the mask is true."""
        places = np.flatnonzero(places) if places.dtype == np.bool_ else places
        fingerprints = self.fingerprints.take(places, axis=0)  # whole rows, at a third of an index's time
        owners = None if self.owners is None else self.owners[places]
        return SnapshotEntries(self.keys[places], self.runs[places], fingerprints, owners)

    def in_doubt(self, rows: NDArray[np.bool_]) -> SnapshotEntries:
        """The same entries, of which some are in doubt."""
        return replace(self, runs=np.where(rows, self.runs | IN_DOUBT, self.runs))

    def without_fingerprints(self, rows: NDArray[np.bool_]) -> SnapshotEntries:
        """The same entries, of which some have no fingerprints (a mask of shape (m,), or of shape (m, p))."""
        mask = rows[:, None] if rows.ndim == 1 else rows
        nothing = self.fingerprints.dtype.type(0)
        return replace(self, fingerprints=np.where(mask, nothing, self.fingerprints))


# --- in rows ---------------------------------------------------------------------------------------------


def added_schema(layout: Layout, *, sent: bool = False) -> pa.Schema:
    """Rows of an export: a key and its fingerprints. `sent` ones: also the run, and the owner of a device."""
    fields = [KEY_FIELD, required_field(PRINTS, pa.binary(layout.dtype.itemsize * len(layout.names)))]
    fields += [required_field(RUN, pa.uint32())] if sent else []
    fields += [required_field(OWNER, pa.uint64())] if sent and layout.paired else []
    return pa.schema(fields)


def entries_in(rows: pa.RecordBatch, layout: Layout, names: Sequence[str]) -> SnapshotEntries:
    """Rows of a snapshot, or of `added_schema`, as entries; `names` are their columns of fingerprints."""
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    runs = columns[RUN].to_numpy() if RUN in columns else np.zeros(rows.num_rows, np.uint32)
    if PRINTS in columns:
        fingerprints = matrix(columns[PRINTS], layout.dtype)
    else:
        fingerprints = columns[WHOLE].to_numpy().reshape(-1, 1)
    if names != layout.names:
        here, there = shared_columns(layout, names)
        stored, fingerprints = fingerprints, np.zeros((rows.num_rows, len(layout.names)), layout.dtype)
        fingerprints[:, here] = stored[:, there]
    return SnapshotEntries(
        columns[KEY].to_numpy(), runs, fingerprints, owners_of(rows) if layout.paired else None
    )


def owners_of(rows: pa.RecordBatch) -> NDArray[np.uint64]:
    """The users to whom the devices among rows are linked; shape (m,). Those of old snapshots have none."""
    if OWNER not in rows.schema.names:
        return np.zeros(rows.num_rows, dtype=np.uint64)
    owners: NDArray[np.uint64] = rows.column(OWNER).to_numpy()
    return owners


def shared_columns(layout: Layout, names: Sequence[str]) -> tuple[NDArray[np.int64], list[int]]:
    """The places, in the layout and in `names`, of the columns that both have."""
    here = np.flatnonzero(np.isin(layout.names, names))
    return here, [names.index(layout.names[place]) for place in here]


def required_field(name: str, kind: pa.DataType) -> pa.Field:
    """A column without nulls."""
    return pa.field(name, kind, nullable=False)


# --- merged ----------------------------------------------------------------------------------------------


def last_fingerprints(
    entries: SnapshotEntries, cumulative: NDArray[np.bool_]
) -> tuple[SnapshotEntries, NDArray[np.bool_] | None]:
    """Merge entries of one run to one for each key, ascending, with the last fingerprint of each column.

    In `cumulative` columns (shape (p,)) it is one of all fingerprints in their order. An entry in doubt makes
    the columns that it gives unknown; what comes after it counts. Also returns the columns (shape (k, p)) of
    the k entries in which the snapshot's values don't count; None if no entry was in doubt.
    """
    entries, unknown = entries.take(key_order(entries.keys)), None
    first, doubts = group_starts(entries.keys), entries.runs & IN_DOUBT != 0
    starts, rows = np.flatnonzero(first), np.arange(len(entries))[:, None]
    if doubts.any():
        marks = np.where(doubts[:, None] & (entries.fingerprints != 0), rows, -1)
        last = np.maximum.reduceat(marks, starts, axis=0)
        entries, unknown = entries.without_fingerprints(rows <= last[np.cumsum(first) - 1]), last >= 0
    if not first.all():
        last = np.maximum.reduceat(np.where(entries.fingerprints != 0, rows, -1), starts, axis=0)
        fingerprints = np.take_along_axis(entries.fingerprints, np.maximum(last, 0), axis=0) * (last >= 0)
        for column in np.flatnonzero(cumulative):
            groups = np.cumsum(first) - 1
            fingerprints[:, column] = _combine(entries.fingerprints[:, column], groups, len(starts))
        owners = entries.owners
        if owners is not None:  # the first link counts
            places = np.where(owners != 0, np.arange(len(owners)), len(owners))
            owners = np.append(owners, np.uint64(0))[np.minimum.reduceat(places, starts)]
        entries = SnapshotEntries(entries.keys[starts], entries.runs[starts], fingerprints, owners)
    if unknown is not None:
        entries = replace(entries, runs=entries.runs & ~IN_DOUBT)
        entries = entries.in_doubt((unknown & (entries.fingerprints == 0)).any(axis=1))
    return entries, unknown


def with_old_values(
    new: SnapshotEntries,
    known: NDArray[np.bool_],
    old: SnapshotEntries,
    unknown: NDArray[np.bool_] | None = None,
) -> SnapshotEntries:
    """The new entries, with values of the old ones where they give none; `old` are those of the `known` ones.

    In `unknown` columns (shape (k, p)) a fingerprint stays 0.
    """
    fingerprints, owners = new.fingerprints.copy(), new.owners
    own = fingerprints[known]
    lacks = own == 0 if unknown is None else (own == 0) & ~unknown[known]
    fingerprints[known] = np.where(lacks, old.fingerprints, own)
    if owners is not None and old.owners is not None:
        owners = owners.copy()
        owners[known] = np.where(old.owners != 0, old.owners, owners[known])
    return replace(new, fingerprints=fingerprints, owners=owners)


def count_changes(
    new: SnapshotEntries, known: NDArray[np.bool_], old: SnapshotEntries, gone: SnapshotEntries
) -> NDArray[np.int64]:
    """How many users have a first fingerprint, another one than before, and none any more; shape (3, p).

    `old` are the entries of the `known` ones of `new`, `gone` those of users who left. Linked devices don't
    count.
    """
    users, left = new.fingerprints != 0, gone.fingerprints != 0
    if new.owners is not None and gone.owners is not None:
        users &= (new.owners == 0)[:, None]
        left &= (gone.owners == 0)[:, None]
    own = users[known]
    had = own & (old.fingerprints != 0)
    other = had & (old.fingerprints != new.fingerprints[known])
    counts = [[np.count_nonzero(column) for column in some.T] for some in (users, had, other, left)]
    total, known_before, differ, ended = np.array(counts, dtype=np.int64)
    return np.stack([total - known_before, differ, ended])


def _combine(fingerprints: Fingerprints, groups: NDArray[np.int64], n: int) -> Fingerprints:
    """For each of n groups one fingerprint of all that are given in it, in their order; 0 where none is.

    One that follows its equal doesn't count, and a single one stays as it is. Shape (n,). `groups` ascend.
    """
    rows = np.flatnonzero(fingerprints)
    own, groups = fingerprints[rows].astype(np.uint64), groups[rows]
    other = group_starts(groups) | group_starts(own)
    own, groups = own[other], groups[other]
    found = np.zeros(n, dtype=fingerprints.dtype)
    if len(own) == 0:
        return found
    starts = np.flatnonzero(group_starts(groups))
    counts = np.diff([*starts.tolist(), len(own)])
    places = np.arange(len(own)) - np.repeat(starts, counts)
    # Hashed with their places, so that the order counts.
    sums = np.add.reduceat(hash_bits(own + places.astype(np.uint64) * GOLDEN_RATIO, _TOGETHER), starts)
    together = hash_bits(sums, _TOGETHER) >> np.uint64(64 - 8 * fingerprints.dtype.itemsize)
    found[groups[starts]] = np.where(counts == 1, own[starts], np.maximum(together, np.uint64(1)))
    return found
