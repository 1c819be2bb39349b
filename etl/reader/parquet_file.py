"""Parquet: only the columns that are asked for and the row groups that hold the range are read."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from etl.errors import StateError
from etl.model import Format
from etl.reader.faults import guarded, translated
from etl.reader.pieces import MOST_BYTES, rows_within
from etl.reader.places import HEAD, Place, Stored
from etl.reader.readable import plain_schema, readable_pieces
from etl.reader.spans import Spans
from etl.reader.web import Web

if TYPE_CHECKING:
    from etl.reader.formats import Input
    from etl.reader.pieces import Piece

BUFFER: Final = 1 << 16
TAIL: Final = 8


class ParquetFile:
    """One Parquet file. Columns keep their types; those of dictionaries are the types of their values."""

    format: Format = "parquet"
    text = False

    def __init__(self, given: Input, batch_rows: int) -> None:
        self._name = given.name
        self._batch_rows = batch_rows
        self._spool: IO[bytes] | None = None
        self._place = self._seekable(given)
        with translated(self._name), closing(self._place.open()) as stream:
            opened = _opened(stream)
            self._metadata, self._schema = opened.metadata, opened.schema_arrow

    def schema(self) -> pa.Schema:
        """The columns as they will be read."""
        return plain_schema(self._schema)

    def total_rows(self) -> int | None:
        """How many rows the footer says there are."""
        return int(self._metadata.num_rows)

    def sample(self) -> str:
        """A hex digest over the footer, which knows every column chunk's place, size and statistics."""
        with translated(self._name), closing(self._place.open()) as stream:
            size = stream.size()
            length = int.from_bytes(stream.read_at(TAIL, size - TAIL)[:4], "little")
            footer = stream.read_at(length + TAIL, size - TAIL - length)
        return hashlib.blake2b(footer, digest_size=16).hexdigest()

    def pieces(
        self, first: int, stop: int | None, columns: Sequence[str], *, spans: Spans | None = None
    ) -> Iterator[Piece]:
        """The rows of the row groups that have wanted rows."""
        for groups, row in self._groups(spans or Spans([(first, stop)])):
            with translated(self._name), closing(self._place.open()) as stream:
                yield from readable_pieces(self._name, row, self._batches(stream, groups, row, columns))

    def _groups(self, wanted: Spans) -> list[tuple[list[int], int]]:
        """Which row groups to read, neighbours together, with the number of their first row."""
        found, row, last = list[tuple[list[int], int]](), 1, -1
        for group in range(self._metadata.num_row_groups):
            end = row + self._metadata.row_group(group).num_rows
            if any(wanted.within(row, end)):
                if last != group - 1 or not found:
                    found.append(([], row))
                found[-1][0].append(group)
                last = group
            row = end
        return found

    def _batches(
        self, stream: pa.NativeFile, groups: list[int], row: int, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        found = [self._metadata.row_group(group) for group in groups]
        size, count = sum(one.total_byte_size for one in found), sum(one.num_rows for one in found)
        rows = min(self._batch_rows, rows_within(MOST_BYTES, size, count))
        with translated(self._name):
            batches = _opened(stream, self._metadata).iter_batches(
                rows, row_groups=groups, columns=list(columns), use_threads=False
            )
        for batch in guarded(batches, self._name, f"in row {row} or after it"):
            yield batch.select(list(columns))

    def _seekable(self, given: Input) -> Place:
        """The file itself, or a temporary copy of what is packed or comes through a pipe."""
        if isinstance(given.place, Stored | Web) and given.codec is None:
            return given.place
        with _writing(self._name):
            self._spool, path = _temporary()
        with translated(self._name), closing(given.open()) as stream:
            while chunk := stream.read(HEAD):
                with _writing(self._name):
                    self._spool.write(chunk)
        with _writing(self._name):
            self._spool.flush()
        return Stored(self._name, fs.LocalFileSystem(), path)


def _temporary() -> tuple[IO[bytes], str]:
    """A new temporary file, and the path under which it can be opened again; without a name where it can be.

    What has a name stays on the disk when the process is killed.
    """
    unnamed = tempfile.TemporaryFile(prefix="propsync-")  # noqa: SIM115
    path = Path(f"/proc/self/fd/{unnamed.fileno()}")
    if path.exists():
        return unnamed, str(path)
    unnamed.close()
    named = tempfile.NamedTemporaryFile(prefix="propsync-", suffix=".parquet")  # noqa: SIM115
    return named, named.name


@contextmanager
def _writing(name: str) -> Iterator[None]:
    """Blame the temporary folder, not the file, for what goes wrong while its copy is written."""
    try:
        yield
    except OSError as error:
        raise StateError(
            f"{name} is packed or comes through a pipe and needs a temporary copy, which can't be written: "
            f"{error.strerror or error}",
            hint="set TMPDIR to a folder that can be written and has room for the unpacked file",
        ) from error


def _opened(stream: pa.NativeFile, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    # Microseconds, because the year 9999 that many exports use for "never" overflows in nanoseconds.
    return pq.ParquetFile(
        stream, metadata=metadata, pre_buffer=False, buffer_size=BUFFER, coerce_int96_timestamp_unit="us"
    )
