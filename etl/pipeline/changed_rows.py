"""The rows of a source that may be sent, kept by the look at all of them for the pass that sends them.

On most nights they are few. They are kept as they stand in the source, so that the pass maps, compares and
encodes them as if it had read them there; the rows left out count as unchanged.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Final

import numpy as np

from ..arrow.exact_json import is_json
from ..arrow.plain_arrays import plain_rows, plain_schema
from ..mapper import join_batches
from ..reader.file_reader import RowSpans, some_rows
from .device_owners import DeviceOwners

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from ..model import Batch, RowRange
    from ..snapshot import DiffedBatch

# What is kept of several batches is kept together, so that mapping it costs what its rows cost.
_TOGETHER_ROWS: Final = 16_384
_TOGETHER_BYTES: Final = 4 << 20
_MOST_BYTES: Final = 256 << 20


class ChangedRows(AbstractContextManager["ChangedRows"]):
    """Takes all batches of a source, compared in source order as if every difference were to be sent.

    Use it as a context manager. `complete` says whether it has all rows that may be sent. It has none where
    they take more than 256 MB, where a file beside `path` can't be written, and where other rows matter, too.
    What memory doesn't hold is in a file without a name, which is gone with the process.
    """

    def __init__(self, path: Path) -> None:
        self.complete = False
        self._path = path
        self._keeps = True
        self._together: list[Batch] = []
        self._rows = self._bytes = 0  # of `_together`
        self._schema: pa.Schema | None = None  # of the rows that these were taken from
        self._file: IO[bytes] | None = None
        self._places: list[tuple[int, int]] = []  # of each piece: the source's file, the place in `_file`
        self._owners = DeviceOwners()  # by rows that are left out

    def __exit__(self, *_: object) -> None:
        self.drop()

    @property
    def size(self) -> int:
        """About how many bytes the kept rows take."""
        return self._bytes + (0 if self._file is None else self._file.tell())

    def drop(self) -> None:
        """Keep nothing: the source has to be read again."""
        self.complete = self._keeps = False
        self._together, self._owners = [], DeviceOwners()
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def add(self, compared: DiffedBatch) -> None:
        """Take the next batch; of its rows those are kept that are sent, rejected or lack a skipped value."""
        mapped, seen, places = compared.mapped, compared.seen, compared.mapped.kept
        batch = mapped.batch
        if not self._keeps or seen is None or compared.rows is None:
            return
        if paired := seen.keys.shape[1] == 2:
            self._owners.learn(np.delete(seen.keys, compared.rows, axis=0))
        linked = self._owners.users(seen.keys[compared.rows]) is not None
        # What type such columns have depends on which of their values come together.
        typeless = batch.originals is None and any(map(is_json, batch.rows.schema.types))
        if linked or typeless:
            self.drop()
            return
        if mapped.rejects or mapped.skipped:
            rows = [np.array([reject.row for reject in mapped.rejects], np.int64), batch.numbers[places]]
            rows += [some.rows for some in mapped.skipped]
            places = np.flatnonzero(np.isin(batch.numbers, np.concatenate(rows)))
        last, schema = self._together[-1] if self._together else None, plain_schema(batch.rows.schema)
        other = last is not None and (last.file, self._schema) != (batch.file, schema)
        if other or (last is not None and paired and len(places)):
            self._write()  # whose a device is, is learned batch by batch
        elif last is not None and not len(places) and not batch.rejects:
            self._together[-1] = replace(last, stop=batch.stop)
            return
        kept = some_rows(batch, places)
        self._schema, kept = schema, replace(kept, rows=plain_rows(kept.rows))
        self._together.append(kept)
        self._rows += len(places) + len(kept.rejects)
        self._bytes += kept.rows.nbytes
        if self._rows >= _TOGETHER_ROWS or self._bytes >= _TOGETHER_BYTES:
            self._write()

    def finish(self) -> None:
        """All batches were taken."""
        self._owners = DeviceOwners()
        self._together = [join_batches(self._together)] if self._together else []
        self.complete = self._keeps
        if self._file is not None and self._keeps:
            self._file.flush()  # a worker process has the file, but not what waits for it

    def batches(self, ranges: Sequence[RowRange]) -> Iterator[Batch]:
        """What is kept of ascending ranges of one file, in batches that tile them."""
        spans = RowSpans([(one.first, one.stop) for one in ranges])
        for piece in self._pieces(ranges[0].file):
            for low, high in spans.within(piece.first, piece.stop):
                yield piece.between(low, high or piece.stop)

    def _pieces(self, file: int) -> Iterator[Batch]:
        for number, place in self._places:
            if number == file and self._file is not None:
                self._file.seek(place)
                yield pickle.load(self._file)  # noqa: S301 - nobody else can open the file
        yield from (piece for piece in self._together if piece.file == file)

    def _write(self) -> None:
        """Write what was gathered as one piece."""
        piece, self._together = join_batches(self._together), []
        self._rows = self._bytes = 0
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115 - closed on exit
            self._places.append((piece.file, self._file.tell()))
            pickle.dump(piece, self._file, protocol=5)
            if self._file.tell() > _MOST_BYTES:
                self.drop()
        except OSError:
            self.drop()
