"""Tables in memory: a source like any file, without being copied where Arrow can share it."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import pyarrow as pa

from etl.errors import SourceError
from etl.model import Format
from etl.reader.arrow_streams import ArrowStream, as_table, is_frame, remedy, stream_of, table_of_frame
from etl.reader.faults import guarded, translated
from etl.reader.pieces import Piece
from etl.reader.readable import plain_schema, readable_pieces
from etl.reader.spans import Spans

_ONCE: Final = "make a new stream, or read it into a table first: reader.read_all()"


class _Objects:
    """Remembers objects while they are there, whatever they say of being equal."""

    def __init__(self) -> None:
        self._found: dict[int, weakref.ref[object]] = {}

    def add(self, given: object) -> None:
        """Remember one, if Python lets it be watched."""
        number = id(given)

        def forget(_: object) -> None:
            self._found.pop(number, None)

        with suppress(TypeError):
            self._found[number] = weakref.ref(given, forget)

    def __contains__(self, given: object) -> bool:
        return (found := self._found.get(id(given))) is not None and found() is given


# Of what callers gave us: what is spent, and what had rows. A spent stream looks like an empty one.
_spent: Final = _Objects()
_had_rows: Final = _Objects()


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

    @property
    def nbytes(self) -> int:
        """The size of its values in memory."""
        return int(self._table.nbytes)

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

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows that can be read."""
        return (piece.rows for piece in self.pieces(1, None, self._table.schema.names))

    def pieces(
        self, first: int, stop: int | None, columns: Sequence[str], *, spans: Spans | None = None
    ) -> Iterator[Piece]:
        """The wanted rows."""
        table = self._table.select(list(columns))
        for one, other in spans or [(first, stop)]:
            rows = table.slice(one - 1, None if other is None else max(0, other - one))
            yield from readable_pieces(self.name, one, rows.to_batches(max_chunksize=self._batch_rows))


class MemoryStream:
    """Record batches that come only once: a RecordBatchReader, a generator, or another library's stream."""

    format: Format = "arrow"
    text = False
    repeatable = False

    def __init__(self, stream: ArrowStream, batch_rows: int, given: object) -> None:
        """`given` is the object that the caller has, which may be the reader itself."""
        if given in _spent:
            raise SourceError("the stream was read already: it comes only once", hint=_ONCE)
        self.name = stream.name
        self._given = given
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

    def pieces(
        self, first: int, stop: int | None, columns: Sequence[str], *, spans: Spans | None = None
    ) -> Iterator[Piece]:
        """All rows, and only once."""
        batches, self._batches = self._batches, None
        if batches is None:
            raise SourceError(f"{self.name} was read already", hint=_ONCE)
        if isinstance(self._given, pa.RecordBatchReader | Iterator):
            _spent.add(self._given)
        cut = self._cut(guarded(batches, self.name))
        chosen = (batch.select(list(columns)) for batch in cut)
        yield from readable_pieces(self.name, 1, self._watched(chosen))

    def _cut(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Batches of moderate size, as what is made of each takes memory."""
        for batch in batches:
            for start in range(0, batch.num_rows, self._batch_rows):
                yield batch.slice(start, self._batch_rows)

    def _watched(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in batches:
            rows += batch.num_rows
            if rows:
                _had_rows.add(self._given)
            yield batch
        if not rows and self._given in _had_rows:
            raise SourceError(f"{self.name} has no rows any more: it was read already", hint=_ONCE)


def from_memory(given: Any, batch_rows: int) -> MemoryTable | MemoryStream:
    """The object as a source; SourceError if it is no table and no stream of them."""
    if isinstance(given, type):
        raise SourceError(f"{given.__name__} is a class and no source", hint="give an object of it")
    if is_frame(given):
        return MemoryTable("dataframe", table_of_frame(given), batch_rows)
    if given in _spent:
        raise SourceError("the stream was read already: it comes only once", hint=_ONCE)
    stream = stream_of(given, batch_rows)
    if stream is not None:
        return MemoryStream(stream, batch_rows, given)
    if isinstance(given, pa.Table | pa.RecordBatch) or hasattr(given, "__arrow_c_stream__"):
        return MemoryTable("table", as_table(given, f"a {type(given).__name__}"), batch_rows)
    if hasattr(given, "__arrow_c_array__"):
        with translated("the table"):
            return MemoryTable("table", pa.table(pa.record_batch(given)), batch_rows)
    raise SourceError(f"a {type(given).__name__} is no source", hint=remedy(given))
