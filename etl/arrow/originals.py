"""The original values of rejected rows: JSON that can be corrected and run again.

JSON can't hold all of a row of typed columns: a timestamp of microseconds, a decimal or bytes become text or
another number. So a reject's `origin` has the values of such columns as Arrow has them, in the form of its
files (IPC): schema and row are compressed and written in base64.
"""

from __future__ import annotations

import re
import zlib
from base64 import b64decode, b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ..model import Reject
from .json_text import as_marked_text, is_json, json_lines, json_texts, mark_json, splice_json
from .layout import plain_array

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from ..model import Batch, Chunk

    Positions: TypeAlias = NDArray[np.int64] | Sequence[int]

# What a reject's values were read from.
JSON_ORIGIN: Final = "json"
CSV_ORIGIN: Final = "csv"
_ARROW: Final = "arrow:"

# The ends of file names.
CSV_ENDINGS: Final = ("csv", "tsv", "txt")
CODEC_ENDINGS: Final = {"gz": "gzip", "zst": "zstd", "bz2": "bz2", "lz4": "lz4", "br": "brotli"}
_CSV_NAME: Final = re.compile(rf"(?is).*\.({'|'.join(CSV_ENDINGS)})(\.({'|'.join(CODEC_ENDINGS)}))?")

_BAD_BYTE: Final = re.compile("[\udc80-\udcff]")  # as `surrogateescape` decodes it
_MOST_BYTES: Final = 1 << 26  # of one row
# The one column of `rows_with_originals` where a source has its rows as JSON; no job has a column so named.
_ORIGINAL: Final = "\x00original"
# The types whose values JSON has exactly.
_EXACT_IN_JSON: Final = (
    *(pa.null(), pa.bool_(), pa.string(), pa.large_string(), pa.float64()),
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32()),
)
_TEXTUAL: Final = (
    *(pa.string(), pa.large_string(), pa.string_view()),
    *(pa.binary(), pa.large_binary(), pa.binary_view()),
)


class Original(NamedTuple):
    """A row as the source has it: `values` and `origin` of its reject."""

    values: str
    origin: str


def rows_with_originals(batch: Batch) -> pa.RecordBatch:
    """Return what `original_rows` and `original_values` need of a batch."""
    if batch.originals is None:
        return batch.rows
    return pa.RecordBatch.from_arrays([batch.originals], names=[_ORIGINAL])


def original_rows(
    rows: pa.RecordBatch,
    positions: Positions,
    *,
    source: str,
    text: bool = False,
    keep_empty: Collection[str] = (),
) -> list[Original]:
    """Return `original_values` with their origins; an origin that the name of `source` implies is ""."""
    if len(positions) == 0:
        return []
    if rows.schema.names == [_ORIGINAL]:
        lines = take_values(rows.column(0), positions).to_pylist()
        texts = (line.decode("utf-8", "surrogateescape").strip() for line in lines)
        # The bytes of strings that are not UTF-8 are written out, as by `plain_text`.
        plain = (_BAD_BYTE.sub(lambda one: f"\\\\x{ord(one[0]) - 0xDC00:02x}", text) for text in texts)
        # The inverse of `join_origin`; JSON on a line of its own has no line end in it.
        parts = (text.partition("\n") for text in plain)
        found = [Original(values.rstrip(), origin or JSON_ORIGIN) for values, _, origin in parts]
    else:
        written = original_values(rows, positions, text=text, keep_empty=keep_empty)
        origins = [CSV_ORIGIN] * len(written) if text else arrow_origins(take_rows(rows, positions))
        found = list(map(Original, written, origins))
    implied = origin_by_name(source)
    return [one._replace(origin="") if one.origin == implied else one for one in found]


def rejects_of(
    of: Batch | Chunk,
    rows: pa.RecordBatch,
    positions: NDArray[np.int64],
    reasons: Iterable[tuple[str, str]],
    keep_empty: Collection[str],
) -> tuple[Reject, ...]:
    """Make rejects of the `rows` at `positions`, with their codes and texts; `rows` are those of `of`."""
    found = original_rows(rows, positions, source=of.source, text=of.text, keep_empty=keep_empty)
    return tuple(
        Reject(of.source, number, code, reason, row.values, origin=row.origin)
        for number, (code, reason), row in zip(of.numbers[positions].tolist(), reasons, found, strict=True)
    )


def origin_by_name(source: str) -> str:
    """Return the origin that the name of a source implies."""
    return CSV_ORIGIN if _CSV_NAME.fullmatch(source.rpartition("/")[2]) else JSON_ORIGIN


def join_origin(values: bytes, origin: str) -> bytes:
    """Make one of a batch's `originals` from a row of a reject file."""
    return b"%b\n%b" % (values, origin.encode())


def original_values(
    rows: pa.RecordBatch, positions: Positions, *, text: bool = False, keep_empty: Collection[str] = ()
) -> list[str]:
    """Write the rows at `positions` as JSON objects with every column.

    `text`: the rows come from untyped text, where an empty field means null, so it is written as null, except
    in the columns named by `keep_empty`. Never fails, whatever the types: what JSON can't hold is written as
    text. A row's text doesn't depend on the other rows.
    """
    names = rows.schema.names
    columns = []
    for name, values in zip(names, rows.columns, strict=True):
        column = _for_json(plain_array(take_values(values, positions)))
        if text and name not in keep_empty and pa.types.is_string(column.type):
            column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
        columns.append(column)
    written = pa.RecordBatch.from_arrays(columns, names=names)
    try:
        return json_lines(written, explicit_nulls=True, splice=splice_json).decode().split("\n")[:-1]
    except Exception:  # noqa: BLE001 - the writer has no error type of its own
        if len(positions) > 1:
            return [original_values(rows, [at], text=text, keep_empty=keep_empty)[0] for at in positions]
    found = {name: python_value(column[0]) for name, column in zip(names, columns, strict=True)}
    line = to_json({name: value for name, value in found.items() if value is not None})
    return [splice_json(line.encode()).decode()]


