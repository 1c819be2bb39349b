"""Buffers rows for a file sorted by key, on disk if they don't fit in memory.

Rows are sorted into buckets by the highest bits of the key, so that the rows of any range of buckets can be
read back alone, in the order in which they were added.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..state_files import state_error

KEY: Final = "key"
KEY_FIELD: Final = pa.field(KEY, pa.uint64(), nullable=False)
BUCKETS: Final = 256
BUCKET_KEYS: Final = 2**64 // BUCKETS
_SHIFT: Final = np.uint64(64 - 8)
_HELD_BYTES: Final = 24_000_000
_PARTS: Final = 4  # in which these are sorted


class SpillBuffer(ExitStack):
    """Takes rows whose first column is the key (uint64), in order; returns them by bucket.

    Use it as a context manager. More than `held_bytes` go to a file without a name in the folder of `path`;
    no other process can open it, and it is gone with this one. StateError where that can't be written.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, held_bytes: int = _HELD_BYTES) -> None:
        super().__init__()
        self._path = path
        self.schema = schema
        self._part_bytes = held_bytes // _PARTS
        self._held: list[pa.RecordBatch] = []
        self._bytes = 0  # of `_held`
        self._file: IO[bytes] = SpooledTemporaryFile(max(held_bytes, 1), dir=str(path.parent))  # noqa: SIM115
        self.callback(self._file.close)
        self._begins: list[NDArray[np.int64]] = []  # of each sorted part, where its buckets begin in the file
        self.rows = 0

    def add(self, *columns: pa.Array | NDArray[np.uint64]) -> None:
        """Add rows, column by column."""
        rows = pa.RecordBatch.from_arrays(list(columns), schema=self.schema)
        self._held.append(rows)
        self.rows += rows.num_rows
        self._bytes += rows.nbytes
        if self._bytes > self._part_bytes:
            self._sort()

    def read(self, first: int, stop: int) -> pa.RecordBatch:
        """The rows of the buckets `first` to `stop - 1`, in their order. No row may be added after this."""
        self._sort()
        pieces = []
        with write_errors(self._path):
            for begins in self._begins:
                bounds = (begins[first : stop + 1] - begins[first]).tolist()
                self._file.seek(int(begins[first]))
                data = pa.py_buffer(self._file.read(bounds[-1]))
                slices = (data.slice(low, high - low) for low, high in pairwise(bounds) if high > low)
                pieces += [pa.ipc.read_record_batch(some, self.schema) for some in slices]
        return joined(pieces, self.schema)

    def parts(self) -> Iterator[pa.RecordBatch]:
        """All rows, ascending by key and in their order, in parts that fit into memory; none without rows."""
        width = sum(field.type.byte_width for field in self.schema)
        for first, stop in bucket_ranges(self.rows * width, self._part_bytes):
            if (rows := self.read(first, stop)).num_rows:
                yield rows.take(pa.array(key_order(rows.column(0).to_numpy())))

    def _sort(self) -> None:
        """Sort what is held by bucket, and write it to the file."""
        if not self._held:
            return
        rows = joined(self._held, self.schema)
        self._held, self._bytes = [], 0
        buckets = (rows.column(0).to_numpy() >> _SHIFT).astype(np.uint8)
        order = np.argsort(buckets, kind="stable")
        rows, counts = rows.take(pa.array(order)), np.bincount(buckets, minlength=BUCKETS)
        with write_errors(self._path):
            places, row = [self._file.tell()], 0
            for count in counts.tolist():
                written = self._file.write(rows.slice(row, count).serialize()) if count else 0
                places.append(places[-1] + written)
                row += count
        self._begins.append(np.array(places))


