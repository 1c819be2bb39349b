"""The value columns of identifications: taken out of their structs, and nested into them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from .. import amplitude
from .layout import valid_mask

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


def nested_rows(schema: pa.Schema, columns: Mapping[FieldPath, pa.Array]) -> pa.RecordBatch:
    """Identifications of a schema's fields, with value columns nested into their structs.

    A struct of nulls is null.
    """
    arrays = [_nested(field, (field.name,), columns) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, names=schema.names)


def _nested(field: pa.Field, path: FieldPath, columns: Mapping[FieldPath, pa.Array]) -> pa.Array:
    if path in columns:
        return columns[path]
    children = [_nested(child, (*path, child.name), columns) for child in field.type]
    empty = np.logical_and.reduce([~valid_mask(child) for child in children])
    names = [child.name for child in field.type]
    return pa.StructArray.from_arrays(children, names=names, mask=pa.array(empty))
