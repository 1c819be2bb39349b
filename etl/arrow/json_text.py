"""JSON text in columns, exactly as a source writes it, and columns as JSON lines.

Every digit is kept, and nothing but JSON passes for JSON. Columns whose values differ in kind have the type
`JSON`: one JSON text for each value. A column of strings may carry JSON text into the lines, too. It travels
between two marks, which are drawn at random in each process, so that no source can forge them; `splice_json`
puts it into the lines.
"""

from __future__ import annotations

import io
import json
import math
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias, TypeGuard

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from arro3.io import write_ndjson
from numpy.typing import NDArray

from .layout import FlatLists, is_list

JsonKind: TypeAlias = Literal["typed", "nested", "huge"]
RowIndices: TypeAlias = NDArray[np.int64]
# Changes the text of JSON lines, but not where they end: for example, puts in what Arrow has no type for.
Splice: TypeAlias = Callable[[bytes], bytes]

EXACT_FLOAT: Final = 2**53  # up to it a float holds every whole number


class JsonType(pa.ExtensionType):  # type: ignore[misc]
    """The type of columns of JSON texts; a JSON null is null."""

    def __init__(self) -> None:
        super().__init__(pa.string(), "propsync.json")

    def __arrow_ext_serialize__(self) -> bytes:
        """Return nothing: there is one such type."""
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> JsonType:
        """Return the type."""
        return cls()


JSON: Final = JsonType()


def is_json(kind: pa.DataType) -> TypeGuard[JsonType]:
    """Whether a column of this type has JSON texts."""
    return isinstance(kind, JsonType)


def json_as_text(values: pa.ExtensionArray) -> pa.Array:
    """Convert JSON values to strings: text as it is, everything else as its JSON."""
    texts = values.storage.to_pylist()
    plain = [orjson.loads(text) if text is not None and text[0] == '"' else text for text in texts]
    return pa.array(plain, pa.string())


def json_column(texts: list[str | None] | pa.StringArray) -> pa.ExtensionArray:
    """Make a column of JSON values, shape (n,), from their texts."""
    return pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.string()))


# --- every digit -----------------------------------------------------------------------------------------

# Only numbers beyond 64 bits have so many digits; orjson makes floats of these.
_SAFE_DIGITS: Final = 19
_DIGITS_AS_ZEROS: Final = bytes(ord("0") if sign in b"0123456789" else ord(" ") for sign in range(256))
# Python refuses to read whole numbers of thousands of digits; longer ones than this are beyond every float.
_MOST_DIGITS: Final = 400
_INFINITE: Final = f"infinite{secrets.token_hex(8)}"
_DECODER: Final = json.JSONDecoder(
    parse_int=lambda digits: int(digits) if len(digits) <= _MOST_DIGITS else float(digits),
    parse_constant=int,  # a ValueError: NaN and Infinity are not JSON
)


