"""Arrow files in which users stand in the order of their keys, in partitions, and are mapped into memory.

Pages that were looked at count as memory of the process, so they are given back from time to time.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from etl.snapshot.files import stale
from etl.snapshot.stamp import NewerError, contents_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEY: Final = "key"
_KEPT_BYTES: Final = 32_000_000  # of mapped pages
_STRIDE: Final = 64  # keys between two that are kept in memory: 2.5 MB for 20 million


class Partition:
    """Entries `first` to `first + len(keys) - 1` of a file; `keys` (uint64) ascend and are distinct."""

    def __init__(self, first: int, rows: pa.RecordBatch) -> None:
        self.first = first
        self.rows = rows
        self.keys: NDArray[np.uint64] = rows.column(KEY).to_numpy()
        self._columns: dict[str, NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def column(self, name: str) -> NDArray[Any]:
        """The numbers of a column, shape (m,), not copied."""
        if name not in self._columns:
            self._columns[name] = self.rows.column(name).to_numpy()
        return self._columns[name]

    def search(self, needles: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where n ascending keys are, and which of them are there at all; elsewhere the place means nothing.

        Halving what is left between two kept keys, for all needles at once, meets memory less often than a
        binary search for each.
        """
        at = np.maximum(np.searchsorted(self._kept, needles, side="right") - 1, 0) * _STRIDE
        last, step = len(self.keys) - 1, _STRIDE // 2
        while step:
            ahead = np.minimum(at + step, last)
            at += (ahead - at) * (self.keys[ahead] <= needles)
            step //= 2
        return at, self.keys[at] == needles

    @cached_property
    def _kept(self) -> NDArray[np.uint64]:
        return self.keys[::_STRIDE].copy()


class PartitionFile:
    """A mapped file and its partitions, in ascending order of keys."""

    def __init__(self, path: Path, kind: str, *, loss: str) -> None:
        """Map the file; `loss` is what a run does without it.

        Raises StaleCheckpointError where the file is damaged, newer, or another one.
        """
        self._touched = 0
        try:
            with path.open("rb") as file:
                self._mapped: mmap.mmap | None = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            reader = pa.ipc.open_file(pa.py_buffer(self._mapped))
            self.contents = contents_of(reader.schema.metadata)
            self.schema = reader.schema
            self.partitions = list(_partitions(reader))
        except NewerError as error:
            raise stale(path, "was written by a newer propsync", loss, "update propsync, or ") from error
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise stale(path, f"is damaged or no {kind} of propsync ({error})", loss) from error
        if self.contents.kind != kind:
            raise stale(path, f"is no {kind} of propsync, but a {self.contents.kind}", loss)
        self._bounds = np.array([part.keys[0] for part in self.partitions[1:]], dtype=np.uint64)

    def __len__(self) -> int:
        return sum(len(part) for part in self.partitions)

    def close(self) -> None:
        """Let go of the file; arrays made of it keep what they show."""
        self.partitions = []
        self._mapped = None

    def split(self, keys: NDArray[np.uint64]) -> Iterator[tuple[slice, Partition]]:
        """Ascending keys by the partition that they are in, if they are in the file."""
        if not self.partitions:
            return
        cuts = [0, *np.searchsorted(keys, self._bounds).tolist(), len(keys)]
        for part, low, high in zip(self.partitions, cuts[:-1], cuts[1:], strict=True):
            if high > low:
                yield slice(low, high), part
                self.touched(8 * len(part))

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Positions of n keys, shape (n,); -1 for those that are unknown."""
        positions = np.full(len(keys), -1, dtype=np.int64)
        order = np.argsort(keys)
        needles = keys[order]
        for span, part in self.split(needles):
            at, hit = part.search(needles[span])
            positions[order[span]] = np.where(hit, at + part.first, -1)
        return positions

    def between(self, low: int, high: int) -> Iterator[pa.RecordBatch]:
        """The entries with keys from `low` to `high - 1`, in order, in pieces, not copied."""
        for part in self.partitions:
            if int(part.keys[-1]) < low or int(part.keys[0]) >= high:
                continue
            start = int(np.searchsorted(part.keys, np.uint64(low)))
            stop = int(np.searchsorted(part.keys, np.uint64(high - 1), side="right"))
            yield part.rows.slice(start, stop - start)
            self.touched(part.rows.nbytes)

    def touched(self, size: int) -> None:
        """About so many bytes of the file were looked at."""
        self._touched += size
        if self._touched > _KEPT_BYTES:
            self._touched = 0
            if self._mapped is not None and hasattr(self._mapped, "madvise"):
                self._mapped.madvise(mmap.MADV_DONTNEED)


def _partitions(reader: pa.ipc.RecordBatchFileReader) -> Iterator[Partition]:
    first, before = 0, -1
    for number in range(reader.num_record_batches):
        rows = reader.get_batch(number)
        rows.validate()
        part = Partition(first, rows)
        if len(part) == 0 or int(part.keys[0]) <= before:
            raise ValueError("its partitions are out of order")
        yield part
        first, before = first + len(part), int(part.keys[-1])
