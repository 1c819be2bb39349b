"""Arrow files in which users are sorted by their keys, in partitions; and sets of their entries, a bit each.

A file is mapped into memory, and written anew. Mapped pages that were read count as memory of the process, so
they are released from time to time.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

import numpy as np
import pyarrow as pa

from ..errors import StaleCheckpointError
from ..snapshot_metadata import FileMetadata, OtherFormatError
from ..state_files import is_there, replacing_file
from .spill_buffer import (
    BUCKET_KEYS,
    KEY,
    KEY_FIELD,
    SpillBuffer,
    bucket_ranges,
    joined,
    key_order,
    write_errors,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTITION_BYTES: Final = 16_000_000
_MAPPED_BYTES: Final = 8_000_000  # of mapped pages that were read
_SEARCHED_BYTES: Final = 16  # of an entry, at most
_PIECE: Final = 1 << 16
_STRIDE: Final = 64  # keys between two that are kept in memory: 2.5 MB for 20 million


class Partition:
    """Entries `first` to `first + len(keys) - 1` of a file; `keys` (uint64) ascend and are distinct."""

    def __init__(self, first: int, rows: pa.RecordBatch) -> None:
        self.first = first
        self.rows = rows
        self.keys: NDArray[np.uint64] = rows.column(KEY).to_numpy()
        self._kept: NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def search(self, needles: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The places of n ascending keys, and which of them are there; elsewhere the place has no meaning.

        Halving what is left between two kept keys, for all needles at once, reads memory less often than a
        binary search for each.
        """
        if self._kept is None:
            self._kept = self.keys[::_STRIDE].copy()
        at = np.maximum(np.searchsorted(self._kept, needles, side="right") - 1, 0) * _STRIDE
        last, step = len(self.keys) - 1, _STRIDE // 2
        while step:
            ahead = np.minimum(at + step, last)
            at += (ahead - at) * (self.keys[ahead] <= needles)
            step //= 2
        return at, self.keys[at] == needles


