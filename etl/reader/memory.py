"""Tables in memory: a source like any file, without being copied where Arrow can share it."""

from __future__ import annotations

import hashlib
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import pyarrow as pa

from etl.errors import SourceError
from etl.model import Format
from etl.reader.faults import guarded, translated
from etl.reader.pieces import Piece
from etl.reader.readable import plain_schema, readable_pieces

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
        """The table's columns, those of dictionaries as their values."""
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

    def pieces(self, first: int, stop: int | None, columns: Sequence[str]) -> Iterator[Piece]:
        """The rows from `first` on."""
        length = None if stop is None else max(0, stop - first)
        rows = self._table.select(list(columns)).slice(first - 1, length)
        return readable_pieces(self.name, first, rows.to_batches(max_chunksize=self._batch_rows))


class MemoryStream:
    """Record batches that come only once: a RecordBatchReader, or another library's stream."""

    format: Format = "arrow"
    text = False
    repeatable = False

    def __init__(self, name: str, reader: pa.RecordBatchReader, given: object) -> None:
        """`given` is the object that the caller has, which may be `reader` itself."""
        if given in _spent:
            raise SourceError("the stream was read already: it comes only once", hint=_ONCE)
        self.name = name
        self._given = given
        self._schema = reader.schema
        self._reader: pa.RecordBatchReader | None = reader

    def schema(self) -> pa.Schema:
        """The stream's columns, those of dictionaries as their values."""
        return plain_schema(self._schema)

    def total_rows(self) -> int | None:
        """None: only reading tells."""
        return None

    def sample(self) -> str:
        """A hex digest over the schema, which is all there is before the stream is read."""
        return hashlib.blake2b(str(self._schema).encode(), digest_size=16).hexdigest()

    def pieces(self, first: int, stop: int | None, columns: Sequence[str]) -> Iterator[Piece]:
        """All rows before `stop`, and only once."""
        reader, self._reader = self._reader, None
        if reader is None:
            raise SourceError(f"{self.name} was read already", hint=_ONCE)
        if isinstance(self._given, pa.RecordBatchReader):
            _spent.add(self._given)
        batches = (batch.select(list(columns)) for batch in guarded(reader, self.name))
        yield from readable_pieces(self.name, 1, self._watched(batches))

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
    """The object as a source; SourceError if it is no table."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(given, pandas.DataFrame):
        with _convertible("the DataFrame"):
            return MemoryTable("dataframe", pa.Table.from_pandas(given, preserve_index=False), batch_rows)
    if isinstance(given, pa.RecordBatchReader):
        return MemoryStream("stream", given, given)
    if isinstance(given, pa.Table | pa.RecordBatch) or (
        hasattr(given, "__arrow_c_stream__") and hasattr(given, "__len__")
    ):
        with translated("the table"):
            return MemoryTable("table", pa.table(given), batch_rows)
    if hasattr(given, "__arrow_c_stream__"):
        with translated("the stream"):
            return MemoryStream("stream", pa.RecordBatchReader.from_stream(given), given)
    kind = type(given).__name__
    raise SourceError(f"a {kind} is no source", hint="give paths, addresses, DataFrames or Arrow tables")


@contextmanager
def _convertible(what: str) -> Iterator[None]:
    """A DataFrame may have columns of mixed types and of objects; a table can't."""
    try:
        yield
    except (pa.ArrowException, ValueError, TypeError) as error:
        reason = "; ".join(str(part) for part in error.args)
        hint = "give each of its columns one type, for example with astype(str)"
        raise SourceError(f"{what} can't be a table: {reason}", hint=hint) from error
