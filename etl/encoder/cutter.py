"""Chunk borders: they depend on the rows and on the border before, never on how the rows were batched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..amplitude.limits import DEFAULT_BATCH_SIZE, MAX_BODY_BYTES
from ..arrow.hashing import Keys
from ..arrow.structs import LIST_TYPES
from ..model import Reject
from .merge import WHOLE_SHARE, Shares

Sizes = NDArray[np.int64]

# A chunk ends after so many source rows per identification it may hold, so that a long range of rejected
# or unchanged rows is committed bit by bit.
ROWS_PER_IDENTIFICATION = 64
_FAR: Final = 1 << 62
_ENTRY: Final = 8  # an offset, or a number, with its share of the nulls' bits; about
_OBJECT: Final = 300  # of a reject without its texts
_CHARACTER: Final = 4  # the most that Python takes for one
_OFFSETS: Final = {
    pa.string().id: np.int32,
    pa.binary().id: np.int32,
    pa.large_string().id: np.int64,
    pa.large_binary().id: np.int64,
}
_TEXT_VIEWS: Final = frozenset({pa.string_view().id, pa.binary_view().id})


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may hold: identifications, and bytes of the encoded array.

    `held_bytes` is what a chunk may keep beside its body, of the rows that were sent and of rejects.
    """

    identifications: int = DEFAULT_BATCH_SIZE
    body_bytes: int = MAX_BODY_BYTES
    held_bytes: int = 4 << 20

    @property
    def rows(self) -> int:
        """The most source rows of a chunk."""
        return self.identifications * ROWS_PER_IDENTIFICATION


@dataclass(frozen=True, slots=True)
class ChunkBorder:
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


def cut_chunks(
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
) -> Iterator[ChunkBorder]:
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
        # The row before which the chunk stops, where no more rows might join it.
        if end == start + limits.identifications or (end < len(numbers) and numbers[end] < last):
            border = int(numbers[end - 1]) + 1
        elif last <= stop:
            border = last
        else:
            break
        yield ChunkBorder(start, end, border)
        start, first = end, border
    if complete and stop > first:
        yield ChunkBorder(start, len(numbers), stop)


def _mergeable(keys: NDArray[np.uint64], shares: Shares) -> int:
    """How many rows come before one of a user whose rows take more than the whole of a column together."""
    if not (shares.sum(axis=0) > WHOLE_SHARE).any():
        return len(keys)
    order = np.argsort(keys, kind="stable")
    in_order = keys[order]
    starts = np.searchsorted(in_order, in_order)  # where each one's user begins
    sums = np.cumsum(shares[order], axis=0)
    taken = sums - sums[starts] + shares[order][starts]
    over = (taken > WHOLE_SHARE).any(axis=1) & (starts < np.arange(len(keys)))
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


# --- what a chunk keeps beside its body: by row, so that borders don't depend on batches -----------------


class RowSizes:
    """About how many bytes of Arrow's buffers belong to each row. It depends on the row alone."""

    def __init__(self, rows: pa.RecordBatch) -> None:
        self._upto = np.arange(rows.num_rows + 1, dtype=np.int64) * (_ENTRY * rows.num_columns)
        for column in rows.columns:
            if column.type.id in _OFFSETS and not column.null_count:
                if len(column):  # where each text begins, and the last one ends; counted from anywhere
                    offsets = np.frombuffer(column.buffers()[1], _OFFSETS[column.type.id])
                    self._upto += offsets[column.offset :][: len(column) + 1]
            elif not isinstance(sizes := _bytes(column), int) or sizes:
                self._upto[1:] += np.cumsum(np.broadcast_to(sizes, rows.num_rows))

    def together(self, start: int, end: int) -> int:
        """Of the rows `start` to `end - 1`."""
        return int(self._upto[end] - self._upto[start])

    def each(self, start: int, end: int) -> Sizes:
        """Of each of the rows `start` to `end - 1`."""
        sizes: Sizes = np.diff(self._upto[start : end + 1])
        return sizes


def held_of(numbers: Sizes, sizes: Sizes, rejects: Sequence[Reject]) -> Held:
    """What is kept of rows that are sent (their numbers and sizes, shape (k,)), and of rejects."""
    if not rejects:
        return Held.of(numbers, sizes)
    together = np.concatenate([numbers, np.array([reject.row for reject in rejects], dtype=np.int64)])
    letters = (len(reject.values) + len(reject.reason) + len(reject.origin) for reject in rejects)
    texts = [_OBJECT + _CHARACTER * count for count in letters]
    order = np.argsort(together, kind="stable")
    return Held.of(together[order], np.concatenate([sizes, np.array(texts, dtype=np.int64)])[order])


def _bytes(values: pa.Array) -> NDArray[np.integer[Any]] | int:
    """Of each value beside its entry in a buffer; an int where that is the same for all."""
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        return _bytes(values.storage)
    if kind.id in _TEXT_VIEWS:
        return _bytes(values.cast(pa.large_binary()))
    if kind.id in _OFFSETS:
        return _counts(pc.binary_length(values))
    if pa.types.is_struct(kind):
        members: NDArray[np.integer[Any]] | int = sum(map(_bytes, values.flatten()), start=0)
        members += _ENTRY * kind.num_fields
        return members
    if pa.types.is_map(kind):
        entries = pa.StructArray.from_arrays([values.keys, values.items], names=["key", "value"])
        lists = pa.list_(entries.type)
        buffers = values.buffers()[:2]
        return _bytes_of_lists(
            pa.Array.from_buffers(lists, len(values), buffers, offset=values.offset, children=[entries])
        )
    return _bytes_of_lists(values) if isinstance(kind, LIST_TYPES) else 0


def _bytes_of_lists(values: pa.Array) -> Sizes:
    elements = values.flatten()
    ends = np.cumsum(_counts(pc.list_value_length(values)), dtype=np.int64)
    sizes = np.broadcast_to(_ENTRY + _bytes(elements), len(elements))
    upto = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    return np.diff(upto[ends], prepend=0)


def _counts(lengths: pa.Array) -> NDArray[np.integer[Any]]:
    """As numbers; 0 for null."""
    counts: NDArray[np.integer[Any]] = (lengths.fill_null(0) if lengths.null_count else lengths).to_numpy()
    return counts