class SortedFile(ExitStack):
    """A mapped file and its partitions, in ascending order of keys. Use it as a context manager.

    `kind` names what it holds, and `loss` is what the next run does without it. Arrays made of it stay valid
    when it is closed.
    """

    kind: ClassVar[str]
    loss: ClassVar[str]

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """Open the file at `path`; None where there is none.

        Raises StaleCheckpointError where it is damaged, of another kind, or written by a newer version.
        """
        return cls(path) if is_there(path) else None

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.partitions: list[Partition] = []
        self.callback(self.partitions.clear)  # which hold the mapped memory
        self._read_bytes = 0
        try:
            self._open(path)
        except OtherFormatError as error:
            problem, before = error.args
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            problem, before = f"is damaged or no {self.kind} of propsync ({error})", ""
        else:
            return
        self.close()
        hint = f"{before}delete the file; the next run {self.loss}"
        raise StaleCheckpointError(f"{path} {problem}", hint=hint)

    def _open(self, path: Path) -> None:
        self._file = self.enter_context(path.open("rb", buffering=0))
        self._mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        whole = pa.py_buffer(self._mapped)
        self._address, reader = whole.address, pa.ipc.open_file(whole)
        self.schema = reader.schema
        self.metadata = FileMetadata.unpack(self.schema.metadata or {}, self.kind)
        for number in range(reader.num_record_batches):
            rows = reader.get_batch(number)
            rows.validate()
            part = Partition(len(self), rows)
            if not len(part) or (self.partitions and part.keys[0] <= self.partitions[-1].keys[-1]):
                raise ValueError("its partitions are out of order")
            self.partitions.append(part)

    def __len__(self) -> int:
        return sum(len(part) for part in self.partitions)

    def __bool__(self) -> bool:
        return True  # also without entries

    def search(
        self, keys: NDArray[np.uint64]
    ) -> Iterator[tuple[Partition, NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]]:
        """Look up n keys, partition by partition.

        Yields each partition with the keys that belong there, as places among the n in ascending order; the
        places of these in the partition; and which are there (else the place has no meaning). What is read,
        keys and another column, stays mapped in a small file.
        """
        order = key_order(keys)
        needles, large = keys[order], len(self) * _SEARCHED_BYTES > _MAPPED_BYTES
        starts = np.array([part.keys[0] for part in self.partitions[1:]], dtype=np.uint64)
        cuts = [0, *np.searchsorted(needles, starts).tolist(), len(keys)]
        for part, low, high in zip(self.partitions, cuts[:-1], cuts[1:], strict=False):
            if high > low:
                yield part, order[low:high], *part.search(needles[low:high])
                if large:
                    self.release(_SEARCHED_BYTES * len(part))

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Positions of n keys, shape (n,); -1 for those that are unknown."""
        positions = np.full(len(keys), -1, dtype=np.int64)
        for part, rows, at, there in self.search(keys):
            positions[rows] = np.where(there, at + part.first, -1)
        return positions

    def values_at(self, column: pa.FixedSizeBinaryArray, places: NDArray[np.int64]) -> bytes:
        """The values at these places of a partition's column, joined.

        A few are read from the file, since the system maps a large piece around each access to mapped memory.
        """
        width, data = column.type.byte_width, column.buffers()[1]
        if len(places) * _PIECE > column.nbytes:
            self.release(column.nbytes)
            return np.frombuffer(data, np.dtype((np.void, width)), len(column))[places].tobytes()
        begin, descriptor = data.address - self._address, self._file.fileno()
        return b"".join([os.pread(descriptor, width, begin + width * place) for place in places.tolist()])

    def between(self, low: int, high: int) -> pa.RecordBatch:
        """The entries with keys from `low` to `high - 1`, in order; those of one partition are not copied."""
        pieces = []
        for part in self.partitions:
            if int(part.keys[-1]) >= low and int(part.keys[0]) < high:
                start = int(np.searchsorted(part.keys, np.uint64(low)))
                stop = int(np.searchsorted(part.keys, np.uint64(high - 1), side="right"))
                pieces.append(part.rows.slice(start, stop - start))
                self.release(part.rows.nbytes)
        return joined(pieces, self.schema)

    def pieces(self) -> Iterator[Partition]:
        """All partitions in ascending order of keys, of which the keys and another column are read."""
        for part in self.partitions:
            yield part
            self.release(_SEARCHED_BYTES * len(part))

    def release(self, size: int = _MAPPED_BYTES + 1) -> None:
        """Count bytes that were read, about; release the mapped pages when they are many, or at once."""
        self._read_bytes += size
        if self._read_bytes > _MAPPED_BYTES:
            self._read_bytes = 0
            if hasattr(self._mapped, "madvise"):
                self._mapped.madvise(mmap.MADV_DONTNEED)


class SortedFileWriter(ExitStack):
    """Writes a file anew from an older one, from rows that are added, and without keys that are forgotten.

    `added` is the schema of added rows, whose first column is the key. Use it as a context manager. Until
    `finish` has returned, the old file stays. StateError where the folder can't be written.
    """

    def __init__(self, path: Path, added: pa.Schema, old: SortedFile | None) -> None:
        super().__init__()
        self._path = path
        self._old = old
        self._added = self.enter_context(SpillBuffer(path, added))
        self._forgotten = self.enter_context(SpillBuffer(path, pa.schema([KEY_FIELD])))

    def forget(self, keys: NDArray[np.uint64]) -> None:
        """Leave out what the old file has of these m users. What is added for them stays."""
        self._forgotten.add(keys)

    def _write(
        self,
        schema: pa.Schema,
        merge: Callable[[pa.RecordBatch, NDArray[np.bool_], int, int], pa.RecordBatch],
        entry_bytes: int,
    ) -> int:
        """Replace the old file; the number of the new entries, of about `entry_bytes` each.

        `merge` gets the old entries of buckets, which of them are gone, and the first and the stop bucket; it
        returns the new entries, ascending by key.
        """
        entries = 0
        with (
            write_errors(self._path),
            replacing_file(self._path) as file,
            pa.ipc.new_file(file, schema) as writer,
        ):
            # A partition takes large pieces of memory, and what is free by now is in small ones.
            pa.default_memory_pool().release_unused()
            most = self._added.rows + (0 if self._old is None else len(self._old))
            for first, stop in bucket_ranges(most * entry_bytes, PARTITION_BYTES):
                low, high = first * BUCKET_KEYS, stop * BUCKET_KEYS
                stored = joined([] if self._old is None else [self._old.between(low, high)], schema)
                gone = np.isin(stored.column(KEY), self._forgotten.read(first, stop).column(KEY))
                rows = merge(stored, gone, first, stop)
                entries += rows.num_rows
                if rows.num_rows:
                    writer.write_batch(rows)
                del stored, rows  # before the next ones come
        return entries


# --- sets of positions and of keys -----------------------------------------------------------------------

_BIT: Final = np.array([1 << n for n in range(8)], dtype=np.uint8)
_COUNT: Final = np.array([n.bit_count() for n in range(256)], dtype=np.uint8)  # of the bits in each byte
_SLOTS: Final = 1 << 27  # of a key filter: 16 MB


class BitSet:
    """Which of the positions 0 to n - 1 are in the set; none at first. -1 stands for no position."""

    def __init__(self, n: int) -> None:
        self._bytes = np.zeros((n + 7) // 8, dtype=np.uint8)

    def __len__(self) -> int:
        """How many positions are in the set."""
        return int(_COUNT[self._bytes].sum())

    def add(self, positions: NDArray[np.int64]) -> None:
        """Add positions; they may repeat."""
        some = positions[positions >= 0]
        # As an unbuffered ufunc: positions may share a byte.
        np.bitwise_or.at(self._bytes, some >> 3, _BIT[some & 7])

    def remove(self, positions: NDArray[np.int64]) -> None:
        """Remove positions; they may repeat."""
        some = positions[self.has(positions)]  # to write to all of them would take memory for most pages
        np.bitwise_and.at(self._bytes, some >> 3, ~_BIT[some & 7])

    @classmethod
    def read(cls, n: int, data: bytes) -> Self | None:
        """The set that `bytes` wrote; None where it was one of another number of positions."""
        found = cls(n)
        if len(data) != len(found._bytes):
            return None
        found._bytes = np.frombuffer(data, dtype=np.uint8).copy()
        return found

    def __bytes__(self) -> bytes:
        return self._bytes.tobytes()

    def update(self, other: BitSet) -> None:
        """Add what is in another set of as many positions."""
        self._bytes |= other._bytes

    def subtract(self, other: BitSet) -> None:
        """Remove what is in another set of as many positions."""
        self._bytes &= ~other._bytes

    def shared(self, other: BitSet) -> int:
        """How many positions are also in another set of as many positions."""
        return int(_COUNT[self._bytes & other._bytes].sum())

    def has(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the positions are in the set; the same shape, False for -1."""
        if len(self._bytes) == 0:
            return np.zeros(positions.shape, dtype=np.bool_)
        held: NDArray[np.bool_] = (self._bytes[positions >> 3] & _BIT[positions & 7]) != 0
        return held & (positions >= 0)


class KeyFilter:
    """A set of keys that rarely has another key, too. It takes memory once it has a key."""

    def __init__(self) -> None:
        self._bits = BitSet(0)
        self._empty = True

    def __bool__(self) -> bool:
        return not self._empty

    def add(self, keys: NDArray[np.uint64]) -> None:
        """Add keys of shape (m,)."""
        if len(keys):
            if self._empty:
                self._bits, self._empty = BitSet(_SLOTS), False
            self._bits.add((keys % np.uint64(_SLOTS)).astype(np.int64))

    def has(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of n keys are in the set, perhaps; shape (n,)."""
        return self._bits.has((keys % np.uint64(_SLOTS)).astype(np.int64))
