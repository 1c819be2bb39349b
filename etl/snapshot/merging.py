"""What a partition of the new snapshot holds: the old entries, and what was accepted since. No I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from etl.snapshot.columns import IN_DOUBT, Entries
from etl.snapshot.number_hashes import SPREAD, scrambled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl.model import Fingerprints


_ALL: Final = int(SPREAD) * 12 % 2**64


def last_given(entries: Entries, cumulative: NDArray[np.bool_] | None = None) -> Entries:
    """One entry a key, in ascending order: of each column the last fingerprint that isn't 0, if there is one.

    In the columns marked as `cumulative` (shape (p,)) it is one for all of them, in their order. All entries
    are of one run.
    """
    entries = entries.picked(np.argsort(entries.keys, kind="stable"))
    keys = entries.keys
    first = np.ones(len(keys), dtype=np.bool_)
    first[1:] = keys[1:] != keys[:-1]
    if first.all():
        return entries
    starts = np.flatnonzero(first)
    fingerprints = _last(entries.fingerprints, starts)
    owners = None if entries.owners is None else _first(entries.owners, starts)
    for column in np.flatnonzero(cumulative) if cumulative is not None else ():
        fingerprints[:, column] = _all_of(entries.fingerprints[:, column], np.cumsum(first) - 1, len(starts))
    return Entries(keys[starts], entries.runs[starts], fingerprints, owners)


def last_sure(
    entries: Entries, doubts: NDArray[np.bool_], cumulative: NDArray[np.bool_]
) -> tuple[Entries, NDArray[np.bool_] | None]:
    """The same of rows of which some are in doubt (`doubts`, shape (n,)).

    In the columns that such a row gives it makes everything before it unknown, and what comes after it
    counts. Also which columns (shape (k, p)) of the k entries are such that the old entry is nothing to go
    by; None where no row is in doubt.
    """
    if not doubts.any():
        return last_given(entries, cumulative), None
    order = np.argsort(entries.keys, kind="stable")
    entries, doubts = entries.picked(order), doubts[order]
    other = np.concatenate([[True], entries.keys[1:] != entries.keys[:-1]])
    rows = np.arange(len(entries))[:, None]
    marks = np.where(doubts[:, None] & (entries.fingerprints != 0), rows, -1)
    last = np.maximum.reduceat(marks, np.flatnonzero(other), axis=0)
    fingerprints = np.where(
        rows > last[np.cumsum(other) - 1], entries.fingerprints, entries.fingerprints.dtype.type(0)
    )
    found, unknown = last_given(replace(entries, fingerprints=fingerprints), cumulative), last >= 0
    doubtful = (unknown & (found.fingerprints == 0)).any(axis=1)
    return replace(found, runs=np.where(doubtful, found.runs | IN_DOUBT, found.runs)), unknown


def merged(old: Entries, new: Entries, unknown: NDArray[np.bool_] | None = None) -> Entries:
    """Old and new entries, both in ascending order of distinct keys, as one; a new 0 leaves what was.

    But not in the columns of new entries that are `unknown` (shape (k, p)): there it stays 0.
    """
    at = np.searchsorted(old.keys, new.keys)
    hit = np.zeros(len(new), dtype=np.bool_)
    inside = at < len(old)
    hit[inside] = old.keys[at[inside]] == new.keys[inside]
    added = new.picked(~hit)
    # Each comes to stand behind those of the other that are smaller.
    to_old = np.arange(len(old)) + np.searchsorted(added.keys, old.keys)
    to_added = np.arange(len(added)) + at[~hit]
    n = len(old) + len(added)
    both = Entries(
        np.empty(n, np.uint64),
        np.empty(n, np.uint32),
        np.empty((n, old.fingerprints.shape[1]), old.fingerprints.dtype),
        None if old.owners is None else np.empty(n, np.uint64),
    )
    for places, entries in ((to_old, old), (to_added, added)):
        both.keys[places], both.runs[places], both.fingerprints[places] = (
            entries.keys,
            entries.runs,
            entries.fingerprints,
        )
        if both.owners is not None and entries.owners is not None:
            both.owners[places] = entries.owners
    places, renewed = to_old[at[hit]], new.picked(hit)
    both.runs[places] = renewed.runs
    stays = renewed.fingerprints == 0 if unknown is None else (renewed.fingerprints == 0) & ~unknown[hit]
    both.fingerprints[places] = np.where(stays, both.fingerprints[places], renewed.fingerprints)
    if both.owners is not None and renewed.owners is not None:
        both.owners[places] = np.where(both.owners[places] != 0, both.owners[places], renewed.owners)
    return both


def without(entries: Entries, gone: NDArray[np.uint64]) -> Entries:
    """The entries whose keys aren't among `gone`; the link of a device stays: it is for good."""
    if len(gone) == 0:
        return entries
    leave = np.isin(entries.keys, gone)
    if entries.owners is None:
        return entries.picked(~leave)
    linked = entries.owners != 0
    empty = replace(
        entries,
        fingerprints=np.where(leave[:, None], entries.fingerprints.dtype.type(0), entries.fingerprints),
    )
    return empty.picked(~leave | linked)


def emptied(entries: Entries, keys: NDArray[np.uint64]) -> Entries:
    """The entries, of which those with these keys know nothing, as in doubt."""
    some = np.isin(entries.keys, keys)
    fingerprints = np.where(some[:, None], entries.fingerprints.dtype.type(0), entries.fingerprints)
    return replace(
        entries, fingerprints=fingerprints, runs=np.where(some, entries.runs | IN_DOUBT, entries.runs)
    )


def _first(owners: NDArray[np.uint64], starts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The first of each group that isn't 0."""
    rows = np.where(owners != 0, np.arange(len(owners)), len(owners))
    first = np.minimum.reduceat(rows, starts)
    return np.append(owners, np.uint64(0))[first]


def _last(fingerprints: Fingerprints, starts: NDArray[np.int64]) -> Fingerprints:
    """By column the last of each group that isn't 0; groups of rows begin at `starts`."""
    rows = np.where(fingerprints != 0, np.arange(len(fingerprints))[:, None], -1)
    last = np.maximum.reduceat(rows, starts, axis=0)
    return np.take_along_axis(fingerprints, np.maximum(last, 0), axis=0) * (last >= 0)


def _all_of(fingerprints: Fingerprints, groups: NDArray[np.int64], n: int) -> Fingerprints:
    """For each of n groups one fingerprint of all that are given in it, in their order; 0 where none is.

    One that follows itself says nothing more, and one that is alone stays as it is. Shape (n,). `groups`
    ascend.
    """
    rows = np.flatnonzero(fingerprints)
    own, groups = fingerprints[rows].astype(np.uint64), groups[rows]
    other = np.ones(len(rows), dtype=np.bool_)
    other[1:] = (groups[1:] != groups[:-1]) | (own[1:] != own[:-1])
    own, groups = own[other], groups[other]
    found = np.zeros(n, dtype=fingerprints.dtype)
    if len(own) == 0:
        return found
    starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    counts = np.diff([*starts.tolist(), len(own)])
    places = np.arange(len(own)) - np.repeat(starts, counts)
    # Hashed with their places, so that the order counts.
    sums = np.add.reduceat(scrambled(own + places.astype(np.uint64) * SPREAD, _ALL), starts)
    together = scrambled(sums, _ALL) >> np.uint64(64 - 8 * fingerprints.dtype.itemsize)
    found[groups[starts]] = np.where(counts == 1, own[starts], np.maximum(together, np.uint64(1)))
    return found
