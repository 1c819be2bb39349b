"""Entries of a snapshot as arrays, and how they are merged with what was sent since. No I/O.

An entry in doubt has the highest bit of `run` set. In a job with both ids a device's entry has the key of the
user to whom it was linked first: links are for good.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from .spill_buffer import KEY, KEY_FIELD, matrix
from .value_hashes import GOLDEN_RATIO, hash_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..model import Fingerprints
    from .fingerprints import Layout

PRINTS, OWNER, _DOUBT = "prints", "owner", "doubt"  # columns
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

    def take(self, places: NDArray[Any] | slice) -> SnapshotEntries:
        """The entries at these places, or where the mask is true."""
        if isinstance(places, slice):
            fingerprints = self.fingerprints[places]
        else:  # `take` copies whole rows, at a third of the time of an index
            places = np.flatnonzero(places) if places.dtype == np.bool_ else places
            fingerprints = self.fingerprints.take(places, axis=0)
        owners = None if self.owners is None else self.owners[places]
        return SnapshotEntries(self.keys[places], self.runs[places], fingerprints, owners)

    def put(self, places: NDArray[np.int64], entries: SnapshotEntries) -> None:
        """Overwrite the entries at these places."""
        self.keys[places], self.runs[places] = entries.keys, entries.runs
        self.fingerprints[places] = entries.fingerprints
        if self.owners is not None and entries.owners is not None:
            self.owners[places] = entries.owners

    def in_doubt(self, rows: NDArray[np.bool_]) -> SnapshotEntries:
        """The same entries, of which some are in doubt."""
        return replace(self, runs=np.where(rows, self.runs | IN_DOUBT, self.runs))

    def without_fingerprints(self, rows: NDArray[np.bool_]) -> SnapshotEntries:
        """The same entries, of which some have no fingerprints (a mask of shape (m,), or of shape (m, p))."""
        mask = rows[:, None] if rows.ndim == 1 else rows
        nothing = self.fingerprints.dtype.type(0)
        return replace(self, fingerprints=np.where(mask, nothing, self.fingerprints))


# --- rows that were added --------------------------------------------------------------------------------


def added_schema(layout: Layout, *, sent: bool = False) -> pa.Schema:
    """Rows of an export: a key and its fingerprints. `sent` ones: also a doubt, and the owner of a device."""
    fields = [KEY_FIELD, required_field(PRINTS, pa.binary(layout.dtype.itemsize * len(layout.names)))]
    fields += [required_field(_DOUBT, pa.uint8())] if sent else []
    fields += [required_field(OWNER, pa.uint64())] if sent and layout.paired else []
    return pa.schema(fields)


def added_entries(rows: pa.RecordBatch, layout: Layout, run: int) -> SnapshotEntries:
    """Rows of `added_schema` as entries of a run."""
    runs = np.full(rows.num_rows, run, dtype=np.uint32)
    fingerprints = matrix(rows.column(PRINTS), layout.dtype)
    owners = rows.column(OWNER).to_numpy() if OWNER in rows.schema.names else None
    return SnapshotEntries(rows.column(KEY).to_numpy(), runs, fingerprints, owners)


def doubts_of(rows: pa.RecordBatch) -> NDArray[np.bool_]:
    """Which sent rows are in doubt; shape (n,)."""
    doubts: NDArray[np.bool_] = rows.column(_DOUBT).to_numpy().view(np.bool_)
    return doubts


def required_field(name: str, kind: pa.DataType) -> pa.Field:
    """A column without nulls."""
    return pa.field(name, kind, nullable=False)


# --- merged ----------------------------------------------------------------------------------------------


def last_fingerprints(
    entries: SnapshotEntries, cumulative: NDArray[np.bool_] | None = None
) -> SnapshotEntries:
    """One entry a key, in ascending order: of each column the last fingerprint that isn't 0, if there is one.

    In the columns marked as `cumulative` (shape (p,)) it is one for all of them, in their order. All entries
    are of one run.
    """
    entries = entries.take(key_order(entries.keys))
    first = group_starts(entries.keys)
    if first.all():
        return entries
    starts = np.flatnonzero(first)
    rows = np.where(entries.fingerprints != 0, np.arange(len(entries))[:, None], -1)
    last = np.maximum.reduceat(rows, starts, axis=0)
    fingerprints = np.take_along_axis(entries.fingerprints, np.maximum(last, 0), axis=0) * (last >= 0)
    for column in np.flatnonzero(cumulative) if cumulative is not None else ():
        fingerprints[:, column] = _combine(entries.fingerprints[:, column], np.cumsum(first) - 1, len(starts))
    owners = entries.owners
    if owners is not None:  # the first link counts
        places = np.where(owners != 0, np.arange(len(owners)), len(owners))
        owners = np.append(owners, np.uint64(0))[np.minimum.reduceat(places, starts)]
    return SnapshotEntries(entries.keys[starts], entries.runs[starts], fingerprints, owners)


def last_certain(
    entries: SnapshotEntries, doubts: NDArray[np.bool_], cumulative: NDArray[np.bool_]
) -> tuple[SnapshotEntries, NDArray[np.bool_] | None]:
    """The same of rows of which some are in doubt (`doubts`, shape (n,)).

    In the columns that such a row gives, everything before it is unknown, and what comes after it counts.
    Also in which columns (shape (k, p)) of the k entries the old entry doesn't count; None if no row is in
    doubt.
    """
    if not doubts.any():
        return last_fingerprints(entries, cumulative), None
    order = key_order(entries.keys)
    entries, doubts = entries.take(order), doubts[order]
    first = group_starts(entries.keys)
    rows = np.arange(len(entries))[:, None]
    marks = np.where(doubts[:, None] & (entries.fingerprints != 0), rows, -1)
    last = np.maximum.reduceat(marks, np.flatnonzero(first), axis=0)
    before = rows <= last[np.cumsum(first) - 1]
    found, unknown = last_fingerprints(entries.without_fingerprints(before), cumulative), last >= 0
    return found.in_doubt((unknown & (found.fingerprints == 0)).any(axis=1)), unknown


def merge_entries(
    old: SnapshotEntries, new: SnapshotEntries, unknown: NDArray[np.bool_] | None = None
) -> SnapshotEntries:
    """Merge two lists of entries, both in ascending order of distinct keys.

    A new fingerprint of 0 keeps the old one, but not in the columns of new entries that are `unknown` (shape
    (k, p)): there it stays 0.
    """
    if not len(old):
        return new
    at = np.searchsorted(old.keys, new.keys)
    hit = np.zeros(len(new), dtype=np.bool_)
    inside = at < len(old)
    hit[inside] = old.keys[at[inside]] == new.keys[inside]
    added = new.take(~hit)
    # Each comes to stand behind those of the other list that are smaller.
    to_old = np.arange(len(old)) + np.searchsorted(added.keys, old.keys)
    to_added = np.arange(len(added)) + at[~hit]
    n = len(old) + len(added)
    both = SnapshotEntries(
        np.empty(n, np.uint64),
        np.empty(n, np.uint32),
        np.empty((n, old.fingerprints.shape[1]), old.fingerprints.dtype),
        None if old.owners is None else np.empty(n, np.uint64),
    )
    both.put(to_old, old)
    both.put(to_added, added)
    places, renewed = to_old[at[hit]], new.take(hit)
    both.runs[places] = renewed.runs
    stays = renewed.fingerprints == 0 if unknown is None else (renewed.fingerprints == 0) & ~unknown[hit]
    both.fingerprints[places] = np.where(stays, both.fingerprints[places], renewed.fingerprints)
    if both.owners is not None and renewed.owners is not None:
        both.owners[places] = np.where(both.owners[places] != 0, both.owners[places], renewed.owners)
    return both


def count_changes(old: SnapshotEntries, new: SnapshotEntries, gone: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many users of `new` have a fingerprint that is their first, or another than in `old`; shape (3, p).

    Last, how many of the `gone` users had one. Both lists ascend by key; linked devices don't count.
    """
    users, left = new.fingerprints != 0, np.isin(old.keys, gone)[:, None] & (old.fingerprints != 0)
    if new.owners is not None and old.owners is not None:
        users &= (new.owners == 0)[:, None]
        left &= (old.owners == 0)[:, None]
    if not len(old):
        first, other = np.array([np.count_nonzero(column) for column in users.T], np.int64), 0
    else:
        at = np.minimum(np.searchsorted(old.keys, new.keys), len(old) - 1)
        before = old.fingerprints.take(at, axis=0) * (old.keys[at] == new.keys)[:, None]
        users &= before != new.fingerprints
        first, other = (users & (before == 0)).sum(axis=0), (users & (before != 0)).sum(axis=0)
    return np.stack(np.broadcast_arrays(first, other, left.sum(axis=0))).astype(np.int64)


def forget_entries(entries: SnapshotEntries, gone: NDArray[np.uint64]) -> SnapshotEntries:
    """The entries whose keys aren't among `gone`; a linked device stays without fingerprints."""
    if len(gone) == 0:
        return entries
    leave = np.isin(entries.keys, gone)
    if entries.owners is None:
        return entries.take(~leave)
    return entries.without_fingerprints(leave).take(~leave | (entries.owners != 0))


def key_order(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The order of ascending keys, stable. Hashes are nearly sorted by their first 16 bits that differ."""
    if not len(keys):
        return np.empty(0, np.int64)
    low, high = int(keys.min()), int(keys.max())
    shift = np.uint64(max((high - low).bit_length() - 16, 0))
    # numpy sorts numbers of 16 bits by their digits, and what is nearly sorted in a quarter of the time.
    order = np.argsort(((keys - np.uint64(low)) >> shift).astype(np.uint16), kind="stable")
    return order.take(np.argsort(keys.take(order), kind="stable"))


def group_starts(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of n values differ from the one before; shape (n,)."""
    first = np.ones(len(values), dtype=np.bool_)
    first[1:] = values[1:] != values[:-1]
    return first


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
