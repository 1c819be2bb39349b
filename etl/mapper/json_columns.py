"""Columns of JSON values: split by kind, each kind read as a column of its type, and merged; and `path`.

So a value becomes the same whatever kinds of values stand in the rows around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.limits import MAX_SAFE_INTEGER
from ..arrow.exact_json import (
    JsonKind,
    RowIndices,
    dump_json,
    group_by_kind,
    is_json,
    json_column,
    load_json,
)
from ..arrow.json_lines import as_marked_text, unmark_json
from ..errors import SourceError
from .column_values import ColumnValues, ValueIssue, empty_to_null, issues_of, words_to_null
from .lists import flatten_lists, is_list
from .numbers import loses_digits
from .typed_values import plain_values

if TYPE_CHECKING:
    from ..job.column_spec import ColumnSpec

NOT_AN_OBJECT: Final = "{} is not an object, so `path` leads nowhere in it"

ReadKind: TypeAlias = Callable[[pa.Array], ColumnValues]


# --- columns of JSON values ------------------------------------------------------------------------------


def read_json(values: pa.ExtensionArray, read: Mapping[JsonKind, ReadKind]) -> ColumnValues:
    """Read JSON values by their kinds, as `by_kind` has them.

    If all results are of one type, the column has it. Otherwise it is text, and what is not text is marked
    JSON in it.
    """
    n = len(values)
    parts: list[tuple[RowIndices, pa.Array]] = []
    issues: list[ValueIssue] = []
    for kind, rows, part in group_by_kind(values.storage.to_pylist()):
        found = read[kind](part)
        parts.append((rows, found.values))
        for issue in found.issues:
            marks = np.zeros(n, dtype=np.bool_)
            marks[rows[issue.rows]] = True
            shown = None if issue.shown is None else _scatter(issue.shown, rows, n)
            issues.append(ValueIssue(issue.code, marks, issue.message, shown))
    if not parts:
        return ColumnValues(pa.nulls(n, pa.string()))
    arrays = _same_type([array for _, array in parts])
    merged = _scatter(pa.concat_arrays(arrays), np.concatenate([rows for rows, _ in parts]), n)
    return ColumnValues(merged, tuple(issues))


def fill_nulls(values: pa.Array, filling: pa.Array) -> pa.Array:
    """Nulls replaced by a filling of shape (1,), which may be of another type."""
    places = np.where(np.asarray(values.is_null()), len(values), np.arange(len(values)))
    return pa.concat_arrays(_same_type([values, filling])).take(pa.array(places))


def loses_marked_digits(values: pa.Array) -> bool:
    """As `loses_digits`, also of numbers in marked text."""
    if is_list(values.type):
        return loses_marked_digits(values.flatten())
    if not pa.types.is_string(values.type):
        return loses_digits(values)
    long = values.filter(pc.match_substring_regex(values, r"^\x00.*\(-?\d{16,}\)").fill_null(False))
    numbers = (unmark_json(text) for text in long.to_pylist())
    return any(abs(int(digits)) > MAX_SAFE_INTEGER for digits in numbers if digits)


def _scatter(values: pa.Array, rows: RowIndices, n: int) -> pa.Array:
    """The values at their rows among n, null elsewhere."""
    places = np.full(n, -1, dtype=np.int64)
    places[rows] = np.arange(len(rows))
    return values.take(pa.array(places, mask=places < 0))


def _same_type(arrays: list[pa.Array]) -> list[pa.Array]:
    """Arrays of several types as strings, or lists of several types as lists of strings, with marked JSON."""
    if all(values.type == arrays[0].type for values in arrays):
        return arrays
    if all(is_list(values.type) for values in arrays):
        return [mark_lists(values) for values in arrays]
    return [as_marked_text(values) for values in arrays]


def mark_lists(values: pa.Array) -> pa.Array:
    """Lists of any type as lists of strings: text as it is, every other element as its marked JSON."""
    lists = flatten_lists(values)
    return lists.rebuild(as_marked_text(lists.elements))


# --- paths into objects ----------------------------------------------------------------------------------


def at_path(values: pa.Array, spec: ColumnSpec) -> ColumnValues:
    """What stands at the spec's path in each value; null where an object has no such part.

    Objects in JSON give JSON values. Raises SourceError for a struct whose type has no such part.
    """
    if is_json(values.type):
        return _in_json(values.storage, spec.path)
    plain = plain_values(values)
    if pa.types.is_string(plain.values.type):
        texts = plain.then(lambda some: words_to_null(pc.utf8_trim_whitespace(some), spec.nulls))
        return texts.then(empty_to_null).then(lambda some: _in_json(some, spec.path))
    return plain.then(lambda some: _in_struct(some, spec.path, spec.column or ""))


def stable_type(values: pa.Array, role: str) -> pa.Array:
    """Values read from JSON text in a type that depends on the role alone, not on what they are.

    Where chunks end must not depend on how rows are batched.
    """
    if role == "time":
        return values.cast(pa.int64())
    if role == "list":
        return mark_lists(values) if is_list(values.type) else pa.nulls(len(values), pa.list_(pa.string()))
    return as_marked_text(values) if role == "value" else values


def _in_struct(values: pa.Array, path: Sequence[str], column: str) -> ColumnValues:
    kind, part = values.type, path[0]
    if pa.types.is_struct(kind):
        if kind.get_field_index(part) < 0:
            names = ", ".join(field.name for field in kind)
            raise SourceError(f"column {column} has no part `{part}`", hint=f"its parts are {names}")
        inner = pc.struct_field(values, part)
    elif pa.types.is_map(kind) and pa.types.is_string(kind.key_type):
        inner = pc.map_lookup(values, part, "last")
    else:
        nothing = pa.nulls(len(values), pa.string())
        return ColumnValues(nothing, issues_of("bad_path", values.is_valid(), NOT_AN_OBJECT))
    if len(path) == 1:
        return ColumnValues(inner)
    plain = plain_values(inner)
    if pa.types.is_string(plain.values.type):
        return plain.then(empty_to_null).then(lambda texts: _in_json(texts, path[1:]))
    return plain.then(lambda some: _in_struct(some, path[1:], column))


def _in_json(texts: pa.Array, path: Sequence[str]) -> ColumnValues:
    found: list[str | None] = []
    wrong = np.zeros(len(texts), dtype=np.bool_)
    for row, text in enumerate(texts.to_pylist()):
        try:
            value = None if text is None else load_json(text)
        except (ValueError, RecursionError):
            value, wrong[row] = None, True
        for part in path:
            if value is not None and not isinstance(value, dict):
                value, wrong[row] = None, True
            value = None if value is None else value.get(part)
        found.append(None if value is None else dump_json(value))
    return ColumnValues(json_column(found), issues_of("bad_path", wrong, NOT_AN_OBJECT))