class DistinctUsers(ExitStack):
    """Counts users by their keys, and those of whom a row is marked in each of c columns.

    Use it as a context manager. StateError where keys don't fit into memory and can't be written beside
    `path`.
    """

    def __init__(self, path: Path, columns: int = 0) -> None:
        super().__init__()
        self._columns = columns
        marks = pa.field("marks", pa.binary((columns + 7) // 8))
        self._rows = self.enter_context(SpillBuffer(path, pa.schema([KEY_FIELD, marks])))

    def add(self, keys: NDArray[np.uint64], marks: NDArray[np.bool_]) -> None:
        """Add rows: `keys` of shape (m,), `marks` of shape (m, c)."""
        self._rows.add(keys, binary_column(np.packbits(marks, axis=1)))

    def count(self) -> tuple[int, list[int]]:
        """How many users there are, and how many of them are marked in each column."""
        users, marked = 0, np.zeros(self._columns, dtype=np.int64)
        for rows in self._rows.parts():
            starts = np.flatnonzero(group_starts(rows.column(0).to_numpy()))
            packed = matrix(rows.column(1), np.dtype(np.uint8))
            together = np.bitwise_or.reduceat(packed, starts, axis=0)
            users += len(starts)
            marked += np.unpackbits(together, axis=1)[:, : self._columns].sum(axis=0, dtype=np.int64)
        return users, marked.tolist()


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raise a StateError for what fails while `path` is written."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise state_error(path, error) from error


def bucket_ranges(size: int, part_bytes: int) -> Iterator[tuple[int, int]]:
    """All buckets in ranges (first, stop), of about `part_bytes` where all of them together have `size`."""
    step = BUCKETS
    while step > 1 and size > BUCKETS // step * part_bytes:
        step //= 2
    return ((first, first + step) for first in range(0, BUCKETS, step))


# --- keys and columns ------------------------------------------------------------------------------------


def key_order(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The order of ascending keys, stable. Hashes are nearly sorted by their first 16 bits that differ."""
    if not len(keys):
        return np.empty(0, np.int64)
    low, high = int(keys.min()), int(keys.max())
    shift = np.uint64(max((high - low).bit_length() - 16, 0))
    # numpy sorts numbers of 16 bits by their digits, and what is nearly sorted in a quarter of the time.
    order = np.argsort(((keys - np.uint64(low)) >> shift).astype(np.uint16), kind="stable")
    return order.take(np.argsort(keys.take(order), kind="stable"))


def group_starts(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of n values differ from the one before; shape (n,)."""
    first = np.ones(len(values), dtype=np.bool_)
    first[1:] = values[1:] != values[:-1]
    return first


def places_in(
    keys: NDArray[np.uint64], needles: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The places of n needles among ascending keys, or before which they belong; and which are there."""
    at = keys.searchsorted(needles)
    there = np.zeros(len(needles), dtype=np.bool_)
    inside = at < len(keys)
    there[inside] = keys[at[inside]] == needles[inside]
    return at, there


def binary_column(numbers: NDArray[np.unsignedinteger]) -> pa.FixedSizeBinaryArray:
    """Rows of numbers (shape (n, k)) as n values of fixed size."""
    data = pa.py_buffer(np.ascontiguousarray(numbers))
    kind = pa.binary(numbers.shape[1] * numbers.itemsize)
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(numbers), [None, data])


def matrix(
    column: pa.FixedSizeBinaryArray, kind: np.dtype[np.unsignedinteger]
) -> NDArray[np.unsignedinteger]:
    """The numbers of `binary_column`, not copied."""
    width = column.type.byte_width
    shape = (len(column), width // kind.itemsize)
    return np.ndarray(shape, kind, column.buffers()[1] or b"", column.offset * width)


def raw_values(column: pa.Array) -> NDArray[np.void]:
    """The values of a column of fixed width as their bytes, not copied; shape (n,)."""
    width = column.type.byte_width
    kind = np.dtype((np.void, width))
    return np.ndarray(len(column), kind, column.buffers()[1] or b"", column.offset * width)


def joined(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """Batches as one; without any, a batch without rows."""
    if len(batches) == 1:
        return batches[0]
    whole = pa.Table.from_batches(batches, schema).combine_chunks().to_batches()
    return whole[0] if whole else pa.RecordBatch.from_pylist([], schema)
