"""Rows on their way into a file ordered by key: more of them than memory is to hold.

What doesn't fit goes to an unnamed file, sorted into buckets by the highest bits of the key, so that the
rows of any range of buckets are read back alone, in the order in which they were added.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etl.snapshot.files import translated, unnamed

BUCKETS: Final = 256
_SHIFT: Final = np.uint64(64 - 8)
_HELD_BYTES: Final = 32_000_000

Borders = NDArray[np.int64]


class Spill:
    """Takes rows whose first column is the key (uint64), in order; gives them back by bucket.

    Use it as a context manager. The file, if one is needed, is beside `path`. StateError where that can't
    be written.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, held_bytes: int = _HELD_BYTES) -> None:
        self._path = path
        self.schema = schema
        self._held_bytes = held_bytes
        self._held: list[pa.RecordBatch] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._pieces: list[Borders] = []  # of each flush: where its buckets begin in the file
        self._ready: tuple[pa.RecordBatch, Borders] | None = None
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held, self._ready = [], None
        if self._file is not None:
            self._file.close()

    def add(self, rows: pa.RecordBatch) -> None:
        """Take rows."""
        self._held.append(rows)
        self.rows += rows.num_rows
        self._bytes += rows.nbytes
        if self._bytes > self._held_bytes:
            self._flush()

    def taken(self, first: int, stop: int) -> pa.RecordBatch:
        """The rows of the buckets `first` to `stop - 1`, as they were added. No row may be added after it."""
        if self._file is None:
            if self._ready is None:
                self._ready = self._sorted()
            rows, begins = self._ready
            return rows.slice(int(begins[first]), int(begins[stop] - begins[first]))
        self._flush()
        with translated(self._path):
            return _joined(list(self._read(self._file, first, stop)), self.schema)

    def _sorted(self) -> tuple[pa.RecordBatch, Borders]:
        """What is held, by bucket, and where each bucket begins and the last ends."""
        rows = _joined(self._held, self.schema)
        buckets = (rows.column(0).to_numpy() >> _SHIFT).astype(np.uint8)
        order = np.argsort(buckets, kind="stable")
        self._held, self._bytes = [], 0
        return rows.take(pa.array(order)), np.searchsorted(buckets[order], np.arange(BUCKETS + 1))

    def _flush(self) -> None:
        if not self._held:
            return
        rows, begins = self._sorted()
        if self._file is None:
            self._file = unnamed(self._path)
        with translated(self._path):
            self._pieces.append(_append(self._file, rows, begins))

    def _read(self, file: IO[bytes], first: int, stop: int) -> Iterator[pa.RecordBatch]:
        for begins in self._pieces:
            file.seek(int(begins[first]))
            data = pa.py_buffer(file.read(int(begins[stop] - begins[first])))
            for start, end in zip(begins[first:stop], begins[first + 1 :], strict=False):
                if end > start:
                    piece = data.slice(int(start - begins[first]), int(end - start))
                    yield pa.ipc.read_record_batch(piece, self.schema)


def parts(size: int, part_bytes: int = _HELD_BYTES) -> Iterator[tuple[int, int]]:
    """All buckets in ranges (first, stop), of about `part_bytes` where all of them together have `size`."""
    count = 1
    while count < BUCKETS and size > count * part_bytes:
        count *= 2
    step = BUCKETS // count
    return ((first, first + step) for first in range(0, BUCKETS, step))


def lowest_keys(first: int, stop: int) -> tuple[int, int]:
    """The lowest keys of two buckets; that of bucket `BUCKETS` is beyond all keys."""
    width = 2**64 // BUCKETS
    return first * width, stop * width


def _append(file: IO[bytes], rows: pa.RecordBatch, begins: Borders) -> Borders:
    """Write each bucket at the file's end; where they begin there, and the last ends."""
    places = np.empty(BUCKETS + 1, dtype=np.int64)
    places[0] = file.seek(0, 2)
    for bucket, (low, high) in enumerate(zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True)):
        written = file.write(rows.slice(low, high - low).serialize()) if high > low else 0
        places[bucket + 1] = places[bucket] + written
    return places


def _joined(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    whole = pa.Table.from_batches(batches, schema).combine_chunks().to_batches()
    return whole[0] if whole else pa.RecordBatch.from_pylist([], schema)
