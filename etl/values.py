"""The original values of rows that were turned away, as JSON that can be mended and run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from etl.arrow.originals import CSV_ORIGIN, JSON_ORIGIN, arrow_origins, picked
from etl.file_names import format_named
from etl.json_lines import json_lines

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from etl.model import Batch


# The one column of `shown_rows` where a source has its rows as JSON; no column of a job has this name.
_ORIGINAL: Final = "\x00original"
_TEXTUAL: Final = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)


def shown_rows(batch: Batch) -> pa.RecordBatch:
    """What `original_values` is to be given for the rows of a batch."""
    if batch.originals is None:
        return batch.rows
    return pa.RecordBatch.from_arrays([batch.originals], names=[_ORIGINAL])


class Original(NamedTuple):
    """A row as it stood in the source: `values` and `origin` of its reject."""

    values: str
    origin: str


def originals(
    rows: pa.RecordBatch,
    positions: NDArray[np.int64] | Sequence[int],
    *,
    source: str,
    text: bool = False,
    keep_empty: Collection[str] = (),
) -> list[Original]:
    """As `original_values`, with what JSON and the name of the `source` don't say of these rows."""
    if len(positions) == 0:
        return []
    if rows.schema.names == [_ORIGINAL]:
        found = [_split(text) for text in picked(rows.column(0), positions).to_pylist()]
    else:
        values = original_values(rows, positions, text=text, keep_empty=keep_empty)
        origins = [CSV_ORIGIN] * len(values) if text else arrow_origins(pick_rows(rows, positions))
        found = list(map(Original, values, origins))
    told = told_origin(source)
    return [one._replace(origin="") if one.origin == told else one for one in found]


def told_origin(source: str) -> str:
    """What the name of a source says of how its values are read."""
    return CSV_ORIGIN if format_named(source) == "csv" else JSON_ORIGIN


def with_origin(values: bytes, origin: str) -> bytes:
    """A row of a reject file as one of a batch's `originals`."""
    return b"%b\n%b" % (values, origin.encode())


def _split(original: bytes) -> Original:
    """The inverse of `with_origin`; JSON on a line of its own has no line end in it."""
    values, _, origin = plain_text(original).strip().partition("\n")
    return Original(values.rstrip(), origin or JSON_ORIGIN)


def original_values(
    rows: pa.RecordBatch,
    positions: NDArray[np.int64] | Sequence[int],
    *,
    text: bool = False,
    keep_empty: Collection[str] = (),
) -> list[str]:
    """JSON text of an object for each of the rows at `positions`, every column in it.

    `text`: the rows come from untyped text, where an empty field means nothing, so it is shown as null, but
    in the columns named by `keep_empty`. Never fails, whatever the types: what JSON can't hold is shown as
    text. A row's text doesn't depend on the others.
    """
    if len(positions) == 0:
        return []
    if rows.schema.names == [_ORIGINAL]:
        return [_split(text).values for text in picked(rows.column(0), positions).to_pylist()]
    names = rows.schema.names
    found = [picked(column, positions) for column in rows.columns]
    if len(positions) > 1 and any(map(_has_infinity, found)):  # which make text of a whole column
        return [original_values(rows, [at], text=text, keep_empty=keep_empty)[0] for at in positions]
    columns = [_presentable(column) for column in found]
    if text:
        pairs = zip(names, columns, strict=True)
        columns = [column if name in keep_empty else _without_empty(column) for name, column in pairs]
    shown = pa.RecordBatch.from_arrays(columns, names=names)
    try:
        return _lines(shown)
    except Exception:  # noqa: BLE001 - the writer has no error type of its own
        if len(positions) == 1:
            return [_dumped(shown)]
    return [original_values(rows, [at], text=text, keep_empty=keep_empty)[0] for at in positions]


def is_textual(kind: pa.DataType) -> bool:
    """Whether values of this type are texts, or bytes that are likely to be one."""
    return any(is_it(kind) for is_it in _TEXTUAL)


def pick_rows(rows: pa.RecordBatch, positions: NDArray[np.int64] | Sequence[int]) -> pa.RecordBatch:
    """The rows at `positions`, copied; for every type of column."""
    columns = [picked(column, positions) for column in rows.columns]
    return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)


def _lines(rows: pa.RecordBatch) -> list[str]:
    return json_lines(rows, explicit_nulls=True).decode().split("\n")[:-1]


def _dumped(row: pa.RecordBatch) -> str:
    """JSON text of a single row, the slow way, for types that the writer doesn't know."""
    values = {name: python_value(row.column(place), 0) for place, name in enumerate(row.schema.names)}
    present = {name: value for name, value in values.items() if value is not None}
    return json_of(present)


def python_value(column: pa.Array, place: int) -> object:
    """One value as a Python object; as text where Python has none for it."""
    return _python(column[place])


def _python(scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, ArithmeticError):
        return _by_parts(scalar)


def _by_parts(scalar: pa.Scalar) -> object:
    """A value that Python can't hold as a whole: text that is none, or days and times out of its range."""
    kind = scalar.type
    if pa.types.is_struct(kind):
        return {field.name: _python(scalar[place]) for place, field in enumerate(kind)}
    if pa.types.is_map(kind):
        return [(_python(pair["key"]), _python(pair["value"])) for pair in scalar.values]
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        return [_python(element) for element in scalar.values]
    if isinstance(kind, pa.BaseExtensionType) or pa.types.is_dictionary(kind):
        return _python(scalar.value)
    if is_textual(kind):
        return plain_text(scalar.cast(pa.binary()).as_py())
    return str(scalar.cast(pa.string()))


def json_of(value: object) -> str:
    """JSON text of any value that `python_value` returns."""
    return orjson.dumps(value, default=plain_text, option=orjson.OPT_NON_STR_KEYS).decode()


def plain_text(value: object) -> str:
    """Text of any value that `python_value` returns."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _has_infinity(column: pa.Array) -> bool:
    floating = pa.types.is_floating(column.type)
    return floating and bool(np.isinf(column.to_numpy(zero_copy_only=False)).any())


def _presentable(column: pa.Array) -> pa.Array:
    """Infinities and bytes as text; NaN is no value."""
    kind = column.type
    if pa.types.is_floating(kind):
        floats = column.to_numpy(zero_copy_only=False)
        if np.isinf(floats).any():
            column = column.cast(pa.string())
        return pc.if_else(pa.array(np.isnan(floats)), pa.scalar(None, column.type), column)
    return _readable(column) if is_textual(kind) else column


def _readable(column: pa.Array) -> pa.Array:
    """Text as it is; bytes that are no text with the bad ones written out."""
    # Bytes of one length are ids more often than texts, and as ids they are sent in this form.
    text_of = _digits if pa.types.is_fixed_size_binary(column.type) else plain_text
    column = column.cast(pa.binary())
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([None if value is None else text_of(value) for value in column.to_pylist()])


def _digits(value: bytes) -> str:
    """The text that the bytes are, or else their hexadecimal digits."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def _without_empty(column: pa.Array) -> pa.Array:
    if not pa.types.is_string(column.type):
        return column
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
