"""The values of a column in one batch, each different one once, with the places where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl.model import Batch


@dataclass(frozen=True, slots=True)
class Values:
    """m values that are there, d of them different.

    `distinct`, shape (d,), has no nulls; `codes` (int64, shape (m,)) names for each value its place in it;
    `counts` (int64, shape (d,)) how often each comes. `numbers` (int64, shape (m,)) are rows of `source`.
    """

    source: str
    distinct: pa.Array
    codes: NDArray[np.int64]
    counts: NDArray[np.int64]
    numbers: NDArray[np.int64]

    def place(self, value: int) -> tuple[str, int]:
        """Source and row of value number `value`."""
        return self.source, int(self.numbers[value])


def values_of(column: pa.Array, batch: Batch) -> Values:
    """The values of a column of the batch that are neither null nor empty text. Not for nested types."""
    present = column.is_valid()
    if pa.types.is_string(column.type):
        present = pc.and_(present, pc.not_equal(column, "")).fill_null(False)
    encoded = column.filter(present).dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return Values(
        batch.source,
        encoded.dictionary,
        codes,
        np.bincount(codes, minlength=len(encoded.dictionary)),
        batch.numbers[present.to_numpy(zero_copy_only=False)],
    )
