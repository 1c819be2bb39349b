"""Tables in memory: a source like any file, without being copied where Arrow can share it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from etl.errors import SourceError
from etl.model import Format
from etl.reader.arrow_streams import ArrowStream, as_table, is_frame, remedy, stream_of, table_of_frame
from etl.reader.faults import guarded, translated
from etl.reader.pieces import Piece
from etl.reader.readable import plain_schema, readable_pieces


class MemoryTable:
    """A table that can be read again: a pyarrow Table or RecordBatch, or a DataFrame."""

    format: Format = "arrow"
    text = False
    repeatable = True

    def __init__(self, name: str, table: pa.Table, batch_rows: int) -> None:
        self.name = name
        self._table = table
        self._batch_rows = batch_rows

    def schema(self) -> pa.Schema:
        """The table's columns as they will be read."""
        return plain_schema(self._table.schema)

    def total_rows(self) -> int | None:
        """How many rows the table has."""
        return int(self._table.num_rows)

    def sample(self) -> str:
        """A hex digest over the schema, the number of rows, and the first and the last row."""
        ends = [self._table.slice(0, 1), self._table.slice(max(0, self._table.num_rows - 1))]
        digest = hashlib.blake2b(f"{self._table.schema}{self._table.num_rows}".encode(), digest_size=16)
        for end in ends:
            digest.update(self._bytes(end))
        return digest.hexdigest()

    def _bytes(self, rows: pa.Table) -> bytes:
        """The values of a few rows as bytes that depend on nothing else."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.schema()) as writer:
            for piece in readable_pieces(self.name, 1, rows.combine_chunks().to_batches()):
                writer.write_batch(piece.rows)
        return bytes(sink.getvalue())

    def pieces(self, first: int, stop: int | None, columns: Sequence[str]) -> Iterator[Piece]:
        """The rows from `first` on."""
        length = None if stop is None else max(0, stop - first)
        rows = self._table.select(list(columns)).slice(first - 1, length)
        return readable_pieces(self.name, first, rows.to_batches(max_chunksize=self._batch_rows))


class MemoryStream:
    """Record batches that come only once: a RecordBatchReader, a generator, or another library's stream."""

    format: Format = "arrow"
    text = False
    repeatable = False

    def __init__(self, stream: ArrowStream, batch_rows: int) -> None:
        self.name = stream.name
        self._schema = stream.schema
        self._batches: Iterable[pa.RecordBatch] | None = stream.batches
        self._batch_rows = batch_rows

    def schema(self) -> pa.Schema:
        """The stream's columns as they will be read."""
        return plain_schema(self._schema)

    def total_rows(self) -> int | None:
        """None: only reading tells."""
        return None

    def sample(self) -> str:
        """A hex digest over the schema, which is all there is before the stream is read."""
        return hashlib.blake2b(str(self._schema).encode(), digest_size=16).hexdigest()

    def pieces(self, first: int, stop: int | None, columns: Sequence[str]) -> Iterator[Piece]:
        """All rows before `stop`, and only once."""
        batches, self._batches = self._batches, None
        if batches is None:
            raise SourceError(f"{self.name} was read already", hint="read it into a table first")
        cut = self._cut(guarded(batches, self.name))
        yield from readable_pieces(self.name, 1, (batch.select(list(columns)) for batch in cut))

    def _cut(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Batches of moderate size, as what is made of each takes memory."""
        for batch in batches:
            for start in range(0, batch.num_rows, self._batch_rows):
                yield batch.slice(start, self._batch_rows)


def from_memory(given: Any, batch_rows: int) -> MemoryTable | MemoryStream:
    """The object as a source; SourceError if it is no table and no stream of them."""
    if isinstance(given, type):
        raise SourceError(f"{given.__name__} is a class and no source", hint="give an object of it")
    if is_frame(given):
        return MemoryTable("dataframe", table_of_frame(given), batch_rows)
    stream = stream_of(given, batch_rows)
    if stream is not None:
        return MemoryStream(stream, batch_rows)
    if isinstance(given, pa.Table | pa.RecordBatch) or hasattr(given, "__arrow_c_stream__"):
        return MemoryTable("table", as_table(given, f"a {type(given).__name__}"), batch_rows)
    if hasattr(given, "__arrow_c_array__"):
        with translated("the table"):
            return MemoryTable("table", pa.table(pa.record_batch(given)), batch_rows)
    raise SourceError(f"a {type(given).__name__} is no source", hint=remedy(given))
