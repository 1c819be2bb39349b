"""How much memory a chunk keeps of each row beside the request body: the row itself, or its reject.

By row, so that chunks end after so many bytes at the same rows, however these were batched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl.encoder.cutter import Held
from etl.model import Reject

Sizes = NDArray[np.int64]

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
_LISTS: Final = frozenset(
    kind.id
    for kind in (
        pa.list_(pa.null()),
        pa.large_list(pa.null()),
        pa.list_(pa.null(), 1),
        pa.list_view(pa.null()),
        pa.large_list_view(pa.null()),
    )
)


class RowSizes:
    """About how many bytes of Arrow's buffers belong to each row. It depends on the row alone."""

    def __init__(self, rows: pa.RecordBatch) -> None:
        self._upto = np.arange(rows.num_rows + 1, dtype=np.int64) * (_ENTRY * rows.num_columns)
        for column in rows.columns:
            if column.type.id in _OFFSETS and not column.null_count:
                self._upto += _offsets(column)
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


def _offsets(texts: pa.Array) -> NDArray[np.integer[Any]]:
    """Where each text begins, and the last one ends; counted from anywhere."""
    if not len(texts):
        return np.zeros(1, dtype=np.int64)
    return np.frombuffer(texts.buffers()[1], _OFFSETS[texts.type.id])[texts.offset :][: len(texts) + 1]


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
        return _of_lists(
            pa.Array.from_buffers(lists, len(values), buffers, offset=values.offset, children=[entries])
        )
    return _of_lists(values) if kind.id in _LISTS else 0


def _of_lists(values: pa.Array) -> Sizes:
    elements = values.flatten()
    ends = np.cumsum(_counts(pc.list_value_length(values)), dtype=np.int64)
    sizes = np.broadcast_to(_ENTRY + _bytes(elements), len(elements))
    upto = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    return np.diff(upto[ends], prepend=0)


def _counts(lengths: pa.Array) -> NDArray[np.integer[Any]]:
    """As numbers; 0 for null."""
    counts: NDArray[np.integer[Any]] = (lengths.fill_null(0) if lengths.null_count else lengths).to_numpy()
    return counts
