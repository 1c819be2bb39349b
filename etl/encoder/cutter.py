"""Chunk borders: they depend on the rows and on the border before, never on how the rows were batched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etl import amplitude
from etl.keys import Keys

# A chunk ends after so many source rows per identification it may hold, so that a long stretch of rejected
# or unchanged rows is settled bit by bit.
ROWS_PER_IDENTIFICATION = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may hold: identifications, and bytes of the encoded array."""

    identifications: int = amplitude.DEFAULT_BATCH_SIZE
    body_bytes: int = amplitude.MAX_BODY_BYTES

    @property
    def rows(self) -> int:
        """The most source rows of a chunk."""
        return self.identifications * ROWS_PER_IDENTIFICATION


@dataclass(frozen=True, slots=True)
class Cut:
    """Identifications `start` to `end - 1` are a chunk; its stretch of rows ends before row `stop`."""

    start: int
    end: int
    stop: int


def cut(
    numbers: NDArray[np.int64],
    sizes: NDArray[np.int64],
    keys: Keys,
    *,
    first: int,
    stop: int,
    complete: bool,
    limits: Limits,
) -> Iterator[Cut]:
    """Yield every chunk that is certain from the rows `first` to `stop - 1`.

    `numbers`, `sizes` (shape (k,)) and `keys` (shape (k, w)) belong to the k identifications among these
    rows, before merging. `complete` says that no row follows; otherwise the rows after the last cut must be
    given again, with those that follow them.
    """
    upto = np.concatenate([[0], np.cumsum(sizes)])
    start = 0
    while True:
        full = min(start + limits.identifications, len(numbers))
        end = min(full, int(np.searchsorted(upto, upto[start] + limits.body_bytes, side="right")) - 1)
        if keys.shape[1] > 1:
            end = start + _unmixed(keys[start:end])
        end = min(end, int(np.searchsorted(numbers, first + limits.rows)))
        border = _border(numbers, end, start + limits.identifications, first + limits.rows, stop)
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
