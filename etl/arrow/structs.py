"""The value columns of identifications: taken out of their structs, and nested into them again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .. import amplitude

FieldPath = tuple[str, ...]
# All of Arrow's types of lists.
LIST_TYPES = (pa.ListType, pa.LargeListType, pa.FixedSizeListType, pa.ListViewType, pa.LargeListViewType)


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


def nest_columns(field: pa.Field, path: FieldPath, columns: dict[FieldPath, pa.Array]) -> pa.Array:
    """Nest value columns into the structs that they were taken from; a struct of nulls is null."""
    if path in columns:
        return columns[path]
    children = [nest_columns(child, (*path, child.name), columns) for child in field.type]
    empty = np.logical_and.reduce([~valid_mask(child) for child in children])
    names = [child.name for child in field.type]
    return pa.StructArray.from_arrays(children, names=names, mask=pa.array(empty))


def valid_mask(column: pa.Array) -> NDArray[np.bool_]:
    """Mark the values of a column that aren't null; shape (n,)."""
    mask: NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return mask
