"""JSON values as Arrow types: what type a column's values have in common, and whether a value fits it.

Types form a ladder whose top is string: values that agree on nothing else are kept as their JSON text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson
import pyarrow as pa

DEPTH: Final = 50
_INT64_MIN: Final = -(1 << 63)
_WORDS: Final = {"int64": "whole number", "double": "number", "bool": "boolean"}


class MisfitError(Exception):
    """A value that isn't of the column's type; says so in the words of a reject's reason."""


def type_of(value: object, depth: int = 0) -> pa.DataType:
    """The narrowest type of one value, as orjson loads it."""
    if value is None:
        return pa.null()
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return pa.int64() if _INT64_MIN <= value < -_INT64_MIN else pa.float64()
    if isinstance(value, float):
        return pa.float64()
    if isinstance(value, list) and depth < DEPTH:
        return pa.list_(common_type(value, depth + 1))
    if isinstance(value, dict) and depth < DEPTH:
        return pa.struct([(name, type_of(inner, depth + 1)) for name, inner in value.items()])
    return pa.string()


def common_type(values: Iterable[object], depth: int = 0) -> pa.DataType:
    """The type that all the values have in common; null for none."""
    found: pa.DataType = pa.null()
    for value in values:
        found = merged(found, type_of(value, depth))
    return found


def merged(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """The narrowest type that values of both types fit."""
    if left == right or pa.types.is_null(right):
        return left
    if pa.types.is_null(left):
        return right
    if {left, right} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if isinstance(left, pa.ListType) and isinstance(right, pa.ListType):
        return pa.list_(merged(left.value_type, right.value_type))
    if isinstance(left, pa.StructType) and isinstance(right, pa.StructType):
        fields = {field.name: field.type for field in left}
        for field in right:
            fields[field.name] = merged(fields.get(field.name, pa.null()), field.type)
        return pa.struct(list(fields.items()))
    return pa.string()


def taken_literally(kind: pa.DataType, depth: int = 0) -> pa.DataType:
    """The type that pyarrow guessed, without its guess that some strings are times."""
    if isinstance(kind, pa.ListType) and depth < DEPTH:
        return pa.list_(taken_literally(kind.value_type, depth + 1))
    if isinstance(kind, pa.StructType) and depth < DEPTH:
        return pa.struct([(field.name, taken_literally(field.type, depth + 1)) for field in kind])
    known = kind in (pa.null(), pa.bool_(), pa.int64(), pa.float64())
    return kind if known else pa.string()


def settled(kind: pa.DataType) -> pa.DataType:
    """The type with string for whatever was null in every row seen."""
    if isinstance(kind, pa.ListType):
        return pa.list_(settled(kind.value_type))
    if isinstance(kind, pa.StructType):
        return pa.struct([(field.name, settled(field.type)) for field in kind])
    return pa.string() if pa.types.is_null(kind) else kind


def fitted(value: object, kind: pa.DataType) -> object:
    """The value as one of the type; MisfitError if it isn't one. As a string any value is its JSON text."""
    if value is None:
        return None
    if isinstance(kind, pa.ListType) and isinstance(value, list):
        return [fitted(item, kind.value_type) for item in value]
    if isinstance(kind, pa.StructType) and isinstance(value, dict):
        return _fitted_fields(value, {field.name: field.type for field in kind})
    if pa.types.is_string(kind):
        return value if isinstance(value, str) else json_text(value)
    return _fitted_number(value, kind)


def json_text(value: object) -> str:
    """The value as JSON; MisfitError if it is nested deeper than orjson writes, which reads more."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise MisfitError("the value is nested too deep") from error


def _fitted_fields(value: dict[str, object], kinds: dict[str, pa.DataType]) -> dict[str, object]:
    unknown = [name for name in value if name not in kinds]
    if unknown:
        raise MisfitError(f'the key "{unknown[0]}" was not in the rows that told the columns')
    return {name: fitted(inner, kinds[name]) for name, inner in value.items()}


def _fitted_number(value: object, kind: pa.DataType) -> object:
    if isinstance(value, bool):
        if pa.types.is_boolean(kind):
            return value
    elif isinstance(value, int | float):
        if pa.types.is_floating(kind):
            return float(value)
        if pa.types.is_integer(kind) and _INT64_MIN <= value < -_INT64_MIN and value == int(value):
            return int(value)
    word = _WORDS.get(str(kind), str(kind).partition("<")[0])
    raise MisfitError(f"{json_text(value)[:60]} is no {word} as in the rows that told the columns")
