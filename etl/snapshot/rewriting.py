"""Writing a file ordered by key anew, from an older one and what came since: whole, or not at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

import pyarrow as pa

from etl.snapshot.files import replacing, translated
from etl.snapshot.partitions import KEY
from etl.snapshot.spill import Spill, parts
from etl.state_files import fresh_name

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

PARTITION_BYTES: Final = 16_000_000
KEY_FIELD: Final = pa.field(KEY, pa.uint64(), nullable=False)


class Rewriting(ABC):
    """Gathers rows of the schema `added`, whose first column is the key, and keys to be left out.

    Use it as a context manager. Until its `finish` has returned, the old file is what there is. StateError
    where the folder can't be written.
    """

    def __init__(self, path: Path, added: pa.Schema) -> None:
        self._path = path
        self._added = Spill(path, added)
        self._forgotten = Spill(path, pa.schema([KEY_FIELD]))
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with translated(self._path):
            fresh_name(self._path).unlink(missing_ok=True)
        self._open.enter_context(self._added)
        self._open.enter_context(self._forgotten)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def forget(self, keys: NDArray[np.uint64]) -> None:
        """Leave out what the old file has of these m users."""
        self._forgotten.add(pa.RecordBatch.from_arrays([pa.array(keys)], schema=self._forgotten.schema))

    @abstractmethod
    def _partition(self, first: int, stop: int) -> pa.RecordBatch:
        """The new entries of the buckets `first` to `stop - 1`, ascending by key."""

    def _gone(self, first: int, stop: int) -> NDArray[np.uint64]:
        """The keys to be left out of these buckets; shape (m,)."""
        gone: NDArray[np.uint64] = self._forgotten.taken(first, stop).column(KEY).to_numpy()
        return gone

    def _write(self, schema: pa.Schema, size: int) -> int:
        """Put the new file in place of the old one, about `size` bytes; the number of its entries."""
        entries = 0
        with replacing(self._path, schema) as writer:
            for first, stop in parts(size, PARTITION_BYTES):
                rows = self._partition(first, stop)
                entries += rows.num_rows
                if rows.num_rows:
                    writer.write_batch(rows)
        return entries
