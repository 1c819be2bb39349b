"""JSON values exactly as a source writes them: every digit is kept, and nothing but JSON passes for JSON.

Columns whose values differ in kind have the type `JSON`: one JSON text for each value.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias, TypeGuard

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

JsonKind: TypeAlias = Literal["typed", "nested", "huge"]
RowIndices: TypeAlias = NDArray[np.int64]

EXACT_FLOAT: Final = 2**53  # up to it a float holds every whole number
# Only numbers beyond 64 bits have so many digits; orjson makes floats of these.
_SAFE_DIGITS: Final = 19
_DIGITS_AS_ZEROS: Final = bytes(ord("0") if sign in b"0123456789" else ord(" ") for sign in range(256))
# Python refuses to read whole numbers of thousands of digits; longer ones than this are beyond every float.
_MOST_DIGITS: Final = 400
_INFINITE: Final = f"infinite{secrets.token_hex(8)}"
_INT64: Final = range(-(2**63), 2**63)
_UINT64: Final = range(2**64)
# Of values whose type Arrow doesn't find by itself.
_TYPES: Final = {"unsigned": pa.uint64(), "list of str": pa.list_(pa.string())}


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


_DECODER: Final = json.JSONDecoder(
    parse_int=lambda digits: int(digits) if len(digits) <= _MOST_DIGITS else float(digits),
    parse_constant=int,  # a ValueError: NaN and Infinity are not JSON
)


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
    """What kind of value a JSON text is, and the value as Arrow is to have it."""
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
