"""Objects out of columns; one whose members are all null is null itself, so that its key is left out."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterable


def struct_of(members: Iterable[tuple[str, pa.Array]], n: int) -> pa.Array:
    """A struct array of n objects; without members, n nulls."""
    names, columns = zip(*members, strict=True) if (members := list(members)) else ((), ())
    if not columns:
        return pa.nulls(n, pa.string())
    return pa.StructArray.from_arrays(list(columns), names=list(names), mask=all_null(columns, n))


def all_null(columns: Iterable[pa.Array], n: int) -> pa.Array:
    """Which rows are null in every column; boolean, shape (n,)."""
    columns = list(columns)
    if any(column.null_count == 0 for column in columns):
        return pa.repeat(pa.scalar(value=False), n)
    return reduce(pc.and_, (column.is_null() for column in columns), pa.repeat(pa.scalar(value=True), n))
