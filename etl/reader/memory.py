"""Objects in memory as sources: tables, DataFrames and streams; nothing is copied if Arrow can share it.

Objects of other libraries are recognized by their methods, so no library is imported for it. What streams by
itself is taken; for everything else an error names the call that makes something of it that is taken.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Final
from weakref import WeakValueDictionary

import pyarrow as pa

from ..errors import SourceError
from ..model import Batch
from .arrow_values import plain_batches, plain_schema, plain_type
from .file_reader import FileReader, RowSpans
from .files import guarded, source_errors

_AGAIN: Final = "make a new stream, or read it into a table first: reader.read_all()"
_GENERAL: Final = "give paths, addresses, DataFrames, Arrow tables, or streams or generators of these"
# The types that hold all their rows have a length; these have one, too, and compute it with the rows.
_LAZY: Final = ("duckdb",)
# The module's first word, a method of the object, and what to write in its place; the first that fits.
_REMEDIES: Final = (
    ("polars", "collect", "frame.collect()"),
    ("deltalake", "to_pyarrow_dataset", "table.to_pyarrow_dataset()"),
    ("pyiceberg", "scan", "table.scan()"),
    ("pyspark", "toArrow", "frame.toArrow()"),
    ("pyspark", "toPandas", "frame.toPandas()"),
    ("duckdb", "sql", "the relation that connection.sql(...) returns"),
    ("datasets", "with_format", 'dataset.with_format("arrow").iter(10_000)'),
    ("dask", "compute", "frame.compute()"),
    ("", "to_arrow", "the result of its to_arrow()"),
    ("", "to_pandas", "the result of its to_pandas()"),
)
# Types within one of these groups have values that don't change their meaning, if they fit at all.
_SAME: Final[tuple[Callable[[pa.DataType], bool], ...]] = (
    pa.types.is_integer,
    pa.types.is_floating,
    lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
)

# Objects of callers, by id: the spent ones, and those that had rows. A spent stream looks like an empty one.
_spent: Final[WeakValueDictionary[int, Any]] = WeakValueDictionary()
_had_rows: Final[WeakValueDictionary[int, Any]] = WeakValueDictionary()


def _remember(given: object, objects: WeakValueDictionary[int, Any]) -> None:
    with suppress(TypeError):  # Python can't watch every object
        objects[id(given)] = given


class TableReader(FileReader):
    """Reads a table that can be read again: a pyarrow Table or RecordBatch, or a DataFrame."""

    format = "arrow"
    repeatable = True

    def __init__(self, name: str, table: pa.Table, batch_rows: int) -> None:
        self.name = name
        self._table = table
        self._batch_rows = batch_rows

    def schema(self) -> pa.Schema:
        """Return the table's columns as they will be read."""
        return plain_schema(self._table.schema)

    def total_rows(self) -> int | None:
        """Return the number of rows."""
        return int(self._table.num_rows)

    @property
    def nbytes(self) -> int:
        """The size of its values in memory."""
        return int(self._table.nbytes)

    def sample(self) -> str:
        """Return a hex digest over the schema, the number of rows, and the first and the last row."""
        digest = hashlib.blake2b(f"{self._table.schema}{self._table.num_rows}".encode(), digest_size=16)
        for end in (self._table.slice(0, 1), self._table.slice(max(0, self._table.num_rows - 1))):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, self.schema()) as writer:
                for batch in plain_batches(self.name, 1, end.combine_chunks().to_batches()):
                    writer.write_batch(batch.rows)
            digest.update(sink.getvalue())
        return digest.hexdigest()

    def blocks(self) -> Iterator[memoryview]:
        """Yield bytes that depend on nothing but the rows' values, types and batches."""
        batches = self.batches(RowSpans([(1, None)]), self._table.schema.names)
        return (memoryview(batch.rows.serialize()) for batch in batches)

    def batches(self, spans: RowSpans, columns: Sequence[str]) -> Iterator[Batch]:
        """Yield the wanted rows."""
        table = self._table.select(list(columns))
        for first, stop in spans:
            rows = table.slice(first - 1, None if stop is None else max(0, stop - first))
            yield from plain_batches(self.name, first, rows.to_batches(max_chunksize=self._batch_rows))


