"""Lines of NDJSON and of reject files: the object in each line, and its values as values of columns.

A block of lines that pyarrow reads exactly is not read line by line. The rows of a reject file are read as
they were read from their first source, which the reject's `origin` names. Typed values come out of it if the
line has them as they were; an edited value is one of the column's type if it can be, and else what it is in
JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from itertools import groupby
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import json as arrow_json

from ..arrow.json_text import EXACT_FLOAT, dump_json, has_digits, load_json
from ..arrow.originals import (
    CSV_ORIGIN,
    arrow_row,
    join_origin,
    origin_by_name,
    origin_schema,
    original_values,
)
from ..errors import SourceError
from .file_reader import excerpt

Row = dict[str, Any]

_LONG: Final = 16  # digits; a whole number that a float doesn't hold has at least so many
_NO_JSON: Final = re.compile(rb"[:\[,]\s*-?(?:NaN|Inf)")


class LineBlock(NamedTuple):
    """Whole lines; `size` counts those that aren't blank.

    `starts` (int32, shape (size,)) is where they begin; empty unless each begins and ends with braces.
    """

    data: bytes
    size: int
    starts: NDArray[np.int32]

    @property
    def has_large_numbers(self) -> bool:
        """Whether there may be whole numbers in it that a float doesn't hold."""
        return has_digits(self.data, _LONG)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that aren't blank."""
        return (line for line in self.data.split(b"\n") if line.strip())

    def originals(self) -> pa.BinaryArray:
        """Return the lines of a block with `starts`, with their line ends, without a copy."""
        ends = np.append(self.starts, np.int32(len(self.data)))
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(self.data)]
        return pa.Array.from_buffers(pa.binary(), self.size, buffers)


def block_of(data: bytes) -> LineBlock:
    """Make a block of whole lines."""
    codes = np.frombuffer(data, dtype=np.uint8)
    starts = np.concatenate(([0], np.flatnonzero(codes == ord("\n")) + 1))
    starts = starts[starts < len(codes)].astype(np.int32)
    if len(starts) and (codes[starts] == ord("{")).all():
        ends = np.append(starts[1:] - 1, len(codes) - (codes[-1] == ord("\n")))
        last = ends - 1 - (codes[np.maximum(ends - 1, 0)] == ord("\r"))
        # A line that ends otherwise may go on in the next line.
        if (codes[np.maximum(last, 0)] == ord("}")).all():
            return LineBlock(data, len(starts), starts)
    return LineBlock(data, sum(1 for line in data.split(b"\n") if line.strip()), starts[:0])


def read_exactly(block: LineBlock, schema: pa.Schema, *, strict: bool) -> pa.RecordBatch | None:
    """Read the block with pyarrow; None if it can't, or if the result isn't exactly what the JSON means.

    pyarrow takes NaN for a number, and accepts two objects on a line. `strict`: None as well if there are
    columns, or keys inside objects, that the schema doesn't have.
    """
    if not len(block.starts) or not len(schema):
        return None
    data = block.data
    if (b"NaN" in data or b"Inf" in data) and _NO_JSON.search(data):
        return None
    others = "error" if strict else "ignore"
    try:
        table = arrow_json.read_json(
            pa.BufferReader(data),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=others),
        )
        table.validate(full=True)
    except pa.ArrowException:
        return None
    batches = table.combine_chunks().to_batches()
    if len(batches) != 1 or table.num_rows != block.size:
        return None
    floats = [values for column in batches[0].columns for values in _floats(column)]
    if any(((values == 0) & np.signbit(values)).any() for values in floats):
        return None  # it may be -0 or -0.0, and as a whole number the former is 0
    rounded = any((np.abs(values) >= EXACT_FLOAT).any() for values in floats) and block.has_large_numbers
    return None if rounded else batches[0]


def _floats(column: pa.Array) -> Iterator[NDArray[np.float64]]:
    """The floats of a column, also those in lists and objects; a null is NaN."""
    if pa.types.is_floating(column.type):
        yield column.to_numpy(zero_copy_only=False)
    elif pa.types.is_struct(column.type):
        for member in column.flatten():
            yield from _floats(member)
    elif pa.types.is_nested(column.type):
        yield from _floats(column.flatten())


# --- the object in a line --------------------------------------------------------------------------------

_HINT: Final = "NDJSON has one object a line; write it so, for example with: jq -c"
_LIST: Final = re.compile(rb"\[(?:\s*\{|[ \t\r]*\n)")
_JSON_NAME: Final = re.compile(r"\.json(\.\w+)?$")


class JsonLine(NamedTuple):
    """The object in a line that isn't blank, or why there is none.

    `plain`: all of it can be used; it has no text that is not UTF-8, and no number beyond every float. In a
    reject file the row is that of the line `rejected`, `origin` is that of the reject (`model.Reject`), and
    `run` the number of the run that rejected it, -1 for none.
    """

    text: bytes
    row: Row | None
    reason: str = ""
    plain: bool = True
    origin: str = ""
    rejected: bytes = b""
    run: int = -1


