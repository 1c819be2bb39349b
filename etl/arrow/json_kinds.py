"""JSON texts sorted by kind, each kind as an array of its type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from etl.arrow.exact_json import load

Kind: TypeAlias = Literal["typed", "nested", "huge"]
Rows: TypeAlias = NDArray[np.int64]

_INT64: Final = range(-(2**63), 2**63)
_UINT64: Final = range(2**64)
_EXACT: Final = 2**53  # up to it a float holds every whole number
_TYPES: Final[dict[str, tuple[Kind, pa.DataType]]] = {
    "text": ("typed", pa.string()),
    "boolean": ("typed", pa.bool_()),
    "whole": ("typed", pa.int64()),
    "unsigned": ("typed", pa.uint64()),
    "float": ("typed", pa.float64()),
    "list of str": ("typed", pa.list_(pa.string())),
    "list of bool": ("typed", pa.list_(pa.bool_())),
    "list of int": ("typed", pa.list_(pa.int64())),
    "list of float": ("typed", pa.list_(pa.float64())),
    "nested": ("nested", pa.string()),
    "huge": ("huge", pa.string()),
}


def by_kind(texts: Iterable[str | None]) -> Iterator[tuple[Kind, Rows, pa.Array]]:
    """The values by kind, without nulls: the rows, and an array of the kind's type.

    `typed` are single values, and lists of one type; `nested` are objects and other lists, as JSON text;
    `huge` are whole numbers beyond 64 bits, as text.
    """
    found: dict[str, tuple[list[int], list[object]]] = {}
    for row, text in enumerate(texts):
        if text is not None:
            name, value = _sorted(text)
            rows, values = found.setdefault(name, ([], []))
            rows.append(row)
            values.append(value)
    for name, (rows, values) in found.items():
        kind, type_ = _TYPES[name]
        yield kind, np.array(rows, dtype=np.int64), pa.array(values, type_)


def _sorted(text: str) -> tuple[str, object]:
    first = text[0]
    if first == '"':
        return "text", orjson.loads(text)
    if first in "{n":
        return "nested", text
    if first == "[":
        return _sorted_list(text)
    if first in "tf":
        return "boolean", first == "t"
    if text.lstrip("-").isdigit():
        return _sorted_whole(text)
    return "float", float(text)


def _sorted_whole(text: str) -> tuple[str, object]:
    number = int(text)
    if number in _INT64:
        return "whole", number
    return ("unsigned", number) if number in _UINT64 else ("huge", text)


def _sorted_list(text: str) -> tuple[str, object]:
    elements: list[Any] = load(text)
    kinds = {type(element) for element in elements if element is not None}
    if kinds == {int, float} and all(
        isinstance(one, float) or one is None or abs(one) <= _EXACT for one in elements
    ):
        return "list of float", elements
    if len(kinds) > 1 or kinds & {dict, list}:
        return "nested", text
    kind = next(iter(kinds), str)
    # Only now: a float is looked for in a range one by one.
    if kind is int and not all(element is None or element in _INT64 for element in elements):
        return "nested", text
    return f"list of {kind.__name__}", elements
