"""JSON values as Arrow types: what type a column's values have in common, and whether a value fits it.

Types form a ladder whose top is string: values that agree on nothing else are kept as their JSON text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa

from etl.arrow.exact_json import dump
from etl.arrow.json_type import JSON, json_column

DEPTH: Final = 50
EXACT: Final = 2**53  # up to it a float holds every whole number
_MOST_FIELDS: Final = 64  # of an object, beyond which its keys are taken for data
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
        return pa.int64() if _INT64_MIN <= value < -_INT64_MIN else pa.string()
    if isinstance(value, float):
        return pa.float64()
    if isinstance(value, list) and depth < DEPTH:
        return pa.list_(common_type(value, depth + 1))
    if isinstance(value, dict) and depth < DEPTH and len(value) <= _MOST_FIELDS:
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
        return pa.struct(list(fields.items())) if len(fields) <= _MOST_FIELDS else pa.string()
    return pa.string()


def resolved_type(kind: pa.DataType) -> pa.DataType:
    """The type with string for whatever was null in every row seen."""
    if isinstance(kind, pa.ListType):
        return pa.list_(resolved_type(kind.value_type))
    if isinstance(kind, pa.StructType):
        return pa.struct([(field.name, resolved_type(field.type)) for field in kind])
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


def fitted_in(name: str, value: object, kind: pa.DataType) -> object:
    """As `fitted`, with the column's name in the MisfitError."""
    try:
        return fitted(value, kind)
    except MisfitError as misfit:
        raise MisfitError(f"column {name}: {misfit}") from None


def as_column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Values of JSON as a column of this type or, where one of them isn't of it, all of them as JSON.

    Among floats, whole numbers are floats as far as these hold them, so that a number is written alike
    whichever it becomes. Raises MisfitError for a value that is nested too deep to be written.
    """
    if kind != JSON and all(value is None or _is_of(value, kind) for value in values):
        return pa.array(values, kind)
    texts = [None if value is None else json_text(_as_floats(value, kind)) for value in values]
    return json_column(texts)


def _is_of(value: object, kind: pa.DataType) -> bool:
    if isinstance(kind, pa.ListType):
        inner = kind.value_type
        return isinstance(value, list) and all(item is None or _is_of(item, inner) for item in value)
    if isinstance(value, str):
        return bool(pa.types.is_string(kind))
    if isinstance(value, bool):
        return bool(pa.types.is_boolean(kind))
    if isinstance(value, int):
        return _INT64_MIN <= value < -_INT64_MIN if pa.types.is_int64(kind) else _is_exact(value, kind)
    return isinstance(value, float) and bool(pa.types.is_floating(kind))


def _is_exact(value: int, kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind)) and abs(value) <= EXACT


def _as_floats(value: object, kind: pa.DataType) -> object:
    if isinstance(kind, pa.ListType) and isinstance(value, list):
        return [_as_floats(item, kind.value_type) for item in value]
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole and _is_exact(value, kind) else value  # type: ignore[arg-type]


def json_text(value: object) -> str:
    """The value as JSON; MisfitError if it is nested too deep to be written."""
    try:
        return dump(value)
    except RecursionError as error:
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
        if pa.types.is_floating(kind) and (isinstance(value, float) or abs(value) <= EXACT):
            return float(value)
        if pa.types.is_integer(kind) and _INT64_MIN <= value < -_INT64_MIN and value == int(value):
            return int(value)
    word = _WORDS.get(str(kind), str(kind).partition("<")[0])
    raise MisfitError(f"{json_text(value)[:60]} is no {word} as in the rows that told the columns")