def read_line(text: bytes, *, large: bool = True) -> JsonLine:
    """Read the object in a line. The last value of a repeated key counts.

    `large` False: no number in it has as many digits as 64 bits may have.
    """
    row: object = None
    plain = True
    try:
        row = orjson.loads(text)
        if not large and isinstance(row, dict):
            return JsonLine(text, row)
    except orjson.JSONDecodeError:
        plain = False
    try:
        row = load_json(text)
    except RecursionError:
        return JsonLine(text, None, "the value is nested too deep")
    except ValueError:
        pass
    return JsonLine(text, row, plain=plain) if isinstance(row, dict) else JsonLine(text, None, not_json(text))


def not_json(text: bytes) -> str:
    """Describe a line without an object."""
    line = text.decode(errors="backslashreplace").strip()
    quoted = excerpt(line)
    constants: list[str] = []  # NaN and infinities, which Python and others write as if they were JSON
    with suppress(ValueError, RecursionError):
        found, end = json.JSONDecoder(parse_constant=constants.append).raw_decode(line)
        rest = line[end:].lstrip()
        if isinstance(found, dict) and rest.lstrip(", \t\ufeff").startswith("{"):
            return f"{quoted} holds two objects; write one object a line"
        if isinstance(found, dict) and rest == ",":
            return f"{quoted} ends with a comma, as in a JSON list; write one object a line without commas"
        if isinstance(found, dict) and constants and not rest:
            return f"{quoted} is not JSON because of {constants[0]}; write null in its place"
        if isinstance(found, list) and not rest:
            return f"{quoted} is a JSON list, and not a JSON object"
    return f"{quoted} is not a JSON object"


def refuse_other_json(name: str, text: bytes) -> None:
    """Raise SourceError if a file begins with `text`, like JSON that isn't one object a line."""
    if _LIST.match(text) or (text[:1] == b"[" and _JSON_NAME.search(name.lower())):
        raise SourceError(f"{name} holds one JSON list, not one object a line", hint=f"{_HINT} '.[]'")
    if text[:1] != b"{" or read_line(text.partition(b"\n")[0]).row is not None:
        return
    decoded = text.decode(errors="replace")
    try:
        several = "\n" in decoded[: json.JSONDecoder().raw_decode(decoded)[1]]
    except (ValueError, RecursionError):  # as far as can be seen
        several = re.match(r'\{\s*\r?\n\s+"(?:[^"\\\n]|\\.)*"\s*:', decoded) is not None
    if several:
        raise SourceError(f"{name} is JSON with its objects over several lines", hint=f"{_HINT} .")


# --- its values ------------------------------------------------------------------------------------------

INT64: Final = range(-(1 << 63), 1 << 63)
_DEEP: Final = 200
_WORDS: Final = {"int64": "whole number", "double": "number", "bool": "boolean"}


class MisfitError(Exception):
    """A value that isn't of the column's type; the message is for a reject's reason."""


def line_values(line: JsonLine, kinds: Mapping[str, pa.DataType], *, fit: bool) -> list[Any]:
    """Return the line's values of these columns, None if it has none; with `fit` as values of their types.

    Raises MisfitError for a line without an object, and for a value that can't be text or doesn't fit.
    """
    if line.row is None:
        raise MisfitError(line.reason)
    values = [line.row.get(name) for name in kinds]
    check = not line.plain or line.text.count(b"[") + line.text.count(b"{") > _DEEP
    for place, (name, kind) in enumerate(kinds.items() if fit or check else ()):
        try:
            if check:
                checked_json(values[place]).encode()
            if fit:
                values[place] = fit_value(values[place], kind)
        except UnicodeEncodeError as error:
            # A byte that is no text reached here as one of these.
            bad = re.sub("[\udc80-\udcff]", lambda sign: f"\\x{ord(sign[0]) & 0xFF:02x}", error.object)
            shown = excerpt(bad.encode("utf-8", "backslashreplace").decode().strip('"'))
            raise MisfitError(f"column {name}: {shown} is not UTF-8 text") from None
        except MisfitError as misfit:
            raise MisfitError(f"column {name}: {misfit}") from None
    return values


def fit_value(value: Any, kind: pa.DataType, *, exact: bool = False) -> object:
    """Return a value as one of the type; MisfitError if it isn't one. As a string any value is its JSON text.

    `exact`: text is nothing but text, and a number with a point is not a whole number.
    """
    if value is None or (isinstance(value, str) and pa.types.is_string(kind)):
        return value
    if isinstance(kind, pa.ListType) and isinstance(value, list):
        return [fit_value(item, kind.value_type, exact=exact) for item in value]
    if isinstance(kind, pa.StructType) and isinstance(value, dict):
        kinds = {field.name: field.type for field in kind}
        unknown = next((name for name in value if name not in kinds), None)
        if unknown is not None:
            raise MisfitError(f'the key "{unknown}" was not in the rows that the columns are from')
        return {name: fit_value(inner, kinds[name]) for name, inner in value.items()}
    if pa.types.is_string(kind) and not exact:
        return checked_json(value)
    if type(value) is bool and pa.types.is_boolean(kind):
        return value
    exact_float = type(value) is float or (type(value) is int and abs(value) <= EXACT_FLOAT)
    if exact_float and pa.types.is_floating(kind):
        return float(value)
    whole = type(value) is int or (type(value) is float and not exact and value.is_integer())
    if whole and pa.types.is_integer(kind) and int(value) in INT64:
        return int(value)
    word = _WORDS.get(str(kind), str(kind).partition("<")[0])
    raise MisfitError(f"{checked_json(value)[:60]} is not a {word} as in the rows that the columns are from")


