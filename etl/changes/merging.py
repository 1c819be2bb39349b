"""What a partition of the new snapshot holds: the old entries, and what was accepted since. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from etl.changes.columns import Entries
from etl.changes.number_hashes import SPREAD, scrambled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl.model import Prints


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
    prints = _last(entries.prints, starts)
    for column in np.flatnonzero(cumulative) if cumulative is not None else ():
        prints[:, column] = _all_of(entries.prints[:, column], np.cumsum(first) - 1, len(starts))
    return Entries(keys[starts], entries.runs[starts], prints)


def merged(old: Entries, new: Entries) -> Entries:
    """Old and new entries, both in ascending order of distinct keys, as one; a new 0 leaves what was."""
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
        np.empty(n, np.uint64), np.empty(n, np.uint32), np.empty((n, old.prints.shape[1]), old.prints.dtype)
    )
    for places, entries in ((to_old, old), (to_added, added)):
        both.keys[places], both.runs[places], both.prints[places] = entries.keys, entries.runs, entries.prints
    places, renewed = to_old[at[hit]], new.picked(hit)
    both.runs[places] = renewed.runs
    both.prints[places] = np.where(renewed.prints != 0, renewed.prints, both.prints[places])
    return both


def without(entries: Entries, gone: NDArray[np.uint64]) -> Entries:
    """The entries whose keys aren't among `gone`."""
    return entries if len(gone) == 0 else entries.picked(~np.isin(entries.keys, gone))


def _last(prints: Prints, starts: NDArray[np.int64]) -> Prints:
    """By column the last of each group that isn't 0; groups of rows begin at `starts`."""
    rows = np.where(prints != 0, np.arange(len(prints))[:, None], -1)
    last = np.maximum.reduceat(rows, starts, axis=0)
    return np.take_along_axis(prints, np.maximum(last, 0), axis=0) * (last >= 0)


def _all_of(prints: Prints, groups: NDArray[np.int64], n: int) -> Prints:
    """For each of n groups one fingerprint of all that are given in it, in their order; 0 where none is.

    One that follows itself says nothing more, and one that is alone stays as it is. Shape (n,). `groups`
    ascend.
    """
    rows = np.flatnonzero(prints)
    own, groups = prints[rows].astype(np.uint64), groups[rows]
    other = np.ones(len(rows), dtype=np.bool_)
    other[1:] = (groups[1:] != groups[:-1]) | (own[1:] != own[:-1])
    own, groups = own[other], groups[other]
    found = np.zeros(n, dtype=prints.dtype)
    if len(own) == 0:
        return found
    starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    counts = np.diff([*starts.tolist(), len(own)])
    places = np.arange(len(own)) - np.repeat(starts, counts)
    # Hashed with their places, so that the order counts.
    sums = np.add.reduceat(scrambled(own + places.astype(np.uint64) * SPREAD, _ALL), starts)
    together = scrambled(sums, _ALL) >> np.uint64(64 - 8 * prints.dtype.itemsize)
    found[groups[starts]] = np.where(counts == 1, own[starts], np.maximum(together, np.uint64(1)))
    return found
