"""How mapped columns are put together to identifications: which key stands where, and what is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from etl.amplitude import ID_FIELDS, OPERATORS, STRING_FIELDS, TIME_FIELD, UNSET_VALUE
from etl.mapper.structs import all_null, struct_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from etl.job.spec import Identification
    from etl.mapper.cells import Mask


def assemble(
    identification: Identification,
    values: Mapping[str, pa.Array],
    n: int,
    left_out: Mapping[str, Mask] | None = None,
) -> pa.RecordBatch:
    """Put n identifications together. `values` (shape (n,) each) go by their places in `specs()`.

    `left_out` marks rows of which nothing is said in that place: no null that `null: unset` would mean.
    """
    fields = [name for name in (*ID_FIELDS, TIME_FIELD, *STRING_FIELDS) if name in identification.fields]
    columns = {name: values[name] for name in fields}
    if identification.groups:
        groups = [(name, values[f"groups.{name}"]) for name in identification.groups]
        columns["groups"] = struct_of(groups, n)
    operators = list(_operators(identification, values, n, left_out or {}))
    if operators:
        columns["user_properties"] = struct_of(operators, n)
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def says_nothing(identifications: pa.RecordBatch) -> pa.Array:
    """Which rows have nothing but ids and a time; boolean, shape (n,)."""
    names = [name for name in identifications.schema.names if name not in {*ID_FIELDS, TIME_FIELD}]
    updates = [identifications.column(name) for name in names]
    return all_null(updates, identifications.num_rows)


def _operators(
    identification: Identification, values: Mapping[str, pa.Array], n: int, left_out: Mapping[str, Mask]
) -> Iterator[tuple[str, pa.Array]]:
    for operator in OPERATORS:
        properties = identification.operators.get(operator, {})
        if operator == "$clearAll" and identification.clear_all:
            yield operator, pa.repeat(UNSET_VALUE, n)
        elif operator == "$unset":
            unset = list(_unset(identification, values, n, left_out))
            if unset:
                yield operator, struct_of(unset, n)
        elif properties:
            members = [(name, values[f"user_properties.{operator}.{name}"]) for name in properties]
            yield operator, struct_of(members, n)


def _unset(
    identification: Identification, values: Mapping[str, pa.Array], n: int, left_out: Mapping[str, Mask]
) -> Iterator[tuple[str, pa.Array]]:
    """Properties to take away: those the job names, and of `null: unset` columns those without a value."""
    for name in identification.unset:
        yield name, pa.repeat(UNSET_VALUE, n)
    for name, spec in identification.operators.get("$set", {}).items():
        if spec.null == "unset":
            place = f"user_properties.$set.{name}"
            absent = values[place].is_null()
            if place in left_out:
                absent = pc.and_not(absent, pa.array(left_out[place]))
            yield name, pc.if_else(absent, UNSET_VALUE, pa.scalar(None, pa.string()))
