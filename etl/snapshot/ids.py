"""The ids behind the keys, for jobs that unset the properties of users who left. Beside the snapshot.

For each user the one id by which it is known: that of the user, or of the device where a row names no user.
Unsetting by both would tie a device to a user anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.amplitude import ID_FIELDS
from etl.keys import user_keys
from etl.snapshot.partitions import KEY, PartitionFile
from etl.snapshot.rewriting import Rewriting
from etl.snapshot.spill import lowest_keys
from etl.snapshot.stamp import Contents, Stamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

_KIND: Final = "list of ids"
_LOSS: Final = "then writes it anew, and leaves alone who left before"
_FIELDS: Final = [pa.field(KEY, pa.uint64(), nullable=False), *(pa.field(n, pa.string()) for n in ID_FIELDS)]
_ENTRY_BYTES: Final = 64  # about


class KnownIds:
    """The ids of an earlier run. Use it as a context manager; one thread at a time."""

    def __init__(self, file: PartitionFile) -> None:
        self._file = file

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """Open the ids at `path`; None where there are none. Raises StaleCheckpointError."""
        return cls(PartitionFile(path, _KIND, loss=_LOSS)) if path.exists() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._file)

    def __bool__(self) -> bool:
        return True  # also where it knows nobody

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Positions of n keys, shape (n,); -1 for those that are unknown."""
        return self._file.find(keys)

    def of(self, keys: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.uint64], pa.RecordBatch]]:
        """Those of the ascending keys that are known, in pieces: m keys with their `user_id` and `device_id`.

        Each row has one of the two.
        """
        for span, part in self._file.split(keys):
            at, hit = part.search(keys[span])
            if hit.any():
                rows = part.rows.take(pa.array(at[hit]))
                yield keys[span][hit], rows.select(ID_FIELDS)

    def sorted_keys(self) -> Iterator[NDArray[np.uint64]]:
        """All keys in ascending order, in pieces."""
        return (part.keys for part in self._file.partitions)

    def entries(self, low: int, high: int) -> list[pa.RecordBatch]:
        """The entries with keys from `low` to `high - 1`, in their order."""
        return list(self._file.between(low, high))


class IdsRenewal(Rewriting):
    """Gathers ids and writes them in place of the old ones; see `Rewriting`."""

    def __init__(self, path: Path, stamp: Stamp, *, old: KnownIds | None = None) -> None:
        super().__init__(path, pa.schema(_FIELDS))
        self._old = old
        self._schema = pa.schema(_FIELDS, Contents(_KIND, stamp).metadata())

    def add(self, identifications: pa.RecordBatch) -> None:
        """Take the ids of n identifications, each of which has one; their other columns don't matter."""
        keys = user_keys(identifications)[:, 0]
        unknown = np.ones(len(keys), np.bool_) if self._old is None else self._old.find(keys) < 0
        rows = np.flatnonzero(unknown)
        if len(rows):
            user, device = (_texts(identifications, name).take(pa.array(rows)) for name in ID_FIELDS)
            alone = pc.if_else(user.is_valid(), pa.scalar(None, pa.string()), device)
            columns = [pa.array(keys[rows]), user, alone]
            self._added.add(pa.RecordBatch.from_arrays(columns, schema=self._added.schema))

    def finish(self) -> int:
        """Write the new file in place of the old one; the number of its entries."""
        most = self._added.rows + (0 if self._old is None else len(self._old))
        if self._old is not None and not self._added.rows and not self._forgotten.rows:
            return most
        return self._write(self._schema, most * _ENTRY_BYTES)

    def _partition(self, first: int, stop: int) -> pa.RecordBatch:
        """The ids of the buckets `first` to `stop - 1`: of each key the last that came."""
        old = [] if self._old is None else self._old.entries(*lowest_keys(first, stop))
        columns = [batch.columns for batch in (*old, self._added.taken(first, stop))]
        keys, *ids = (pa.concat_arrays(parts) for parts in zip(*columns, strict=True))
        numbers = keys.to_numpy()
        order = np.argsort(numbers, kind="stable")
        last = np.ones(len(order), dtype=np.bool_)
        last[:-1] = numbers[order][1:] != numbers[order][:-1]
        stay = order[last]
        stay = stay[~np.isin(numbers[stay], self._gone(first, stop))]
        arrays = [column.take(pa.array(stay)) for column in (keys, *ids)]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


def _texts(identifications: pa.RecordBatch, name: str) -> pa.Array:
    if name in identifications.schema.names:
        return identifications.column(name)
    return pa.nulls(identifications.num_rows, pa.string())
