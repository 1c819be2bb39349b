"""Arrow data from outside as batches of plain types; a row with text that is no UTF-8 becomes a reject."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import orjson
import pyarrow as pa

from ..arrow.plain_arrays import plain_array
from ..errors import SourceError
from ..model import Batch, Reject
from .file_reader import RowSpans, batch_of, excerpt, reject_rows

_BYTES: Final = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}


def table_batches(
    name: str, table: pa.Table, spans: RowSpans, columns: Sequence[str], batch_rows: int
) -> Iterator[Batch]:
    """Yield the wanted rows of a table, in batches of at most so many rows."""
    table = table.select(list(columns))
    for first, stop in spans:
        rows = table.slice(first - 1, None if stop is None else max(0, stop - first))
        yield from plain_batches(name, first, rows.to_batches(max_chunksize=batch_rows))


def plain_batches(name: str, first: int, batches: Iterable[pa.RecordBatch]) -> Iterator[Batch]:
    """Make consecutive batches plain; the first one begins with row `first` of the file called `name`.

    A row with bytes that are no text becomes a reject. SourceError for data that is damaged in another way,
    and for a column of a type that can't be read.
    """
    for given in batches:
        bad = _unreadable(name, first, given)
        columns = []
        for column, values in zip(given.schema.names, given.columns, strict=True):
            try:
                columns.append(plain_array(values))
            except (pa.ArrowException, ArithmeticError, LookupError, TypeError, ValueError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
                message = (
                    f"{name}: column {column} is of the type {values.type}, which can't be read: {reason}"
                )
                hint = "cast the column to a plain type such as string, or leave it out"
                raise SourceError(message, hint=hint) from error
        rows = pa.RecordBatch.from_arrays(columns, names=given.schema.names) if columns else given
        batch = batch_of(name, first, rows)
        yield reject_rows(batch, [_reject(name, first + at, rows.slice(at, 1)) for at in bad])
        first = batch.stop


def _unreadable(name: str, first: int, rows: pa.RecordBatch, start: int = 0) -> list[int]:
    """Positions of the rows with bad text, found by halving, so that good batches are validated once."""
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
    """A row with bad text; bad bytes are shown as digits, and text inside lists and structs as null."""
    values, bad = dict[str, Any](), ""
    for column_name, column in zip(one.schema.names, one.columns, strict=True):
        try:
            column.validate(full=True)
            values[column_name] = column[0].as_py()
        except pa.ArrowInvalid:
            text = column.view(_BYTES[column.type])[0].as_py() if column.type in _BYTES else None
            values[column_name] = None if text is None else text.decode(errors="backslashreplace")
            bad = bad or column_name
    reason = f"column {bad}: {excerpt(str(values.get(bad)))} is not UTF-8 text"
    written = orjson.dumps(values, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return Reject(name, row, "bad_encoding", reason, written)
