"""How mapped columns make identifications: which key stands where, and what is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.operators import ID_FIELDS, OPERATORS, STRING_FIELDS, TIME_FIELD, UNSET_VALUE
from .typed_values import all_null, struct_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..job.identification_spec import Identification
    from .column_values import RowMask


def build_identifications(
    identification: Identification, values: Mapping[str, pa.Array], n: int, skipped: Mapping[str, RowMask]
) -> pa.RecordBatch:
    """Build n identifications. `values` (shape (n,) each) go by their places in `specs()`.

    `skipped` marks rows whose value in a place is left out: it is not a null that `null: unset` is for.
    """
    fields = [name for name in (*ID_FIELDS, TIME_FIELD, *STRING_FIELDS) if name in identification.fields]
    columns = {name: values[name] for name in fields}
    if identification.groups:
        groups = [(name, values[f"groups.{name}"]) for name in identification.groups]
        columns["groups"] = struct_of(groups, n)
    operators: list[tuple[str, pa.Array]] = []
    for operator in OPERATORS:
        properties = identification.operators.get(operator, {})
        if operator == "$clearAll" and identification.clear_all:
            operators.append((operator, pa.repeat(UNSET_VALUE, n)))
        elif operator == "$unset":
            unset = _unset_properties(identification, values, n, skipped)
            if unset:
                operators.append((operator, struct_of(unset, n)))
        elif properties:
            members = [(name, values[f"user_properties.{operator}.{name}"]) for name in properties]
            operators.append((operator, struct_of(members, n)))
    if operators:
        columns["user_properties"] = struct_of(operators, n)
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def without_update(identifications: pa.RecordBatch) -> pa.Array:
    """Which rows have nothing but ids and a time; boolean, shape (n,)."""
    names = [name for name in identifications.schema.names if name not in {*ID_FIELDS, TIME_FIELD}]
    return all_null([identifications.column(name) for name in names], identifications.num_rows)


def _unset_properties(
    identification: Identification, values: Mapping[str, pa.Array], n: int, skipped: Mapping[str, RowMask]
) -> list[tuple[str, pa.Array]]:
    """Properties to unset: those that the job names, and of `null: unset` columns those without a value."""
    found = [(name, pa.repeat(UNSET_VALUE, n)) for name in identification.unset]
    for name, spec in identification.operators.get("$set", {}).items():
        if spec.null == "unset":
            place = f"user_properties.$set.{name}"
            absent = values[place].is_null()
            if place in skipped:
                absent = pc.and_not(absent, pa.array(skipped[place]))
            found.append((name, pc.if_else(absent, UNSET_VALUE, pa.scalar(None, pa.string()))))
    return found
