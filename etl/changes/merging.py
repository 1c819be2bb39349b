"""What a partition of the new snapshot holds: the old entries, and what was accepted since. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from etl.changes.columns import Entries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl.model import Prints


def last_given(entries: Entries) -> Entries:
    """One entry a key, in ascending order: of each column the last fingerprint that isn't 0, if there is one.

    All are of one run.
    """
    entries = entries.picked(np.argsort(entries.keys, kind="stable"))
    keys = entries.keys
    first = np.ones(len(keys), dtype=np.bool_)
    first[1:] = keys[1:] != keys[:-1]
    if first.all():
        return entries
    starts = np.flatnonzero(first)
    return Entries(keys[starts], entries.runs[starts], _last(entries.prints, starts))


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
