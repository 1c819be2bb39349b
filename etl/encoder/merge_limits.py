"""How many rows of one user can be merged: a sum or a list can hold only so much and stay exact.

Each row takes a share of what one identification holds, by column. Rows that take more than all of it
together aren't merged; they go in chunks one after the other. A share depends on the row's value alone, and
is a whole number of `WHOLE` parts, so that sums of shares don't depend on how rows were batched.
"""

from __future__ import annotations

import json
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl import amplitude
from etl.json_lines import Splice, json_lines
from etl.leaves import leaves

Shares: TypeAlias = NDArray[np.int64]
_Numbers: TypeAlias = NDArray[np.float64]

WHOLE: Final = 1 << 40
_MOST: Final = 2 * WHOLE  # of one row; thousands of them can be added up
# Below what the types hold: adding up in doubles, as is done here, is off by less than the difference.
_MOST_INTEGER: Final = 9e18
_MOST_FLOAT: Final = 1e308
_DECIMAL_DIGITS: Final = 38
_ADDING: Final = frozenset({"$add", *amplitude.LIST_OPERATORS})
_MOST_CHARACTERS: Final = amplitude.MAX_STRING_LENGTH  # of all strings in a list; the server drops the rest


def merge_shares(identifications: pa.RecordBatch, splice: Splice | None = None) -> Shares | None:
    """The share of each row in each column whose values add up; shape (n, c). None where there is none.

    `splice` makes JSON lines of marked strings what they stand for.
    """
    operators = _operators(identifications.schema)
    if "$clearAll" in operators or _ADDING.isdisjoint(
        operators
    ):  # in the first case only the last row counts
        return None
    shares = [
        _shares_of_sum(column, splice) if path[1] == "$add" else _shares_of_list(column, splice)
        for path, column in leaves(identifications)
        if path[0] == "user_properties" and path[1] in _ADDING
    ]
    whole: Shares = np.minimum(np.ceil(np.stack(shares, axis=1) * WHOLE), _MOST).astype(np.int64)
    return whole


def _operators(schema: pa.Schema) -> set[str]:
    place = schema.get_field_index("user_properties")
    return {field.name for field in schema.field(place).type} if place >= 0 else set()


def _shares_of_sum(column: pa.Array, splice: Splice | None) -> _Numbers:
    kind = column.type
    if pa.types.is_decimal(kind):
        return np.abs(_floats(column)) / float(10.0 ** (_DECIMAL_DIGITS - 1 - kind.scale))
    if pa.types.is_integer(kind):
        return np.abs(_floats(column)) / _MOST_INTEGER
    if pa.types.is_floating(kind):
        return np.abs(_floats(column)) / _MOST_FLOAT
    return np.array([_share_of_number(value) for value in json_values(column, splice)], dtype=np.float64)


def _share_of_number(value: object) -> float:
    if isinstance(value, int):
        return float(min(abs(value), 10**300)) / _MOST_INTEGER
    return abs(value) / _MOST_FLOAT if isinstance(value, float) else 0.0


def _floats(column: pa.Array) -> _Numbers:
    """Values as doubles; 0 for null."""
    floats: _Numbers = column.cast(pa.float64(), safe=False).fill_null(0.0).to_numpy(zero_copy_only=False)
    return floats


def _shares_of_list(column: pa.Array, splice: Splice | None) -> _Numbers:
    """By bytes, which are never fewer than characters; the server counts strings only."""
    elements = column.flatten()
    if not pa.types.is_string(elements.type):
        return np.zeros(len(column))
    rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int64)
    if may_be_marked(elements):
        found = json_values(elements, splice)
        sizes = np.array([len(value.encode()) if isinstance(value, str) else 0 for value in found])
    else:
        sizes = pc.binary_length(elements).fill_null(0).to_numpy(zero_copy_only=False)
    return np.bincount(rows, weights=sizes, minlength=len(column)) / _MOST_CHARACTERS


def may_be_marked(texts: pa.Array) -> bool:
    """Whether one of them can stand for other JSON than a string: marks have a NUL in them."""
    return bool(pc.any(pc.match_substring(texts, "\x00")).as_py())


def json_values(values: pa.Array, splice: Splice | None) -> list[object]:
    """Each value as it is read from JSON, whole numbers with all their digits; shape (n,)."""
    lines = json_lines(pa.record_batch([values], names=["v"]), explicit_nulls=True, splice=splice)
    return [json.loads(line)["v"] for line in lines.split(b"\n")[:-1]]
