"""Arrow data from outside is safe to work on: its text is text, its indices are in range.

A dictionary is a way to store values and not a type of them, so dictionary columns come out as their values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import pyarrow as pa

from etl.errors import SourceError
from etl.model import Reject
from etl.reader.pieces import Piece, shown, sound, without


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with dictionary columns as columns of their values, without metadata."""
    return pa.schema([(field.name, _value_type(field.type)) for field in schema])


def readable_pieces(name: str, first: int, batches: Iterable[pa.RecordBatch]) -> Iterator[Piece]:
    """Consecutive batches as pieces, the first of them beginning with row `first` of the file called `name`.

    A row with bytes that are no text becomes a reject; data that is broken in another way is a SourceError.
    """
    for batch in batches:
        piece = sound(first, batch)
        rejects = [_reject(name, first + at, batch.slice(at, 1)) for at in _unreadable(name, first, batch)]
        good = without(piece, rejects)
        yield Piece(good.first, good.stop, good.numbers, _plain(good.rows), good.rejects)
        first = piece.stop


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if isinstance(kind, pa.DictionaryType) else kind


def _plain(rows: pa.RecordBatch) -> pa.RecordBatch:
    columns = [
        column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column for column in rows
    ]
    if not columns:
        return rows
    return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)


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
    plain = column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
    if plain.type not in kinds:
        return None
    value: bytes = plain.view(kinds[plain.type])[0].as_py()
    return value.decode(errors="backslashreplace")
