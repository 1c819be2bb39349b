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

from ..arrow.layout import plain_schema, plain_type
from ..errors import SourceError
from ..model import Batch
from .file_reader import FileReader, ReadOptions, RowSpans, TableReader
from .files import InputFile, first_line, guarded, source_errors

_AGAIN: Final = "make a new stream, or read it into a table first: reader.read_all()"
_GENERAL: Final = "give paths, addresses, DataFrames, Arrow tables, or streams or generators of these"
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

Stream = tuple[pa.Schema, Iterable[pa.RecordBatch]]


class _MemoryFile(InputFile):
    """Takes the place of a file for rows that are in memory."""

    def __init__(self, name: str, *, repeatable: bool = True) -> None:
        self.name, self.repeatable = name, repeatable

    def sniff(self) -> bytes:
        """Return nothing: there are no bytes."""
        return b""


class _MemoryReader(TableReader):
    """Reads a table that can be read again: a pyarrow Table or RecordBatch, or a DataFrame."""

    format = "arrow"

    def __init__(self, name: str, table: pa.Table, options: ReadOptions) -> None:
        super().__init__(_MemoryFile(name), options)
        self.table = table
        self.nbytes = int(table.nbytes)

    def sample(self) -> str:
        """Return a hex digest over the schema, the number of rows, and the first and the last row."""
        digest = hashlib.blake2b(f"{self.table.schema}{self.table.num_rows}".encode(), digest_size=16)
        for end in (self.table.slice(0, 1), self.table.slice(max(0, self.table.num_rows - 1))):
            for batch in self.plain_batches(1, end.combine_chunks().to_batches()):
                digest.update(batch.rows.serialize())
        return digest.hexdigest()

    def content(self) -> Iterator[bytes | memoryview]:
        """Yield bytes that depend on nothing but the rows' values, types and batches."""
        batches = self.batches(RowSpans([(1, None)]), self.table.schema.names)
        return (memoryview(batch.rows.serialize()) for batch in batches)