class StreamReader(FileReader):
    """Reads record batches that come only once: a RecordBatchReader, a generator, or the like."""

    format = "arrow"
    repeatable = False

    def __init__(
        self, schema: pa.Schema, stream: Iterable[pa.RecordBatch], batch_rows: int, given: object
    ) -> None:
        """`given` is the object that the caller has, which may be the stream itself."""
        self.name = "stream"
        self._given = given
        self._schema = schema
        self._stream: Iterable[pa.RecordBatch] | None = stream
        self._batch_rows = batch_rows

    def schema(self) -> pa.Schema:
        """Return the stream's columns as they will be read."""
        return plain_schema(self._schema)

    def sample(self) -> str:
        """Return a hex digest over the schema, which is all there is before the stream is read."""
        return hashlib.blake2b(str(self._schema).encode(), digest_size=16).hexdigest()

    def batches(self, spans: RowSpans, columns: Sequence[str]) -> Iterator[Batch]:
        """Yield all rows, and only once."""
        stream, self._stream = self._stream, None
        if stream is None:
            raise SourceError(f"{self.name} was read already", hint=_AGAIN)
        if isinstance(self._given, pa.RecordBatchReader | Iterator):
            _remember(self._given, _spent)
        yield from plain_batches(self.name, 1, self._small(stream, list(columns)))

    def _small(self, stream: Iterable[pa.RecordBatch], columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Batches of moderate size, as what is made of each takes memory."""
        any_rows = False
        for batch in guarded(stream, self.name):
            for start in range(0, batch.num_rows, self._batch_rows):
                if not any_rows:
                    _remember(self._given, _had_rows)
                any_rows = True
                yield batch.slice(start, self._batch_rows).select(columns)
        if not any_rows and _had_rows.get(id(self._given)) is self._given:
            raise SourceError(f"{self.name} has no rows any more: it was read already", hint=_AGAIN)


def reader_of_object(given: Any, batch_rows: int) -> TableReader | StreamReader:
    """Make a reader for an object; SourceError if it is no table and no stream of them."""
    if isinstance(given, type):
        raise SourceError(f"{given.__name__} is a class and no source", hint="give an object of it")
    if _is_frame(given):
        return TableReader("dataframe", _table_of_frame(given), batch_rows)
    if _spent.get(id(given)) is given:
        raise SourceError("the stream was read already: it comes only once", hint=_AGAIN)
    stream = _stream_of(given, batch_rows)
    if stream is not None:
        return StreamReader(*stream, batch_rows, given)
    if isinstance(given, pa.Table | pa.RecordBatch) or hasattr(given, "__arrow_c_stream__"):
        return TableReader("table", _as_table(given, f"a {type(given).__name__}"), batch_rows)
    if hasattr(given, "__arrow_c_array__"):
        with source_errors("the table"):
            return TableReader("table", pa.table(pa.record_batch(given)), batch_rows)
    raise SourceError(f"a {type(given).__name__} is not a source", hint=_remedy(given))


def _remedy(given: Any) -> str:
    """What to write in place of an object that is not a source."""
    if isinstance(given, dict):
        return "make a table of it: pyarrow.table(data)"
    if isinstance(given, list) and all(isinstance(row, dict) for row in given):
        return "make a table of it: pyarrow.Table.from_pylist(rows)"
    module = _library(given)
    calls = (call for name, method, call in _REMEDIES if name in {"", module} and hasattr(given, method))
    call = next(calls, None)
    return _GENERAL if call is None else f"give {call}"


def _stream_of(given: Any, batch_rows: int) -> tuple[pa.Schema, Iterable[pa.RecordBatch]] | None:
    """The object as a stream with its schema; None if it is none, or has all its rows in memory."""
    if (open_reader := _reader_opener(given, batch_rows)) is not None:
        with source_errors("the stream"):
            reader = open_reader()
        return reader.schema, reader
    if hasattr(given, "collect_batches"):  # a LazyFrame of polars
        with source_errors("the LazyFrame"):
            schema = pa.table(given.head(0).collect()).schema
            frames = given.collect_batches(maintain_order=True, chunk_size=batch_rows)
        return schema, _batches(schema, frames)
    if not isinstance(given, Iterator):
        return None
    first = next(given, None)
    if first is None:
        hint = "give a table without rows, which has columns, if there may be nothing to send"
        raise SourceError("the stream has no batch, so its columns can't be known", hint=hint)
    schema = _table(first, 1).schema
    return schema, _batches(schema, chain([first], given))


def _reader_opener(given: Any, batch_rows: int) -> Callable[[], pa.RecordBatchReader] | None:
    """What opens a reader over the object, if that reads it batch by batch."""
    if isinstance(given, pa.RecordBatchReader):
        return lambda: given
    datasets = sys.modules.get("pyarrow.dataset")
    if datasets is not None and isinstance(given, datasets.Dataset):
        ahead = {"batch_readahead": 1, "fragment_readahead": 1}  # as much as is held at once
        return lambda: given.scanner(batch_size=batch_rows, **ahead).to_reader()
    if datasets is not None and isinstance(given, datasets.Scanner):
        return lambda: given.to_reader()
    if hasattr(given, "to_arrow_batch_reader"):  # a scan of pyiceberg
        return lambda: given.to_arrow_batch_reader()
    lazy = _library(given) in _LAZY
    if hasattr(given, "__arrow_c_stream__") and (lazy or not hasattr(given, "__len__")):
        return lambda: pa.RecordBatchReader.from_stream(given)
    return None


def _library(given: Any) -> str:
    """The library that an object's type is from; some have a compiled part with a dash before its name."""
    return type(given).__module__.partition(".")[0].lstrip("_")


def _batches(schema: pa.Schema, items: Iterable[Any]) -> Iterator[pa.RecordBatch]:
    for number, item in enumerate(items, start=1):
        table = _table(item, number)
        if not table.schema.equals(schema):
            table = _with_schema(table, schema, number)
        yield from table.to_batches()


def _table(item: Any, number: int) -> pa.Table:
    if _is_frame(item):
        return _table_of_frame(item)
    if isinstance(item, pa.Table | pa.RecordBatch) or hasattr(item, "__arrow_c_stream__"):
        return _as_table(item, f"batch {number} of the stream")
    kind = type(item).__name__
    hint = "let the generator yield record batches, tables or DataFrames"
    raise SourceError(f"batch {number} of the stream is a {kind}", hint=hint)


def _is_frame(given: Any) -> bool:
    """Whether it is a DataFrame of pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(given, pandas.DataFrame)


def _table_of_frame(frame: Any) -> pa.Table:
    """A DataFrame as a table, without its index; SourceError for columns of mixed types."""
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        reason = "; ".join(str(part) for part in error.args)
        hint = "give each of its columns one type, for example with astype(str)"
        raise SourceError(f"the DataFrame can't be a table: {reason}", hint=hint) from error


def _as_table(given: Any, what: str) -> pa.Table:
    """An object with Arrow's stream interface as a table; SourceError if it streams no rows."""
    if isinstance(given, pa.Table):
        return given
    try:
        return pa.Table.from_batches([given]) if isinstance(given, pa.RecordBatch) else pa.table(given)
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise SourceError(f"{what} can't be a table: {reason}", hint=_GENERAL) from error


def _with_schema(table: pa.Table, schema: pa.Schema, number: int) -> pa.Table:
    """A table with the first one's columns and types, if that changes no value."""
    hint = "let all batches have the same columns and types"
    if set(table.schema.names) != set(schema.names):
        other = sorted(set(table.schema.names) ^ set(schema.names))
        message = f"batch {number} of the stream differs from the first one in the columns {', '.join(other)}"
        raise SourceError(message, hint=hint)
    arrays = []
    for field in schema:
        column = table.column(field.name)
        array = None
        with suppress(pa.ArrowException, ValueError):
            one, other = plain_type(column.type), plain_type(field.type)
            if one == other or pa.types.is_null(one) or any(same(one) and same(other) for same in _SAME):
                array = column.cast(field.type)
        if array is None:
            message = (
                f"batch {number} of the stream has column {field.name} as {column.type}, "
                f"and the first one has it as {field.type}"
            )
            raise SourceError(message, hint=hint)
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=schema)
