"""Objects of other libraries that hand out tables piece by piece, told by what they can do.

No library is imported for it. What streams by itself is taken; for everything else a remedy names the call
that makes something of it that is taken.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final, NamedTuple

import pyarrow as pa

from etl.errors import SourceError
from etl.reader.faults import translated
from etl.reader.plain_arrays import plain_type

# The types that hold all their rows have a length; these have one, too, and compute it with the rows.
_LAZY: Final = ("duckdb",)
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


class ArrowStream(NamedTuple):
    """Record batches of one schema that come only once."""

    name: str
    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]


def stream_of(given: Any, batch_rows: int) -> ArrowStream | None:
    """The object as a stream; None if it is none, or has all its rows at hand. Raises SourceError."""
    if (opened := _reader(given, batch_rows)) is not None:
        with translated("the stream"):
            reader = opened()
        return ArrowStream("stream", reader.schema, reader)
    if hasattr(given, "collect_batches"):  # a LazyFrame of polars
        with translated("the LazyFrame"):
            schema = pa.table(given.head(0).collect()).schema
            frames = given.collect_batches(maintain_order=True, chunk_size=batch_rows)
        return ArrowStream("stream", schema, _batches(schema, frames))
    return _of_tables(given) if isinstance(given, Iterator) else None


def remedy(given: Any) -> str:
    """What to write in place of an object that is no source."""
    if isinstance(given, dict):
        return "make a table of it: pyarrow.table(data)"
    if isinstance(given, list) and all(isinstance(row, dict) for row in given):
        return "make a table of it: pyarrow.Table.from_pylist(rows)"
    module = _module(given)
    calls = (call for name, method, call in _REMEDIES if name in {"", module} and hasattr(given, method))
    call = next(calls, None)
    return _GENERAL if call is None else f"give {call}"


def is_frame(given: Any) -> bool:
    """Whether it is a DataFrame of pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(given, pandas.DataFrame)


def table_of_frame(frame: Any) -> pa.Table:
    """A DataFrame as a table, without its index; SourceError for columns of mixed types."""
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        reason = "; ".join(str(part) for part in error.args)
        hint = "give each of its columns one type, for example with astype(str)"
        raise SourceError(f"the DataFrame can't be a table: {reason}", hint=hint) from error


def as_table(given: Any, what: str) -> pa.Table:
    """An object with Arrow's stream interface as a table; SourceError where it streams no rows."""
    if isinstance(given, pa.Table):
        return given
    try:
        return pa.Table.from_batches([given]) if isinstance(given, pa.RecordBatch) else pa.table(given)
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise SourceError(f"{what} can't be a table: {reason}", hint=_GENERAL) from error


def _reader(given: Any, batch_rows: int) -> Callable[[], pa.RecordBatchReader] | None:
    """What opens a reader over the object, where that reads it piece by piece."""
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
    lazy = _module(given) in _LAZY
    if hasattr(given, "__arrow_c_stream__") and (lazy or not hasattr(given, "__len__")):
        return lambda: pa.RecordBatchReader.from_stream(given)
    return None


def _module(given: Any) -> str:
    """The library that an object's type is from; some have a compiled part with a dash before its name."""
    return type(given).__module__.partition(".")[0].lstrip("_")


def _of_tables(items: Iterator[Any]) -> ArrowStream:
    """A generator's tables, of which the first says what columns there are."""
    first = next(items, None)
    if first is None:
        hint = "give a table without rows, which has columns, where there may be nothing to send"
        raise SourceError("the stream has no batch, so its columns can't be known", hint=hint)
    table = _table(first, 1)
    return ArrowStream("stream", table.schema, _batches(table.schema, chain([first], items)))


def _batches(schema: pa.Schema, items: Iterable[Any]) -> Iterator[pa.RecordBatch]:
    for number, item in enumerate(items, start=1):
        table = _table(item, number)
        if not table.schema.equals(schema):
            table = _as_the_first(table, schema, number)
        yield from table.to_batches()


def _table(item: Any, number: int) -> pa.Table:
    if is_frame(item):
        return table_of_frame(item)
    if isinstance(item, pa.Table | pa.RecordBatch) or hasattr(item, "__arrow_c_stream__"):
        return as_table(item, f"batch {number} of the stream")
    kind = type(item).__name__
    hint = "let the generator yield record batches, tables or DataFrames"
    raise SourceError(f"batch {number} of the stream is a {kind}", hint=hint)


def _as_the_first(table: pa.Table, schema: pa.Schema, number: int) -> pa.Table:
    """A table with the first one's columns and types, where that changes no value."""
    hint = "let all batches have the same columns and types"
    if set(table.schema.names) != set(schema.names):
        other = sorted(set(table.schema.names) ^ set(schema.names))
        message = f"batch {number} of the stream differs from the first one in the columns {', '.join(other)}"
        raise SourceError(message, hint=hint)
    arrays = []
    for field in schema:
        column = table.column(field.name)
        try:
            arrays.append(column.cast(field.type) if _alike(column.type, field.type) else None)
        except (pa.ArrowException, ValueError):
            arrays.append(None)
        if arrays[-1] is None:
            message = (
                f"batch {number} of the stream has column {field.name} as {column.type}, "
                f"and the first one has it as {field.type}"
            )
            raise SourceError(message, hint=hint)
    return pa.Table.from_arrays(arrays, schema=schema)


def _alike(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether values of one type can be of the other without meaning something else, if they fit at all."""
    kinds = (
        pa.types.is_integer,
        pa.types.is_floating,
        lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    )
    one, other = plain_type(one), plain_type(other)
    return one == other or pa.types.is_null(one) or any(kind(one) and kind(other) for kind in kinds)
