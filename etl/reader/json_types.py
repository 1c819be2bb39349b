"""JSON values as Arrow types: which columns a file has, what type their values have in common, what fits it.

Types form a ladder whose top is string: values that agree on nothing else are kept as their JSON text.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Final

import pyarrow as pa

from ..arrow.json_text import EXACT_FLOAT, JSON, dump_json, json_column

DEPTH: Final = 50
_MOST_FIELDS: Final = 64  # of an object, beyond which its keys are taken for data
_KNOWN_SHAPES: Final = 10_000
_MOST_COLUMNS: Final = 20_000
_INT64: Final = range(-(1 << 63), 1 << 63)
_WORDS: Final = {"int64": "whole number", "double": "number", "bool": "boolean"}
SCALARS: Final[Mapping[frozenset[type], pa.DataType]] = {
    frozenset(): pa.string(),
    frozenset({str}): pa.string(),
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
}


class MisfitError(Exception):
    """A value that isn't of the column's type; the message is for a reject's reason."""


@dataclass(slots=True)
class ValueTypes:
    """The Python types of a column's values, and of the elements of its lists.

    `wide`: there are whole numbers that a float doesn't hold.
    """

    values: set[type] = field(default_factory=set)
    elements: set[type] = field(default_factory=set)
    wide: bool = False

    def common_type(self) -> pa.DataType:
        """Return the type that can be read at full speed without changing any value, or JSON."""
        lists = self.values == {list}
        types = self.elements - {type(None)} if lists else self.values
        scalar = None if self.wide and float in types else SCALARS.get(frozenset(types))
        if scalar is None:
            return JSON
        return pa.list_(scalar) if lists else scalar


class ColumnScan:
    """The columns of the rows that were scanned. `forgotten`: there are more than can be remembered.

    What a value becomes doesn't depend on it. It shows which columns can be read at full speed, and whether
    whole numbers among others are written with a point.
    """

    def __init__(self) -> None:
        self.columns: dict[str, ValueTypes] = {}
        self.forgotten = False
        # Which columns of rows of one shape have lists, whose elements have to be checked in each row.
        self._lists: dict[tuple[object, ...], tuple[str, ...]] = {}

    def add(self, row: Mapping[str, Any], *, long: bool, plain: bool = True) -> None:
        """Scan a row; `long`: it may have numbers that a float doesn't hold. Not `plain`: scan only names."""
        if not plain:
            for name in row:
                with suppress(UnicodeEncodeError):
                    name.encode()
                    self._note(name, None, long=False)
            return
        shape = (*row, *map(type, row.values()))
        lists = self._lists.get(shape)
        if lists is None or long:
            if len(self._lists) >= _KNOWN_SHAPES:
                self._lists.clear()
            lists = self._lists[shape] = tuple(name for name, value in row.items() if isinstance(value, list))
            for name, value in row.items():
                self._note(name, value, long=long)
        for name in lists:
            if name in self.columns:
                self.columns[name].elements.update(map(type, row[name]))

    def _note(self, name: str, value: object, *, long: bool) -> None:
        """Add a value to its column, unless there are too many columns."""
        types = self.columns.get(name)
        if types is None:
            if len(self.columns) >= _MOST_COLUMNS:
                self.forgotten = True
                return
            types = self.columns[name] = ValueTypes()
        if value is None:
            return
        types.values.add(type(value))
        if long:
            numbers = value if isinstance(value, list) else [value]
            types.wide |= any(isinstance(number, int) and abs(number) > EXACT_FLOAT for number in numbers)


def type_of(value: object, depth: int = 0) -> pa.DataType:
    """Return the narrowest type of one value, as orjson loads it."""
    if isinstance(value, list) and depth < DEPTH:
        return pa.list_(reduce(merge_types, (type_of(one, depth + 1) for one in value), pa.null()))
    if isinstance(value, dict) and depth < DEPTH and len(value) <= _MOST_FIELDS:
        return pa.struct([(name, type_of(inner, depth + 1)) for name, inner in value.items()])
    if value is None:
        return pa.null()
    kind = SCALARS.get(frozenset({type(value)}), pa.string())
    return pa.string() if type(value) is int and value not in _INT64 else kind


def merge_types(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """Return the narrowest type that values of both types fit."""
    if left == right or pa.types.is_null(right):
        return left
    if pa.types.is_null(left):
        return right
    if {left, right} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if isinstance(left, pa.ListType) and isinstance(right, pa.ListType):
        return pa.list_(merge_types(left.value_type, right.value_type))
    if isinstance(left, pa.StructType) and isinstance(right, pa.StructType):
        fields = {field.name: field.type for field in left}
        for field in right:
            fields[field.name] = merge_types(fields.get(field.name, pa.null()), field.type)
        return pa.struct(list(fields.items())) if len(fields) <= _MOST_FIELDS else pa.string()
    return pa.string()


def resolved_type(kind: pa.DataType) -> pa.DataType:
    """Return the type with string in place of null, which is what was null in every row."""
    if isinstance(kind, pa.ListType):
        return pa.list_(resolved_type(kind.value_type))
    if isinstance(kind, pa.StructType):
        return pa.struct([(field.name, resolved_type(field.type)) for field in kind])
    return pa.string() if pa.types.is_null(kind) else kind


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
    if whole and pa.types.is_integer(kind) and int(value) in _INT64:
        return int(value)
    word = _WORDS.get(str(kind), str(kind).partition("<")[0])
    raise MisfitError(f"{checked_json(value)[:60]} is not a {word} as in the rows that the columns are from")


def as_column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Make a column of this type or, if one of the values isn't of it, a JSON column of all of them.

    Among floats, whole numbers are floats if a float holds them, so that a number is written alike in both
    columns. Raises MisfitError for a value that is nested too deep to be written.
    """
    if kind != JSON:
        with suppress(MisfitError):
            return pa.array([fit_value(value, kind, exact=True) for value in values], kind)
    texts = [None if value is None else checked_json(_as_floats(value, kind)) for value in values]
    return json_column(texts)


def _as_floats(value: object, kind: pa.DataType) -> object:
    if isinstance(kind, pa.ListType) and isinstance(value, list):
        return [_as_floats(item, kind.value_type) for item in value]
    whole = type(value) is int and abs(value) <= EXACT_FLOAT
    return float(value) if whole and pa.types.is_floating(kind) else value  # type: ignore[arg-type]


def checked_json(value: object) -> str:
    """Write the value as JSON; MisfitError if it is nested too deep to be written."""
    try:
        return dump_json(value)
    except RecursionError as error:
        raise MisfitError("the value is nested too deep") from error