def checked_json(value: object) -> str:
    """Write the value as JSON; MisfitError if it is nested too deep to be written."""
    try:
        return dump_json(value)
    except RecursionError as error:
        raise MisfitError("the value is nested too deep") from error


# --- reject files ----------------------------------------------------------------------------------------

_REJECT_KEYS: Final = frozenset({"source", "row", "code", "reason", "values"})
_OTHER_KEYS: Final = frozenset({"run", "origin", "faults"})


def is_reject(row: Row) -> bool:
    """Whether an object is a line of a reject file."""
    return row.keys() - _OTHER_KEYS == _REJECT_KEYS


def origin_of(reject: Row) -> str:
    """Return what the values of a reject were read from; a missing origin follows from the source's name."""
    origin = reject.get("origin")
    return origin if isinstance(origin, str) and origin else origin_by_name(str(reject.get("source")))


def rejected_row(line: JsonLine) -> JsonLine:
    """Return the row in a line of a reject file, as it was rejected."""
    reject = line.row or {}
    values, run = reject.get("values"), reject.get("run")
    if isinstance(values, dict):
        origin = origin_of(reject)
        text = join_origin(dump_json(values).encode("utf-8", "surrogateescape"), origin)
        run = run if isinstance(run, int) and 0 <= run < 1 << 32 else -1
        return JsonLine(text, values, plain=line.plain, origin=origin, rejected=line.text, run=run)
    quoted = excerpt(line.text.decode(errors="backslashreplace"))
    return line._replace(row=None, reason=f"{quoted} holds no rejected row")


class LineGroup(NamedTuple):
    """Consecutive lines whose rows are read alike.

    `fit`: a value that isn't of its column's type is a misfit. `typed` has the columns whose values are known
    exactly, a value for each line.
    """

    lines: Iterable[JsonLine]
    fit: bool = False
    typed: Mapping[str, pa.Array] = MappingProxyType({})


def group_rejects(lines: Iterable[JsonLine], columns: Sequence[str]) -> Iterator[LineGroup]:
    """Group the lines of a block, in their order; `fit` for text of CSV, `typed` of these columns."""
    for schema, group in groupby(map(_restored, lines), lambda one: origin_schema(one[0].origin)):
        alike = list(group)
        found = [(line, dict[str, pa.Array]()) for line, _ in alike]
        if schema:
            (whole,) = pa.Table.from_batches([rows for _, rows in alike]).combine_chunks().to_batches()
            before = map(orjson.loads, original_values(whole, range(len(alike))))
            for (line, known), (_, rows), old in zip(found, alike, before, strict=True):
                known |= _typed_values(rows, old, line.row or {}, columns)
        for (text, *names), some in groupby(found, lambda one: (one[0].origin == CSV_ORIGIN, *one[1])):
            read, each = zip(*some, strict=True)
            typed = {name: pa.concat_arrays([known[name] for known in each]) for name in names}
            yield LineGroup(read, text, typed)


def _restored(line: JsonLine) -> tuple[JsonLine, pa.RecordBatch | None]:
    """A line, and the typed values of its origin; a bad line if these are damaged."""
    try:
        return line, arrow_row(line.origin) if origin_schema(line.origin) else None
    except ValueError as error:
        reason = f"its origin can't be used: {error}; remove it from the line to read its values as JSON"
        return line._replace(row=None, reason=reason, origin=""), None


def _typed_values(rows: pa.RecordBatch, before: Row, now: Row, columns: Sequence[str]) -> dict[str, pa.Array]:
    """The values of a row that are known exactly: not edited since, or still of their column's type."""
    found = dict[str, pa.Array]()
    for name, values in zip(rows.schema.names, rows.columns, strict=True):
        if name in columns:
            same = now.get(name) == before.get(name)
            if (value := values if same else _of_type(now.get(name), values.type)) is not None:
                found[name] = value
    return found


def _of_type(value: object, kind: pa.DataType) -> pa.Array | None:
    """An edited value as one of the column's type; None if it can't be one."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    with suppress(pa.ArrowException, ArithmeticError, ValueError, TypeError):
        if value is None:
            return pa.nulls(1, kind)
        if isinstance(value, str) and pa.types.is_temporal(kind):
            return pa.array([value]).cast(kind)
        if number and pa.types.is_decimal(kind):
            return pa.array([Decimal(str(value))], kind)
        if number and (pa.types.is_integer if isinstance(value, int) else pa.types.is_floating)(kind):
            return pa.array([value], kind)
    return None