def load_json(text: str | bytes) -> Any:
    """Read a JSON text; whole numbers keep all their digits, and numbers beyond a float are infinite.

    Raises ValueError if it is not JSON, RecursionError if it is nested too deep to be read.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if not has_digits(data, _SAFE_DIGITS):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            pass  # orjson reads neither 1e400 nor half a surrogate pair
    return _DECODER.decode(text if isinstance(text, str) else text.decode("utf-8", "surrogateescape"))


def has_digits(data: bytes, count: int) -> bool:
    """Whether there are at least `count` digits in a row."""
    return b"0" * count in data.translate(_DIGITS_AS_ZEROS)


def dump_json(value: Any) -> str:
    """Write a value that `load_json` returned; an infinite number becomes one that is beyond every float.

    Raises RecursionError if it is nested too deep to be written.
    """
    try:
        text = orjson.dumps(value).decode()
        if "null" not in text:
            return text
        text = orjson.dumps(_with_words(value)).decode()  # orjson writes infinite numbers as null
    except orjson.JSONEncodeError as error:  # beyond 64 bits, half a surrogate pair, or nested too deep
        if "ecursion" in str(error):
            raise RecursionError from error
        text = json.dumps(_with_words(value), ensure_ascii=False, separators=(",", ":"))
    return text.replace(f'"{_INFINITE}"', "1e999").replace(f'"-{_INFINITE}"', "-1e999")


def _with_words(value: Any) -> Any:
    """Replace infinite numbers by words that no source has."""
    if isinstance(value, float) and math.isinf(value):
        return _INFINITE if value > 0 else f"-{_INFINITE}"
    if isinstance(value, dict):
        return {key: _with_words(member) for key, member in value.items()}
    return [_with_words(element) for element in value] if isinstance(value, list) else value


# --- kinds of values -------------------------------------------------------------------------------------

_INT64: Final = range(-(2**63), 2**63)
_UINT64: Final = range(2**64)
# Of values whose type Arrow doesn't find by itself.
_TYPES: Final = {"unsigned": pa.uint64(), "list of str": pa.list_(pa.string())}


def group_by_kind(texts: Iterable[str | None]) -> Iterator[tuple[JsonKind, RowIndices, pa.Array]]:
    """Group JSON texts by kind, without nulls: the rows, and an array of the kind's type.

    `typed` are single values, and lists of one type; `nested` are objects and other lists, as JSON text;
    `huge` are whole numbers beyond 64 bits, as text.
    """
    found: dict[str, tuple[list[int], list[object]]] = {}
    for row, text in enumerate(texts):
        if text is not None:
            name, value = _classified(text)
            rows, values = found.setdefault(name, ([], []))
            rows.append(row)
            values.append(value)
    for name, (rows, values) in found.items():
        kind: JsonKind = "nested" if name == "nested" else "huge" if name == "huge" else "typed"
        yield kind, np.array(rows, dtype=np.int64), pa.array(values, _TYPES.get(name))


def _classified(text: str) -> tuple[str, object]:
    """The kind of a JSON text's value, and the value as Arrow has it."""
    first = text[0]
    if first == '"':
        return "text", orjson.loads(text)
    if first in "{n":
        return "nested", text
    if first in "tf":
        return "boolean", first == "t"
    if first != "[":
        if not text.lstrip("-").isdigit():
            return "float", float(text)
        number = int(text)
        if number not in _UINT64 and number not in _INT64:
            return "huge", text
        return "whole" if number in _INT64 else "unsigned", number
    elements: list[Any] = load_json(text)
    kinds = {type(element) for element in elements if element is not None}
    if kinds == {int, float} and all(
        isinstance(one, float) or one is None or abs(one) <= EXACT_FLOAT for one in elements
    ):
        return "list of float", elements
    if len(kinds) > 1 or kinds & {dict, list}:
        return "nested", text
    kind = next(iter(kinds), str)
    # Only now: a float would be compared with the range's numbers one by one.
    if kind is int and not all(element is None or element in _INT64 for element in elements):
        return "nested", text
    return f"list of {kind.__name__}", elements


# --- JSON lines ------------------------------------------------------------------------------------------

# Looking for newlines takes as much memory as what is looked at, so it is done in parts of this many bytes.
_AT_ONCE: Final = 1 << 20


def json_lines(rows: pa.RecordBatch, *, explicit_nulls: bool = False, splice: Splice | None = None) -> bytes:
    """Return a JSON object and a newline for each row; nulls are left out unless `explicit_nulls`."""
    stream = io.BytesIO()
    if rows.num_rows:
        columns = list(map(_rebuilt, rows.columns))
        rows = pa.RecordBatch.from_arrays(columns, names=rows.schema.names) if columns else rows
        write_ndjson(rows, stream, explicit_nulls=explicit_nulls)
    return splice(stream.getvalue()) if splice else stream.getvalue()


def _rebuilt(column: pa.Array) -> pa.Array:
    """The same values; structs are built anew from their fields, which aren't copied.

    arro3 (seen in 0.9) applies the offset of a struct within a struct twice, and reads past its end.
    """
    if not pa.types.is_struct(column.type) or not column.type.num_fields:
        return column
    fields = [_rebuilt(column.field(number)) for number in range(column.type.num_fields)]
    nulls = column.is_null() if column.null_count else None
    return pa.StructArray.from_arrays(fields, fields=list(column.type), mask=nulls)