def _for_json(column: pa.Array) -> pa.Array:
    """JSON marked, infinities and bytes as text, bad ones of them written out; NaN is null."""
    kind = column.type
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        infinite = pc.is_inf(column)
        if not pc.any(infinite).as_py():
            return column
        finite = json_texts(pc.if_else(infinite, pa.scalar(None, kind), column))
        words = pc.binary_join_element_wise('"', column.cast(pa.string()), '"', "")
        return mark_json(pc.if_else(infinite, words, finite))
    if is_json(kind):
        return as_marked_text(column)
    if pa.types.is_decimal(kind):
        return plain_array(column)
    if not is_textual(kind):
        return column
    column = column.cast(pa.binary())
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        values = column.to_pylist()
    texts = [None if value is None else plain_text(value) for value in values]
    if pa.types.is_fixed_size_binary(kind):  # ids more often than texts, and sent in hexadecimal digits
        for place, (text, value) in enumerate(zip(texts, values, strict=True)):
            texts[place] = text if text is None or text.encode() == value else value.hex()
    return pa.array(texts)


def is_textual(kind: pa.DataType) -> bool:
    """Whether values of this type are texts, or bytes that are likely to be text."""
    return kind in _TEXTUAL or bool(pa.types.is_fixed_size_binary(kind))


def take_rows(rows: pa.RecordBatch, positions: Positions) -> pa.RecordBatch:
    """Copy the rows at `positions`; takes columns of every type."""
    columns = [take_values(column, positions) for column in rows.columns]
    return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)


def take_values(column: pa.Array, positions: Positions) -> pa.Array:
    """Copy the values at `positions`; takes every type."""
    try:
        return column.take(pa.array(positions, pa.int64()))
    except pa.ArrowNotImplementedError:  # views and runs can be sliced, but not taken from
        if not len(positions):
            return column.slice(0, 0)
        return pa.concat_arrays([column.slice(int(place), 1) for place in positions])


def python_value(scalar: pa.Scalar) -> object:
    """Return one value as a Python object; as text where Python has no type for it."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, ArithmeticError):
        pass  # text that is not UTF-8, or days and times out of Python's range: element by element
    kind = scalar.type
    if pa.types.is_struct(kind):
        return {field.name: python_value(scalar[place]) for place, field in enumerate(kind)}
    if pa.types.is_map(kind):
        return [(python_value(pair["key"]), python_value(pair["value"])) for pair in scalar.values]
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        return [python_value(element) for element in scalar.values]
    if isinstance(kind, pa.BaseExtensionType) or pa.types.is_dictionary(kind):
        return python_value(scalar.value)
    if is_textual(kind):
        return plain_text(scalar.cast(pa.binary()).as_py())
    return str(scalar.cast(pa.string()))


def to_json(value: object) -> str:
    """Write any value that `python_value` returns as JSON."""
    return orjson.dumps(value, default=plain_text, option=orjson.OPT_NON_STR_KEYS).decode()


def plain_text(value: object) -> str:
    """Write any value that `python_value` returns as text."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def arrow_origins(rows: pa.RecordBatch) -> list[str]:
    """Return an origin for each row, from which `arrow_row` restores its typed values."""
    kinds = enumerate(rows.schema.types)
    typed = [place for place, kind in kinds if not (kind in _EXACT_IN_JSON or is_json(kind))]
    odd = {  # of columns of doubles: the values for which JSON has no number
        place: np.asarray(pc.invert(pc.is_finite(column)).fill_null(False))
        for place, column in enumerate(rows.columns)
        if column.type == pa.float64()
    }
    found, schemas = list[str](), dict[tuple[int, ...], str]()
    for row in range(rows.num_rows):
        places = tuple(sorted([*typed, *(place for place, marks in odd.items() if marks[row])]))
        if not places:
            found.append(JSON_ORIGIN)
            continue
        # Taken and not sliced: what a slice's buffers hold beside it would be written, too.
        one = take_rows(rows.select(places), [row])
        if places not in schemas:
            schemas[places] = b64encode(zlib.compress(one.schema.serialize(), 6)).decode()
        found.append(f"{_ARROW}{schemas[places]}.{b64encode(zlib.compress(one.serialize(), 6)).decode()}")
    return found


def origin_schema(origin: str) -> str:
    """Return the part of an origin that rows of the same columns and types share; "" if it isn't Arrow's."""
    return origin.partition(".")[0] if origin.startswith(_ARROW) else ""


def arrow_row(origin: str) -> pa.RecordBatch:
    """Restore the typed values of one row. Raises ValueError if `arrow_origins` can't have made the text."""
    schema, _, row = origin.removeprefix(_ARROW).partition(".")
    try:
        found = pa.ipc.read_record_batch(pa.py_buffer(_unpacked(row)), _read_schema(schema))
        found.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, TypeError, zlib.error) as error:
        raise ValueError("it is damaged") from error
    if found.num_rows != 1:
        raise ValueError("it is not of one row")
    return found


@lru_cache(64)
def _read_schema(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(_unpacked(text)))


def _unpacked(text: str) -> bytes:
    unpacking = zlib.decompressobj()
    data = unpacking.decompress(b64decode(text, validate=True), _MOST_BYTES)
    if not unpacking.eof:
        raise ValueError("it is cut off, or too long")
    return data