class StreamReader(FileReader):
    """Reads record batches that come only once: a RecordBatchReader, a generator, or the like."""

    format = "arrow"

    def __init__(self, stream: Stream, options: ReadOptions, given: object) -> None:
        """`given` is the object that the caller has, which may be the stream itself."""
        super().__init__(_MemoryFile("stream", repeatable=False), options)
        self._given = given
        self._schema = stream[0]
        self._stream: Iterable[pa.RecordBatch] | None = stream[1]

    def schema(self) -> pa.Schema:
        """Return the stream's columns as they will be read."""
        return plain_schema(self._schema)

    def sample(self) -> str:
        """Return a hex digest over the schema, which is all there is before the stream is read."""
        return hashlib.blake2b(str(self._schema).encode(), digest_size=16).hexdigest()

    def batches(self, spans: RowSpans, columns: Sequence[str], *, exact: bool = False) -> Iterator[Batch]:
        """Yield all rows, and only once."""
        stream, self._stream = self._stream, None
        if stream is None:
            raise SourceError(f"{self.name} was read already", hint=_AGAIN)
        with suppress(TypeError):  # Python can't watch every object
            if isinstance(self._given, pa.RecordBatchReader | Iterator):
                _spent[id(self._given)] = self._given
        yield from self.plain_batches(1, self._small(stream, list(columns)))

    def _small(self, stream: Iterable[pa.RecordBatch], columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Batches of moderate size, as what is made of each takes memory."""
        rows = 0
        for batch in guarded(stream, self.name):
            with suppress(TypeError):
                if batch.num_rows and not rows:
                    _had_rows[id(self._given)] = self._given
            rows += batch.num_rows
            for start in range(0, batch.num_rows, self.options.batch_rows):
                yield batch.slice(start, self.options.batch_rows).select(columns)
        if not rows and _had_rows.get(id(self._given)) is self._given:
            raise SourceError(f"{self.name} has no rows any more: it was read already", hint=_AGAIN)


def reader_of_object(given: Any, options: ReadOptions) -> _MemoryReader | StreamReader:
    """Make a reader for an object; SourceError if it is neither a table nor a stream of them."""
    kind = type(given).__name__
    if isinstance(given, type):
        raise SourceError(f"{given.__name__} is a class and no source", hint="give an object of it")
    if _is_frame(given):
        return _MemoryReader("dataframe", _table(given, kind), options)
    if _spent.get(id(given)) is given:
        raise SourceError("the stream was read already: it comes only once", hint=_AGAIN)
    # Some libraries have a compiled part with a dash before its name.
    library = type(given).__module__.partition(".")[0].lstrip("_")
    stream = _stream_of(given, library, options.batch_rows)
    if stream is not None:
        return StreamReader(stream, options, given)
    if _speaks_arrow(given):
        return _MemoryReader("table", _table(given, f"a {kind}"), options)
    fitting = (one for one in _REMEDIES if one[0] in {"", library} and hasattr(given, one[1]))
    hint = next((f"give {call}" for _, _, call in fitting), _GENERAL)
    if isinstance(given, dict):
        hint = "make a table of it: pyarrow.table(data)"
    elif isinstance(given, list) and all(isinstance(row, dict) for row in given):
        hint = "make a table of it: pyarrow.Table.from_pylist(rows)"
    raise SourceError(f"a {kind} is not a source", hint=hint)


def _stream_of(given: Any, library: str, batch_rows: int) -> Stream | None:
    """The object as a stream with its schema; None if it is none, or has all its rows in memory."""
    datasets = sys.modules.get("pyarrow.dataset")
    reader = None
    with source_errors("the stream"):
        if isinstance(given, pa.RecordBatchReader):
            reader = given
        elif datasets is not None and isinstance(given, datasets.Dataset | datasets.Scanner):
            if isinstance(given, datasets.Dataset):  # as much ahead as is held at once
                given = given.scanner(batch_size=batch_rows, batch_readahead=1, fragment_readahead=1)
            reader = given.to_reader()
        elif hasattr(given, "to_arrow_batch_reader"):  # a scan of pyiceberg
            reader = given.to_arrow_batch_reader()
        # What holds all its rows has a length; a relation of DuckDB has one, too, and computes it with them.
        elif hasattr(given, "__arrow_c_stream__") and (library == "duckdb" or not hasattr(given, "__len__")):
            reader = pa.RecordBatchReader.from_stream(given)
    if reader is not None:
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
    schema = _table(first, "batch 1 of the stream").schema
    return schema, _batches(schema, chain([first], given))


def _batches(schema: pa.Schema, items: Iterable[Any]) -> Iterator[pa.RecordBatch]:
    """The items' batches with these columns and types; SourceError if that would change a value."""
    hint = "let all batches have the same columns and types"
    for number, item in enumerate(items, start=1):
        what = f"batch {number} of the stream"
        table = _table(item, what)
        if table.schema.equals(schema):
            yield from table.to_batches()
            continue
        if other := sorted(set(table.schema.names) ^ set(schema.names)):
            columns = ", ".join(other)
            raise SourceError(f"{what} differs from the first one in the columns {columns}", hint=hint)
        arrays = []
        for field in schema:
            column = table.column(field.name)
            here, there = plain_type(column.type), plain_type(field.type)
            alike = any(same(here) and same(there) for same in _SAME)
            with suppress(pa.ArrowException, ValueError):
                if alike or here == there or pa.types.is_null(here):
                    arrays.append(column.cast(field.type))
                    continue
            types = f"as {column.type}, and the first one has it as {field.type}"
            raise SourceError(f"{what} has column {field.name} {types}", hint=hint)
        yield from pa.Table.from_arrays(arrays, schema=schema).to_batches()


def _table(item: Any, what: str) -> pa.Table:
    """A DataFrame or an object with Arrow's interfaces as a table; SourceError if it can't be one."""
    frame = _is_frame(item)
    try:
        if frame:
            return pa.Table.from_pandas(item, preserve_index=False)
        if isinstance(item, pa.Table):
            return item
        if _speaks_arrow(item):
            return pa.table(item)
    except (pa.ArrowException, ValueError, TypeError) as error:
        if frame:
            reason = "; ".join(str(part) for part in error.args)
            hint = "give each of its columns one type, for example with astype(str)"
            raise SourceError(f"the DataFrame can't be a table: {reason}", hint=hint) from error
        raise SourceError(f"{what} can't be a table: {first_line(error)}", hint=_GENERAL) from error
    hint = "let the generator yield record batches, tables or DataFrames"
    raise SourceError(f"{what} is a {type(item).__name__}", hint=hint)


def _is_frame(given: Any) -> bool:
    """Whether it is a DataFrame of pandas."""
    frames = getattr(sys.modules.get("pandas"), "DataFrame", None)  # another thread may be importing it
    return frames is not None and isinstance(given, frames)


def _speaks_arrow(given: Any) -> bool:
    return hasattr(given, "__arrow_c_stream__") or hasattr(given, "__arrow_c_array__")
