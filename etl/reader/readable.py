"""Arrow data from outside is safe to work on: its text is text, its indices are in range.

Dictionaries, run-end encodings and views come out as their values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import pyarrow as pa

from etl.errors import SourceError
from etl.model import Reject
from etl.reader.pieces import Piece, shown, sound, without
from etl.reader.plain_arrays import plain_array, plain_type


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with every column as `plain_array` makes it, without metadata."""
    return pa.schema([(field.name, plain_type(field.type)) for field in schema])


def readable_pieces(name: str, first: int, batches: Iterable[pa.RecordBatch]) -> Iterator[Piece]:
    """Consecutive batches as pieces, the first of them beginning with row `first` of the file called `name`.

    A row with bytes that are no text becomes a reject. SourceError for data that is broken in another way,
    and for a column of a type that can't be read.
    """
    for batch in batches:
        bad = _unreadable(name, first, batch)
        rows = _plain(name, batch)
        piece = sound(first, rows)
        yield without(piece, [_reject(name, first + at, rows.slice(at, 1)) for at in bad])
        first = piece.stop


def _plain(name: str, rows: pa.RecordBatch) -> pa.RecordBatch:
    columns = [_plain_column(name, *pair) for pair in zip(rows.schema.names, rows.columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=rows.schema.names) if columns else rows


def _plain_column(name: str, column: str, values: pa.Array) -> pa.Array:
    try:
        return plain_array(values)
    except (pa.ArrowException, ArithmeticError, LookupError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "cast the column to a plain type such as string, or leave it out"
        message = f"{name}: column {column} is of the type {values.type}, which can't be read: {reason[:200]}"
        raise SourceError(message, hint=hint) from error


def _unreadable(name: str, first: int, rows: pa.RecordBatch, start: int = 0) -> list[int]:
    """Positions of the rows with bad text, found by halving, so that good batches cost one look."""
    try:
        rows.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error).upper().replace("-", ""):
            place = f"rows {first} to {first + rows.num_rows - 1}"
            raise SourceError(f"{name}: {place} are damaged", hint="copy or export it again") from error
        if rows.num_rows == 1:
            return [start]
        half = rows.num_rows // 2
        low = _unreadable(name, first, rows.slice(0, half), start)
        return low + _unreadable(name, first + half, rows.slice(half), start + half)
    return []


def _reject(name: str, row: int, one: pa.RecordBatch) -> Reject:
    values, bad = dict[str, Any](), ""
    for column_name, column in zip(one.schema.names, one.columns, strict=True):
        try:
            column.validate(full=True)
            values[column_name] = column[0].as_py()
        except pa.ArrowInvalid:
            values[column_name] = _escaped(column)
            bad = bad or column_name
    reason = f"column {bad}: {shown(str(values.get(bad)))} is not UTF-8 text"
    text = orjson.dumps(values, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return Reject(name, row, "bad_encoding", reason, text)


def _escaped(column: pa.Array) -> str | None:
    """Bad text with its bad bytes as digits; None for text inside lists and structs, which can't be shown."""
    kinds = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
    if column.type not in kinds:
        return None
    value: bytes = column.view(kinds[column.type])[0].as_py()
    return value.decode(errors="backslashreplace")
