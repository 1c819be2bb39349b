"""The value columns of identifications: taken out of their structs, and nested into them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from .. import amplitude
from .layout import RowMask, as_mask

FieldPath = tuple[str, ...]


def field_groups(paths: Sequence[FieldPath]) -> Iterator[list[FieldPath]]:
    """Group columns that one row decides together: a family's fields, or `$set` and `$unset` of a name."""
    groups: dict[object, list[FieldPath]] = {}
    for path in paths:
        group: object = path
        if len(path) == 1:
            group = next((family for family in amplitude.FAMILIES if path[0] in family), path)
        elif path[:2] in {("user_properties", "$set"), ("user_properties", "$unset")}:
            group = ("$set", path[2])
        groups.setdefault(group, []).append(path)
    yield from groups.values()


def value_columns(identifications: pa.RecordBatch) -> Iterator[tuple[FieldPath, pa.Array]]:
    """Yield each value column and its path.

    A path is (field,), ("groups", type) or ("user_properties", operator, name).
    """
    for field, column in zip(identifications.schema, identifications.columns, strict=True):
        depth = {"groups": 1, "user_properties": 2}.get(field.name, 0)
        yield from _flattened((field.name,), column, depth)


def _flattened(path: FieldPath, column: pa.Array, depth: int) -> Iterator[tuple[FieldPath, pa.Array]]:
    if depth == 0 or not pa.types.is_struct(column.type):
        yield path, column
        return
    for field, child in zip(column.type, column.flatten(), strict=True):
        yield from _flattened((*path, field.name), child, depth - 1)


def nested_rows(columns: Mapping[FieldPath, pa.Array]) -> pa.RecordBatch:
    """Identifications with value columns (shape (n,) each) nested into structs, in order of appearance.

    A struct of nulls is null.
    """
    names, arrays = map(list, zip(*_nested(columns), strict=True))
    return pa.RecordBatch.from_arrays(arrays, names=names)


def _nested(columns: Mapping[FieldPath, pa.Array]) -> Iterator[tuple[str, pa.Array]]:
    members: dict[str, dict[FieldPath, pa.Array]] = {}
    for (name, *rest), values in columns.items():
        members.setdefault(name, {})[tuple(rest)] = values
    for name, own in members.items():
        yield name, own[()] if () in own else struct_of(list(_nested(own)))


def struct_of(members: Sequence[tuple[str, pa.Array]]) -> pa.Array:
    """A struct array of the members, at least one of them, each of shape (n,); null where all are null."""
    names, columns = map(list, zip(*members, strict=True))
    return pa.StructArray.from_arrays(columns, names=names, mask=pa.array(all_null(columns)))


def all_null(columns: Sequence[pa.Array]) -> RowMask:
    """Which rows are null in each of the columns, at least one of them; shape (n,)."""
    if any(column.null_count == 0 for column in columns):
        return np.zeros(len(columns[0]), np.bool_)
    null: RowMask = np.logical_and.reduce([as_mask(column.is_null()) for column in columns])
    return null
