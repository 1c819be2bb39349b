"""A column on its way from source values to values for Amplitude, with the faults met so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the values of some rows.

    `rows` (bool, shape (n,)) marks them. `says` is a sentence in which {} stands for the value, quoted from
    `shown` (shape (n,)) or, where that is None, from the source column.
    """

    code: str
    rows: Mask
    says: str
    shown: pa.Array | None = None


@dataclass(frozen=True, slots=True)
class Cells:
    """Values of a column, shape (n,), null where there is none. `raw`: they are JSON text, not strings."""

    values: pa.Array
    faults: tuple[Fault, ...] = ()
    raw: bool = False

    @property
    def faulty(self) -> Mask:
        """Which values have a fault; bool, shape (n,)."""
        rows: Mask = np.zeros(len(self.values), dtype=np.bool_)
        for fault in self.faults:
            rows |= fault.rows
        return rows

    def then(self, step: Callable[[pa.Array], Cells]) -> Cells:
        """Take the next step with the values, keeping the faults of the steps before."""
        after = step(self.values)
        return Cells(after.values, self.faults + after.faults, after.raw)


def faults_of(code: str, rows: pa.Array | Mask, says: str) -> tuple[Fault, ...]:
    """One fault for the marked rows, or none where no row is marked; a null mark counts as false."""
    mask = rows if isinstance(rows, np.ndarray) else as_mask(rows)
    return (Fault(code, mask, says),) if mask.any() else ()


def as_mask(marks: pa.Array) -> Mask:
    """Boolean marks as numpy has them; null counts as false."""
    filled = marks.fill_null(False) if marks.null_count else marks
    mask: Mask = filled.to_numpy(zero_copy_only=False)
    return mask


def blank_out(values: pa.Array, rows: pa.Array | Mask) -> pa.Array:
    """The values with null in the marked rows."""
    marks = pa.array(rows) if isinstance(rows, np.ndarray) else rows
    return pc.if_else(marks, pa.scalar(None, values.type), values)


def text_layout(
    texts: pa.StringArray,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Where each text begins and stops in the bytes of the column; nulls have none."""
    _, offset_buffer, data = texts.buffers()
    if not len(texts) or data is None:
        nothing = np.zeros(len(texts), dtype=np.int64)
        return nothing, nothing, np.zeros(0, dtype=np.uint8)
    offsets = np.frombuffer(offset_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    low, high = int(offsets[0]), int(offsets[-1])
    ends = offsets.astype(np.int64) - low
    starts, stops = ends[:-1], ends[1:]
    if texts.null_count:
        stops = np.where(as_mask(texts.is_valid()), stops, starts)
    return starts, stops, np.frombuffer(data, np.uint8)[low:high]
