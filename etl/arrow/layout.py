"""How Arrow lays out texts and lists, as numpy arrays: masks, bytes of texts, elements of lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

RowMask: TypeAlias = NDArray[np.bool_]
# All of Arrow's types of lists.
_LIST_TYPES: Final = (
    pa.ListType,
    pa.LargeListType,
    pa.FixedSizeListType,
    pa.ListViewType,
    pa.LargeListViewType,
)


def as_mask(marks: pa.Array) -> RowMask:
    """Boolean marks as a numpy array; null counts as false."""
    filled = marks.fill_null(False) if marks.null_count else marks
    mask: RowMask = filled.to_numpy(zero_copy_only=False)
    return mask


def valid_mask(values: pa.Array) -> RowMask:
    """Mark the values that aren't null; shape (n,)."""
    return as_mask(values.is_valid())


def text_layout(texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Where each text, string or binary, begins and stops in the column's bytes; and these. Nulls have none.

    Shapes (n,), (n,) and (bytes,).
    """
    _, offset_buffer, data = texts.buffers()
    if not len(texts) or data is None:
        nothing = np.zeros(len(texts), dtype=np.int64)
        return nothing, nothing, np.zeros(0, dtype=np.uint8)
    offsets = np.frombuffer(offset_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    low, high = int(offsets[0]), int(offsets[-1])
    ends = offsets.astype(np.int64) - low
    starts, stops = ends[:-1], ends[1:]
    if texts.null_count:
        stops = np.where(valid_mask(texts), stops, starts)
    return starts, stops, np.frombuffer(data, np.uint8)[low:high]


def is_list(kind: pa.DataType) -> bool:
    """Whether it is one of Arrow's types of lists."""
    return isinstance(kind, _LIST_TYPES)


@dataclass(frozen=True, slots=True)
class FlatLists:
    """n lists as one array of their elements, shape (m,): list i is `lengths[i]` elements from `starts[i]`.

    `nulls` (bool, shape (n,)) marks the lists that are null; these have no elements.
    """

    elements: pa.Array
    lengths: NDArray[np.int64]
    nulls: RowMask

    @classmethod
    def of(cls, values: pa.Array) -> FlatLists:
        """Take lists of any of Arrow's types."""
        lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        return cls(values.flatten(), lengths, as_mask(values.is_null()))

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each list starts in `elements`; shape (n,)."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def owners(self) -> NDArray[np.int64]:
        """The number of each element's list; shape (m,)."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def rebuild(self, elements: pa.Array, keep: RowMask | None = None) -> pa.Array:
        """The lists with other elements, shape (m,); with `keep` only the marked ones of these."""
        stops = np.cumsum(self.lengths)
        if keep is not None and not keep.all():
            kept = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
            stops, elements = kept[stops], elements.filter(pa.array(keep))
        offsets = np.concatenate([[0], stops]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), elements, mask=pa.array(self.nulls))


def map_entries(maps: pa.Array) -> pa.Array:
    """Maps as lists of structs with a key and a value."""
    # Not by a cast: of maps within maps it makes an array whose children are too short (seen in 26.0).
    kind, pairs = pa.list_(maps.values.type), [maps.values]
    return pa.Array.from_buffers(kind, len(maps), maps.buffers()[:2], offset=maps.offset, children=pairs)


def maps_of(lists: FlatLists, keys: pa.Array, items: pa.Array, keep: RowMask | None = None) -> pa.Array:
    """Maps with m keys and items, which the lists are of; with `keep` only with the marked ones."""
    kind = pa.map_(keys.type, items.type)
    # Fields as the type has them: Arrow ends the process if they differ.
    pairs = pa.StructArray.from_arrays([keys, items], fields=[kind.key_field, kind.item_field])
    rebuilt = lists.rebuild(pairs, keep)
    return pa.Array.from_buffers(kind, len(rebuilt), rebuilt.buffers()[:2], children=[rebuilt.values])
