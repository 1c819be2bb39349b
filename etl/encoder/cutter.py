"""Chunk borders: they depend on the rows and on the border before, never on how the rows were batched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from etl import amplitude
from etl.encoder.merge_limits import WHOLE, Shares
from etl.keys import Keys

# A chunk ends after so many source rows per identification it may hold, so that a long range of rejected
# or unchanged rows is committed bit by bit.
ROWS_PER_IDENTIFICATION = 64
_FAR: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may hold: identifications, and bytes of the encoded array.

    `held_bytes` is what a chunk may keep beside its body, of the rows that were sent and of rejects.
    """

    identifications: int = amplitude.DEFAULT_BATCH_SIZE
    body_bytes: int = amplitude.MAX_BODY_BYTES
    held_bytes: int = 4 << 20

    @property
    def rows(self) -> int:
        """The most source rows of a chunk."""
        return self.identifications * ROWS_PER_IDENTIFICATION


@dataclass(frozen=True, slots=True)
class Cut:
    """Identifications `start` to `end - 1` are a chunk; its range of rows ends before row `stop`."""

    start: int
    end: int
    stop: int


@dataclass(frozen=True, slots=True)
class Held:
    """What is kept of rows that are sent or rejected: `rows` (ascending) and their bytes, added up."""

    rows: NDArray[np.int64]
    upto: NDArray[np.int64]

    @classmethod
    def of(cls, rows: NDArray[np.int64], sizes: NDArray[np.int64]) -> Self:
        """Rows in ascending order, and the bytes of each."""
        return cls(rows, np.cumsum(sizes))

    def stop(self, first: int, most: int) -> int:
        """The row before which `most` bytes of the rows from `first` on end; one row is never too many."""
        if not len(self.rows) or self.upto[-1] <= most:
            return _FAR
        start = int(np.searchsorted(self.rows, first))
        before = int(self.upto[start - 1]) if start else 0
        end = max(int(np.searchsorted(self.upto, before + most, side="right")), start + 1)
        return int(self.rows[end]) if end < len(self.rows) else _FAR


NOTHING_HELD: Final = Held.of(np.empty(0, np.int64), np.empty(0, np.int64))


def cut(
    numbers: NDArray[np.int64],
    sizes: NDArray[np.int64],
    keys: Keys,
    *,
    first: int,
    stop: int,
    complete: bool,
    limits: Limits,
    shares: Shares | None = None,
    held: Held = NOTHING_HELD,
) -> Iterator[Cut]:
    """Yield every chunk that is certain from the rows `first` to `stop - 1`.

    `numbers`, `sizes` (shape (k,)), `keys` (shape (k, w)) and `shares` (shape (k, c), see `merge_limits`)
    belong to the k identifications among these rows, before merging. `held` is what a chunk keeps besides.
    `complete` says that no row follows; otherwise the rows after the last cut must be given again, with those
    that follow them.
    """
    upto = np.concatenate([[0], np.cumsum(sizes)])
    start = 0
    while True:
        full = min(start + limits.identifications, len(numbers))
        end = min(full, int(np.searchsorted(upto, upto[start] + limits.body_bytes, side="right")) - 1)
        if keys.shape[1] > 1:
            end = start + _unmixed(keys[start:end])
        last = min(first + limits.rows, held.stop(first, limits.held_bytes))
        end = min(end, int(np.searchsorted(numbers, last)))
        if shares is not None:
            end = start + _mergeable(keys[start:end, 0], shares[start:end])
        border = _border(numbers, end, start + limits.identifications, last, stop)
        if border is None:
            break
        yield Cut(start, end, border)
        start, first = end, border
    if complete and stop > first:
        yield Cut(start, len(numbers), stop)


def _border(numbers: NDArray[np.int64], end: int, full: int, last: int, stop: int) -> int | None:
    """The row before which a chunk of identifications up to `end` stops; None if more rows might join it."""
    if end == full or (end < len(numbers) and numbers[end] < last):
        return int(numbers[end - 1]) + 1
    return last if last <= stop else None


def _mergeable(keys: NDArray[np.uint64], shares: Shares) -> int:
    """How many rows come before one of a user whose rows take more than the whole of a column together."""
    if not (shares.sum(axis=0) > WHOLE).any():
        return len(keys)
    order = np.argsort(keys, kind="stable")
    in_order = keys[order]
    starts = np.searchsorted(in_order, in_order)  # where each one's user begins
    sums = np.cumsum(shares[order], axis=0)
    taken = sums - sums[starts] + shares[order][starts]
    over = (taken > WHOLE).any(axis=1) & (starts < np.arange(len(keys)))
    return int(order[over].min()) if over.any() else len(keys)


def _unmixed(keys: Keys) -> int:
    """How many rows come before one that can neither be merged with the others nor sent beside them.

    That is one that shares its user or device with another pair of ids. And one that comes again behind a
    row that names only a device (both its keys are equal): whose device that is, only the server knows, so
    nothing may be moved to before it.
    """
    _, pair = np.unique(keys, axis=0, return_inverse=True)
    _, appeared = np.unique(pair.ravel(), return_index=True)
    again = np.ones(len(keys), dtype=np.bool_)
    again[appeared] = False
    mixed = again & np.logical_or.accumulate(keys[:, 0] == keys[:, 1])
    for column in keys.T:
        _, first, inverse = np.unique(column, return_index=True, return_inverse=True)
        mixed |= pair.ravel() != pair.ravel()[first][inverse]
    return int(mixed.argmax()) if mixed.any() else len(keys)
