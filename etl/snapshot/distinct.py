"""How many different users there are, exactly, whether memory holds their keys or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import numpy as np
import pyarrow as pa

from etl.snapshot.columns import matrix
from etl.snapshot.partitions import KEY
from etl.snapshot.spill import Spill, parts

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

_MARKS: Final = "marks"


class DistinctUsers:
    """Counts users by their keys, and those of whom a row is marked in each of c columns.

    Use it as a context manager. StateError where keys don't fit into memory and can't be written beside
    `path`.
    """

    def __init__(self, path: Path, columns: int = 0) -> None:
        self._columns = columns
        fields = [pa.field(KEY, pa.uint64()), pa.field(_MARKS, pa.binary((columns + 7) // 8 or 1))]
        self._rows = Spill(path, pa.schema(fields))

    def __enter__(self) -> Self:
        self._rows.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.__exit__(kind, error, trace)

    def add(self, keys: NDArray[np.uint64], marks: NDArray[np.bool_]) -> None:
        """Take rows: `keys` of shape (m,), `marks` of shape (m, c)."""
        if len(keys):
            packed = np.packbits(marks, axis=1) if self._columns else np.zeros((len(keys), 1), np.uint8)
            data = pa.py_buffer(np.ascontiguousarray(packed))
            kind = self._rows.schema.field(_MARKS).type
            column = pa.FixedSizeBinaryArray.from_buffers(kind, len(keys), [None, data])
            self._rows.add(pa.RecordBatch.from_arrays([pa.array(keys), column], schema=self._rows.schema))

    def count(self) -> tuple[int, list[int]]:
        """How many users there are, and how many of them are marked in each column."""
        users, marked = 0, np.zeros(self._columns, dtype=np.int64)
        size = self._rows.rows * sum(field.type.byte_width for field in self._rows.schema)
        for first, stop in parts(size):
            rows = self._rows.taken(first, stop)
            if rows.num_rows:
                keys = rows.column(KEY).to_numpy()
                order = np.argsort(keys, kind="stable")
                starts = np.flatnonzero(np.concatenate([[True], np.diff(keys[order]) != 0]))
                packed = matrix(rows.column(_MARKS), np.dtype(np.uint8))[order]
                together = np.bitwise_or.reduceat(packed, starts, axis=0)
                users += len(starts)
                marked += np.unpackbits(together, axis=1)[:, : self._columns].sum(axis=0, dtype=np.int64)
        return users, marked.tolist()
