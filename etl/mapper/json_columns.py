"""Columns of JSON values: taken apart by kind, each kind read as any column of its type, and put together.

So a value becomes the same whatever kinds of values stand in the rows around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.amplitude import MAX_SAFE_INTEGER
from etl.arrow.json_kinds import Kind, Rows, by_kind
from etl.arrow.raw_json import marked, unmarked
from etl.mapper.cells import Cells, Fault
from etl.mapper.lists import is_list, open_lists
from etl.mapper.numbers import loses_digits

Read: TypeAlias = Callable[[pa.Array], Cells]


def read_json(values: pa.ExtensionArray, read: Mapping[Kind, Read]) -> Cells:
    """Read JSON values by their kinds, as `by_kind` has them.

    Where what comes of them is of one type, the result has it, otherwise it is text, and what isn't text is
    marked JSON in it.
    """
    n = len(values)
    parts = [(rows, read[kind](part)) for kind, rows, part in by_kind(values.storage.to_pylist())]
    faults = tuple(_spread(fault, rows, n) for rows, cells in parts for fault in cells.faults)
    return Cells(_together([(rows, cells.values) for rows, cells in parts], n), faults)


def fill_nulls(values: pa.Array, filling: pa.Array) -> pa.Array:
    """Nulls replaced by a filling of shape (1,), which may be of another type."""
    if values.type != filling.type:
        values, filling = _alike([values, filling])
    places = np.where(np.asarray(values.is_null()), len(values), np.arange(len(values)))
    return pa.concat_arrays([values, filling]).take(pa.array(places))


def marked_loses_digits(values: pa.Array) -> bool:
    """Whether a value is a whole number that a browser shows with other digits; it may be marked text."""
    if is_list(values.type):
        return marked_loses_digits(values.flatten())
    if not pa.types.is_string(values.type):
        return loses_digits(values)
    long = values.filter(pc.match_substring_regex(values, r"^\x00.*\(-?\d{16,}\)").fill_null(False))
    numbers = (unmarked(text) for text in long.to_pylist())
    return any(abs(int(digits)) > MAX_SAFE_INTEGER for digits in numbers if digits)


def _spread(fault: Fault, rows: Rows, n: int) -> Fault:
    """A fault of some rows as one of all n."""
    marks = np.zeros(n, dtype=np.bool_)
    marks[rows[fault.rows]] = True
    shown = None if fault.shown is None else _scattered(fault.shown, rows, n)
    return Fault(fault.code, marks, fault.says, shown)


def _scattered(values: pa.Array, rows: Rows, n: int) -> pa.Array:
    """The values at their rows among n, null elsewhere."""
    places = np.full(n, -1, dtype=np.int64)
    places[rows] = np.arange(len(rows))
    return values.take(pa.array(places, mask=places < 0))


def _together(parts: list[tuple[Rows, pa.Array]], n: int) -> pa.Array:
    if not parts:
        return pa.nulls(n, pa.string())
    arrays = [values for _, values in parts]
    if any(values.type != arrays[0].type for values in arrays):
        arrays = _alike(arrays)
    return _scattered(pa.concat_arrays(arrays), np.concatenate([rows for rows, _ in parts]), n)


def _alike(arrays: list[pa.Array]) -> list[pa.Array]:
    """Arrays of any types as strings, or all of them lists as lists of strings; JSON is marked in them."""
    if not all(is_list(values.type) for values in arrays):
        return [marked(values) for values in arrays]
    opened = [open_lists(values) for values in arrays]
    return [one.rebuilt(marked(one.flat), keep=np.ones(len(one.flat), np.bool_)) for one in opened]
