"""The value columns of identifications, taken out of their structs and put back into them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etl import amplitude

Path = tuple[str, ...]


def bundles(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Columns that one row decides together: a family's fields, and a property set here and unset there."""
    together: dict[object, list[Path]] = {}
    for path in paths:
        together.setdefault(_bundle_of(path), []).append(path)
    yield from together.values()


def _bundle_of(path: Path) -> object:
    if len(path) == 1:
        return next((family for family in amplitude.FAMILIES if path[0] in family), path)
    if path[:2] in {("user_properties", "$set"), ("user_properties", "$unset")}:
        return ("$set", path[2])
    return path


def leaves(identifications: pa.RecordBatch) -> Iterator[tuple[Path, pa.Array]]:
    """Every value column with its path: (field,), ("groups", type), ("user_properties", operator, name)."""
    for field, column in zip(identifications.schema, identifications.columns, strict=True):
        depth = {"groups": 1, "user_properties": 2}.get(field.name, 0)
        yield from _open((field.name,), column, depth)


def _open(path: Path, column: pa.Array, depth: int) -> Iterator[tuple[Path, pa.Array]]:
    if depth == 0 or not pa.types.is_struct(column.type):
        yield path, column
        return
    for field, child in zip(column.type, column.flatten(), strict=True):
        yield from _open((*path, field.name), child, depth - 1)


def assemble(field: pa.Field, path: Path, merged: dict[Path, pa.Array]) -> pa.Array:
    """Put merged columns back into the structs they came from; a struct of nulls is null."""
    if path in merged:
        return merged[path]
    children = [assemble(child, (*path, child.name), merged) for child in field.type]
    empty = np.logical_and.reduce([~valid(child) for child in children])
    names = [child.name for child in field.type]
    return pa.StructArray.from_arrays(children, names=names, mask=pa.array(empty))


def valid(column: pa.Array) -> NDArray[np.bool_]:
    """Which values of a column aren't null; shape (n,)."""
    mask: NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return mask
