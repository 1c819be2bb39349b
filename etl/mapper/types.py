"""The job's types: what plain values become under each of them, and what of them is a fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from etl.mapper.cells import Cells
from etl.mapper.dates import (
    check_days,
    days_as_seconds,
    parse_dates,
    parse_datetimes,
    seconds_as_days,
    to_seconds,
)
from etl.mapper.json_values import parse_json
from etl.mapper.limits import fit_lists, fit_strings
from etl.mapper.lists import is_list, split, wrap
from etl.mapper.native import as_text, native
from etl.mapper.numbers import finite, parse_booleans, parse_integers, parse_numbers, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from etl.job.spec import ColumnSpec


def convert(values: pa.Array, spec: ColumnSpec) -> Cells:
    """Plain values as the spec's type; without one they keep the source's."""
    return native(values, spec.too_long) if spec.type is None else _TYPES[spec.type](values, spec)


def _string(values: pa.Array, spec: ColumnSpec) -> Cells:
    return as_text(values).then(lambda texts: fit_strings(texts, spec.too_long))


def _number(values: pa.Array, _: ColumnSpec) -> Cells:
    if pa.types.is_integer(values.type) or pa.types.is_decimal(values.type):
        return Cells(values)
    if pa.types.is_floating(values.type):
        return finite(values)
    return as_text(values).then(parse_numbers)


def _integer(values: pa.Array, _: ColumnSpec) -> Cells:
    if pa.types.is_integer(values.type):
        return Cells(values)
    if pa.types.is_floating(values.type):
        return whole(values)
    texts = as_text(values)
    if pa.types.is_decimal(values.type):
        texts = texts.then(lambda some: Cells(pc.replace_substring_regex(some, r"\.0+$", "")))
    return texts.then(parse_integers)


def _boolean(values: pa.Array, _: ColumnSpec) -> Cells:
    return Cells(values) if pa.types.is_boolean(values.type) else as_text(values).then(parse_booleans)


def _date(values: pa.Array, _: ColumnSpec) -> Cells:
    if pa.types.is_date(values.type):
        return check_days(values)
    if pa.types.is_timestamp(values.type):
        return seconds_as_days(values)
    return as_text(values).then(parse_dates)


def _datetime(values: pa.Array, _: ColumnSpec) -> Cells:
    if pa.types.is_date(values.type):
        return days_as_seconds(values)
    if pa.types.is_timestamp(values.type):
        return to_seconds(values)
    return as_text(values).then(parse_datetimes)


def _list(values: pa.Array, spec: ColumnSpec) -> Cells:
    if pa.types.is_string(values.type):
        return split(values, spec.separator).then(lambda lists: fit_lists(lists, spec.too_long))
    cells = native(values, spec.too_long)
    return cells if is_list(cells.values.type) else cells.then(lambda some: Cells(wrap(some)))


def _json(values: pa.Array, spec: ColumnSpec) -> Cells:
    return (
        parse_json(values, spec.too_long)
        if pa.types.is_string(values.type)
        else native(values, spec.too_long)
    )


_TYPES: Final[Mapping[str, Callable[[pa.Array, ColumnSpec], Cells]]] = {
    "string": _string,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
    "list": _list,
    "json": _json,
}
