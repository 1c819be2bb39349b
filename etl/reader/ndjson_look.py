"""A look at the beginning of an NDJSON file: which columns there are, and of what kinds their values are.

What a value becomes doesn't depend on it. It tells which columns can be read at full speed, and whether whole
numbers among others are written with a point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from etl.arrow.json_type import JSON
from etl.reader.json_values import EXACT

_KNOWN_SHAPES: Final = 10_000
_MOST_COLUMNS: Final = 20_000
_SCALARS: Final[Mapping[frozenset[type], pa.DataType]] = {
    frozenset(): pa.string(),
    frozenset({str}): pa.string(),
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
}


@dataclass(slots=True)
class Kinds:
    """Of what kinds the values of a column are, as Python has them; those of the elements of its lists.

    `wide`: there are whole numbers that a float doesn't hold.
    """

    values: set[type] = field(default_factory=set)
    elements: set[type] = field(default_factory=set)
    wide: bool = False

    def common_type(self) -> pa.DataType:
        """The type that can be read at full speed without any value becoming another, or JSON."""
        if self.values == {list}:
            inner = self._scalar(self.elements - {type(None)})
            return JSON if inner is None else pa.list_(inner)
        scalar = self._scalar(self.values)
        return JSON if scalar is None else scalar

    def _scalar(self, kinds: set[type]) -> pa.DataType | None:
        return None if self.wide and float in kinds else _SCALARS.get(frozenset(kinds))


class Look:
    """What was seen of a file. `whole` says that no line was left out and no column forgotten."""

    def __init__(self) -> None:
        self.columns: dict[str, Kinds] = {}
        self.whole = True
        # Which columns of rows of one shape have lists, whose elements have to be looked at in each row.
        self._lists: dict[tuple[object, ...], tuple[str, ...]] = {}

    def add(self, row: Mapping[str, Any], *, long: bool) -> None:
        """Take in a row; `long` says that its text may have numbers that a float doesn't hold."""
        shape = (*row, *map(type, row.values()))
        lists = self._lists.get(shape)
        if lists is None or long:
            lists = self._note(row, shape, long=long)
        for name in lists:
            elements = set(map(type, row[name]))
            known = self.columns.get(name)
            if known is not None and not elements <= known.elements:
                known.elements |= elements

    def add_names(self, names: Iterable[str]) -> None:
        """Take in the columns of a row whose values can't all be used."""
        for name in names:
            if _is_text(name):
                self._kinds_of(name)

    def _kinds_of(self, name: str) -> Kinds | None:
        """Of a column, which is remembered unless there are too many."""
        kinds = self.columns.get(name)
        if kinds is None and len(self.columns) >= _MOST_COLUMNS:
            self.whole = False
        elif kinds is None:
            kinds = self.columns[name] = Kinds()
        return kinds

    def _note(self, row: Mapping[str, Any], shape: tuple[object, ...], *, long: bool) -> tuple[str, ...]:
        if len(self._lists) >= _KNOWN_SHAPES:
            self._lists.clear()
        lists = self._lists[shape] = tuple(name for name, value in row.items() if isinstance(value, list))
        for name, value in row.items():
            kinds = self._kinds_of(name)
            if kinds is None or value is None:
                continue
            kinds.values.add(type(value))
            if long:
                numbers = value if isinstance(value, list) else [value]
                kinds.wide |= any(isinstance(number, int) and abs(number) > EXACT for number in numbers)
        return lists


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
