"""Lists taken apart into their elements and put together again, whichever kind of list they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.mapper.cells import Cells, Fault, Mask

if TYPE_CHECKING:
    from numpy.typing import NDArray


_LISTS: Final = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)


@dataclass(frozen=True, slots=True)
class Opened:
    """n lists as one array of their elements, shape (m,): list i is `lengths[i]` elements from `starts[i]`.

    `nulls` (bool, shape (n,)) marks the lists that are null; these have no elements.
    """

    flat: pa.Array
    lengths: NDArray[np.int64]
    nulls: Mask

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each list starts in `flat`; shape (n,)."""
        return np.cumsum(self.lengths) - self.lengths

    def parents(self, faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
        """Faults of elements as faults of their lists."""
        owners = np.repeat(np.arange(len(self.lengths)), self.lengths)
        found = []
        for fault in faults:
            rows = np.zeros(len(self.lengths), dtype=np.bool_)
            rows[owners[fault.rows]] = True
            found.append(Fault(fault.code, rows, fault.says))
        return tuple(found)

    def rebuilt(self, flat: pa.Array, *, keep: Mask) -> pa.Array:
        """The lists with other elements, shape (m,), and of those only the marked ones."""
        kept = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
        offsets = np.concatenate([[0], kept[self.starts + self.lengths]]).astype(np.int32)
        elements = flat if keep.all() else flat.filter(pa.array(keep))
        return pa.ListArray.from_arrays(pa.array(offsets), elements, mask=pa.array(self.nulls))


def is_list(kind: pa.DataType) -> bool:
    """Whether it is one of the list types that `open_lists` takes."""
    return any(is_it(kind) for is_it in _LISTS)


def open_lists(values: pa.Array) -> Opened:
    """Take lists apart."""
    lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return Opened(values.flatten(), lengths, values.is_null().to_numpy(zero_copy_only=False))


def without_nulls(values: pa.Array) -> pa.Array:
    """Lists without their null elements."""
    opened = open_lists(values)
    return opened.rebuilt(opened.flat, keep=opened.flat.is_valid().to_numpy(zero_copy_only=False))


def split(texts: pa.Array, separator: str) -> Cells:
    """Texts cut at a separator, elements trimmed, empty ones left out; null where nothing is left."""
    opened = open_lists(pc.split_pattern(texts, separator))
    flat = pc.utf8_trim_whitespace(opened.flat)
    parts = opened.rebuilt(flat, keep=pc.not_equal(flat, "").to_numpy(zero_copy_only=False))
    nothing = pc.equal(pc.list_value_length(parts), 0)
    return Cells(pc.if_else(nothing, pa.scalar(None, parts.type), parts))


def wrap(values: pa.Array) -> pa.Array:
    """Each value as a list of one; null stays null."""
    present = values.is_valid().to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(present)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values.drop_null(), mask=pa.array(~present))
