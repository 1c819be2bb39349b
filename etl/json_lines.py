"""Record batches as JSON lines, whatever way their columns were cut."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeAlias

import pyarrow as pa
from arro3.io import write_ndjson

# Changes the text of JSON lines, but not where they end: what Arrow has no type for is put in, say.
Splice: TypeAlias = Callable[[bytes], bytes]


def json_lines(rows: pa.RecordBatch, *, explicit_nulls: bool = False, splice: Splice | None = None) -> bytes:
    """A JSON object and a newline for each row; nulls are left out unless `explicit_nulls`."""
    stream = io.BytesIO()
    if rows.num_rows:
        write_ndjson(_straightened(rows), stream, explicit_nulls=explicit_nulls)
    return splice(stream.getvalue()) if splice else stream.getvalue()


def json_texts(values: pa.Array) -> pa.Array:
    """Each value as JSON text, shape (n,); null stays null. Costs a Python object a row."""
    lines = json_lines(pa.record_batch([values], names=["v"]))
    # A line is {"v":...}, or {} for a null.
    texts = [line[5:-1] or None for line in lines.split(b"\n")[:-1]]
    return pa.array(texts, pa.binary()).cast(pa.string())


def _straightened(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows without structs that begin in the middle of their buffers.

    arro3 (seen in 0.9) takes the offset of a struct within a struct twice, and reads past its end.
    """
    if not any(_is_tilted(column) for column in rows.columns):
        return rows
    return pa.RecordBatch.from_arrays(list(map(_straight, rows.columns)), names=rows.schema.names)


def _is_tilted(column: pa.Array) -> bool:
    if not pa.types.is_struct(column.type):
        return False
    fields = [column.field(number) for number in range(column.type.num_fields)]
    structs = [field for field in fields if pa.types.is_struct(field.type)]
    return any(column.offset or field.offset or _is_tilted(field) for field in structs)


def _straight(column: pa.Array) -> pa.Array:
    """The same values; structs are put together anew of what they hold, which isn't copied."""
    if not pa.types.is_struct(column.type) or not column.type.num_fields:
        return column
    fields = [_straight(column.field(number)) for number in range(column.type.num_fields)]
    nulls = column.is_null() if column.null_count else None
    return pa.StructArray.from_arrays(fields, fields=list(column.type), mask=nulls)
