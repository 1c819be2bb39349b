"""Chunk borders: they depend on the rows and on the border before, never on how the rows were batched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..amplitude.requests import DEFAULT_BATCH_SIZE, MAX_BODY_BYTES
from ..arrow.layout import FlatLists, is_list, map_entries
from ..model import Reject
from ..subject import Keys
from .merge import WHOLE_SHARE, Shares

_Sizes: TypeAlias = NDArray[np.int64]

# A chunk ends after so many source rows per identification it may hold, so that a long range of rejected
# or unchanged rows is committed bit by bit.
_ROWS_PER_IDENTIFICATION: Final = 64
_FAR: Final = 1 << 62
_OBJECT: Final = 300  # bytes of a reject without its texts
_CHARACTER: Final = 4  # the most bytes that Python takes for one


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may hold: identifications, and bytes of the encoded array.

    `kept_bytes` is what a chunk may keep beside its body, of the rows that were sent and of rejects.
    """

    identifications: int = DEFAULT_BATCH_SIZE
    body_bytes: int = MAX_BODY_BYTES
    kept_bytes: int = 4 << 20

    @property
    def rows(self) -> int:
        """The most source rows of a chunk."""
        return self.identifications * _ROWS_PER_IDENTIFICATION


class ChunkBorder(NamedTuple):
    """Identifications `start` to `end - 1` are a chunk; its range of rows ends before row `stop`."""

    start: int
    end: int
    stop: int


class KeptBytes(NamedTuple):
    """The memory of rows that are sent or rejected: their numbers, ascending, and the sums of bytes."""

    rows: NDArray[np.int64]
    upto: NDArray[np.int64]

    @classmethod
    def of(cls, numbers: NDArray[np.int64], sizes: _Sizes, rejects: Sequence[Reject] = ()) -> Self:
        """Sum up rows that are sent (their numbers and bytes, shape (k,)), and rejects."""
        if rejects:
            letters = (len(reject.values) + len(reject.reason) + len(reject.origin) for reject in rejects)
            sizes = np.append(sizes, [_OBJECT + _CHARACTER * count for count in letters])
            numbers = np.append(numbers, [reject.row for reject in rejects])
            order = np.argsort(numbers, kind="stable")
            numbers, sizes = numbers[order], sizes[order]
        return cls(numbers, np.cumsum(sizes))

    def stop(self, first: int, most: int) -> int:
        """The row before which a chunk from `first` on stops, to keep `most` bytes, or at least one row."""
        if not len(self.rows) or self.upto[-1] <= most:
            return _FAR
        start = int(np.searchsorted(self.rows, first))
        before = int(self.upto[start - 1]) if start else 0
        end = max(int(np.searchsorted(self.upto, before + most, side="right")), start + 1)
        return int(self.rows[end]) if end < len(self.rows) else _FAR


def cut_chunks(
    numbers: NDArray[np.int64],
    sizes: NDArray[np.int64],
    keys: Keys,
    *,
    first: int,
    stop: int,
    complete: bool,
    limits: Limits,
    shares: Shares | None,
    kept: KeptBytes,
) -> Iterator[ChunkBorder]:
    """Yield every chunk that is certain from the rows `first` to `stop - 1`.

    `numbers`, `sizes` (shape (k,)), `keys` (shape (k, w)) and `shares` (shape (k, c), see `merge_shares`)
    belong to the k identifications among these rows, before merging. `kept` is what a chunk keeps beside its
    body. `complete` says that no row follows; otherwise the rows after the last cut must be given again, with
    those that follow them.
    """
    upto = np.concatenate([[0], np.cumsum(sizes)])
    start = 0
    while True:
        full = min(start + limits.identifications, len(numbers))
        end = min(full, int(np.searchsorted(upto, upto[start] + limits.body_bytes, side="right")) - 1)
        if keys.shape[1] > 1:
            end = start + _unmixed(keys[start:end])
        last = min(first + limits.rows, kept.stop(first, limits.kept_bytes))
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
    """The number of rows before the first whose user's rows take more than a whole share of a column."""
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
    """The number of rows before the first that can neither be merged with the others nor sent beside them.

    That is a row that shares its user or device with another pair of ids; or one whose ids came before, if a
    row between names only a device (both its keys are equal): only the server knows the user of that device,
    so no row may be moved to before it.
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


# --- the memory of a chunk beside its body, by row, so that borders don't depend on batches --------------

_ENTRY: Final = 8  # about the bytes of an offset or a number, with its bit for null
_TEXTS: Final = (pa.string(), pa.binary(), pa.large_string(), pa.large_binary())
_TEXT_VIEWS: Final = (pa.string_view(), pa.binary_view())


def row_bytes(rows: pa.RecordBatch) -> _Sizes:
    """About how many bytes of Arrow's buffers belong to each row, shape (n,). It depends on the row alone."""
    sizes: _Sizes = np.full(rows.num_rows, _ENTRY * rows.num_columns)
    for column in rows.columns:
        sizes += _bytes(column)
    return sizes


def _bytes(values: pa.Array) -> _Sizes | int:
    """Of each value beside its entry in a buffer; an int where that is the same for all."""
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        return _bytes(values.storage)
    if kind in _TEXT_VIEWS:
        return _bytes(values.cast(pa.large_binary()))
    if kind in _TEXTS:
        lengths = pc.binary_length(values)
        counts: _Sizes = (lengths.fill_null(0) if lengths.null_count else lengths).to_numpy()
        return counts
    if pa.types.is_struct(kind):
        return sum(map(_bytes, values.flatten()), start=_ENTRY * kind.num_fields)
    if pa.types.is_map(kind):
        return _bytes(map_entries(values))
    if not is_list(kind):
        return 0
    lists = FlatLists.of(values)
    sizes = np.broadcast_to(_ENTRY + _bytes(lists.elements), len(lists.elements))
    return np.bincount(lists.owners, sizes, len(values)).astype(np.int64)