def line_ends(lines: bytes) -> NDArray[np.int64]:
    """Where n lines end, behind their newlines; shape (n + 1,), it begins with 0."""
    letters = np.frombuffer(lines, dtype=np.uint8)
    starts = range(0, len(letters), _AT_ONCE)
    ends = [np.flatnonzero(letters[at : at + _AT_ONCE] == ord("\n")) + (at + 1) for at in starts]
    return np.concatenate([[0], *ends])


def json_texts(values: pa.Array) -> pa.Array:
    """Write each value as JSON text, shape (n,), with marked JSON in it; null stays null.

    Costs a Python object a row.
    """
    lines = json_lines(pa.record_batch([values], names=["v"]), splice=splice_json)
    # A line is {"v":...}, or {} for a null.
    texts = [line[5:-1] or None for line in lines.split(b"\n")[:-1]]
    return pa.array(texts, pa.binary()).cast(pa.string())


# --- marked JSON -----------------------------------------------------------------------------------------

_OPEN: Final = f"\x00{secrets.token_hex(8)}("
_CLOSE: Final = f"){secrets.token_hex(8)}\x00"
_OPEN_IN_JSON: Final = orjson.dumps(_OPEN)[:-1]
_CLOSE_IN_JSON: Final = orjson.dumps(_CLOSE)[1:]


def mark_json(texts: pa.Array) -> pa.Array:
    """Mark JSON texts for `splice_json`; null stays null."""
    return pc.binary_join_element_wise(_OPEN, texts, _CLOSE, "")


def mark_json_text(text: str) -> str:
    """Mark one JSON text for `splice_json`."""
    return f"{_OPEN}{text}{_CLOSE}"


def strip_marks(texts: pa.Array) -> pa.Array:
    """Remove the marks, so that marked JSON becomes plain text."""
    return pc.replace_substring(pc.replace_substring(texts, _OPEN, ""), _CLOSE, "")


def as_marked_text(values: pa.Array) -> pa.Array:
    """Write values of any type as strings: text as it is, everything else as its marked JSON."""
    if is_json(values.type):
        return mark_json(values.storage)
    return values if pa.types.is_string(values.type) else mark_json(json_texts(values))


def as_marked_lists(values: pa.Array) -> pa.Array:
    """Write lists of any type as lists of strings: text as it is, other elements as their marked JSON."""
    lists = FlatLists.of(values)
    return lists.rebuild(as_marked_text(lists.elements))


def concat_values(arrays: Sequence[pa.Array]) -> pa.Array:
    """Arrays one behind the other, at least one of them; those of several types as marked text.

    Where all are lists, the result is lists of marked text.
    """
    if any(values.type != arrays[0].type for values in arrays):
        lists = all(is_list(values.type) for values in arrays)
        arrays = list(map(as_marked_lists if lists else as_marked_text, arrays))
    return pa.concat_arrays(arrays)


def may_be_marked(texts: pa.Array) -> bool:
    """Whether one of them can stand for other JSON than a string: marks have a NUL in them."""
    return bool(pc.any(pc.match_substring(texts, "\x00")).as_py())


def unmark_json(text: str) -> str | None:
    """Return the JSON text in a marked string; None if the string isn't marked."""
    return text[len(_OPEN) : -len(_CLOSE)] if text.startswith(_OPEN) and text.endswith(_CLOSE) else None


def splice_json(lines: bytes) -> bytes:
    """Replace every marked string in JSON lines by the JSON value that it holds."""
    head, *tail = lines.split(_OPEN_IN_JSON)
    parts = [head]
    for piece in tail:
        escaped, rest = piece.split(_CLOSE_IN_JSON, 1)
        plain = b"\\" not in escaped
        parts += [escaped if plain else orjson.loads(b'"%b"' % escaped).encode(), rest]
    return b"".join(parts) if tail else lines
