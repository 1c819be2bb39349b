"""Values that stand within the objects of a column: structs, maps, and objects in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.arrow.exact_json import dump, load
from etl.arrow.json_type import is_json, json_column
from etl.arrow.raw_json import mark, marked
from etl.errors import SourceError
from etl.json_lines import json_texts
from etl.mapper.cells import Cells, faults_of
from etl.mapper.lists import is_list, open_lists
from etl.mapper.plain import plain
from etl.mapper.steps import empty_to_null, words_to_null

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.job.spec import ColumnSpec

NO_OBJECT: Final = "{} is not an object, so `path` leads nowhere in it"


def at_path(values: pa.Array, spec: ColumnSpec) -> Cells:
    """What stands at the spec's path in each value; null where an object has no such part.

    Objects in JSON give JSON values. Raises SourceError for a struct whose type has no such part.
    """
    if is_json(values.type):
        return _in_json(values.storage, spec.path)
    cells = plain(values)
    if pa.types.is_string(cells.values.type):
        cells = cells.then(lambda texts: words_to_null(pc.utf8_trim_whitespace(texts), spec.nulls))
        cells = cells.then(empty_to_null)
        return cells.then(lambda texts: _in_json(texts, spec.path))
    return cells.then(lambda some: _step(some, spec.path, spec.column or ""))


def steady(values: pa.Array, role: str) -> pa.Array:
    """Values that came of JSON text in a type that depends on the role alone, not on what they are.

    Where chunks end must not depend on how rows are batched.
    """
    if role == "time":
        return values.cast(pa.int64())
    if role == "list":
        if not is_list(values.type):
            return pa.nulls(len(values), pa.list_(pa.string()))
        opened = open_lists(values)
        return opened.rebuilt(marked(opened.flat), keep=np.ones(len(opened.flat), np.bool_))
    if role == "value" and not pa.types.is_string(values.type):
        return mark(json_texts(values))
    return values


def _step(values: pa.Array, path: Sequence[str], column: str) -> Cells:
    if not path:
        return Cells(values)
    kind, part = values.type, path[0]
    if pa.types.is_struct(kind):
        if kind.get_field_index(part) < 0:
            names = ", ".join(field.name for field in kind)
            raise SourceError(f"column {column} has no part `{part}`", hint=f"its parts are {names}")
        return _inner(pc.struct_field(values, part), path, column)
    if pa.types.is_map(kind) and pa.types.is_string(kind.key_type):
        return _inner(pc.map_lookup(values, part, "last"), path, column)
    nothing = pa.nulls(len(values), pa.string())
    return Cells(nothing, faults_of("bad_path", values.is_valid(), NO_OBJECT))


def _inner(values: pa.Array, path: Sequence[str], column: str) -> Cells:
    if len(path) == 1:
        return Cells(values)
    cells = plain(values)
    if pa.types.is_string(cells.values.type):
        return cells.then(empty_to_null).then(lambda texts: _in_json(texts, path[1:]))
    return cells.then(lambda some: _step(some, path[1:], column))


def _in_json(texts: pa.Array, path: Sequence[str]) -> Cells:
    found: list[str | None] = []
    wrong = np.zeros(len(texts), dtype=np.bool_)
    for row, text in enumerate(texts.to_pylist()):
        value = None
        try:
            value = None if text is None else load(text)
            for part in path:
                value = None if value is None else _part(value, part)
        except (ValueError, RecursionError):
            value, wrong[row] = None, True
        found.append(None if value is None else dump(value))
    return Cells(json_column(found), faults_of("bad_path", wrong, NO_OBJECT))


def _part(value: object, part: str) -> object:
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - told as a fault of the row
    return value.get(part)
