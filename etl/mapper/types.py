"""The job's types: what plain values become under each of them, and what of them is a fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from etl.mapper.cells import Cells
from etl.mapper.counts import counted_moments
from etl.mapper.dates import (
    check_days,
    days_as_seconds,
    parse_dates,
    parse_datetimes,
    seconds_as_days,
    to_seconds,
)
from etl.mapper.json_values import parse_json
from etl.mapper.limits import fit_strings
from etl.mapper.list_texts import read_lists
from etl.mapper.lists import is_list, wrap
from etl.mapper.native import as_text, native
from etl.mapper.number_texts import plain_integers, plain_numbers, writes_numbers
from etl.mapper.numbers import finite, parse_booleans, parse_integers, parse_numbers, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from etl.job.spec import ColumnSpec
    from etl.mapper.cells import Fault


def convert(values: pa.Array, spec: ColumnSpec) -> Cells:
    """Plain values as the spec's type; without one they keep the source's."""
    return native(values, spec.too_long) if spec.type is None else _TYPES[spec.type](values, spec)


def _string(values: pa.Array, spec: ColumnSpec) -> Cells:
    return as_text(values).then(lambda texts: fit_strings(texts, spec.too_long))


def _number(values: pa.Array, spec: ColumnSpec) -> Cells:
    if pa.types.is_integer(values.type) or pa.types.is_decimal(values.type):
        return Cells(values)
    if pa.types.is_floating(values.type):
        return finite(values)
    texts = as_text(values)
    if not writes_numbers(spec):
        return texts.then(parse_numbers)
    return texts.then(lambda some: plain_numbers(some, spec)).then(parse_numbers)


def _integer(values: pa.Array, spec: ColumnSpec) -> Cells:
    if pa.types.is_integer(values.type):
        return Cells(values)
    if pa.types.is_floating(values.type):
        return whole(values)
    texts = as_text(values)
    if pa.types.is_decimal(values.type):
        texts = texts.then(lambda some: Cells(pc.replace_substring_regex(some, r"\.0+$", "")))
    elif writes_numbers(spec):
        texts = texts.then(lambda some: plain_integers(some, spec))
    return texts.then(parse_integers)


def _boolean(values: pa.Array, _: ColumnSpec) -> Cells:
    return Cells(values) if pa.types.is_boolean(values.type) else as_text(values).then(parse_booleans)


def _date(values: pa.Array, spec: ColumnSpec) -> Cells:
    values, faults = _counted(values, spec)
    if pa.types.is_date(values.type):
        cells = check_days(values)
    elif pa.types.is_timestamp(values.type):
        cells = seconds_as_days(values, spec.timezone)
    else:
        cells = as_text(values).then(lambda texts: parse_dates(texts, spec.timezone))
    return Cells(cells.values, faults + cells.faults)


def _datetime(values: pa.Array, spec: ColumnSpec) -> Cells:
    values, faults = _counted(values, spec)
    if pa.types.is_date(values.type):
        cells = days_as_seconds(values, spec.timezone)
    elif pa.types.is_timestamp(values.type):
        cells = to_seconds(values, spec.timezone)
    else:
        cells = as_text(values).then(lambda texts: parse_datetimes(texts, spec.timezone))
    return Cells(cells.values, faults + cells.faults)


def _counted(values: pa.Array, spec: ColumnSpec) -> tuple[pa.Array, tuple[Fault, ...]]:
    """Numbers that count since 1970, where the spec has a unit, as times in UTC; with what is none."""
    if spec.unit is None or pa.types.is_date(values.type) or pa.types.is_timestamp(values.type):
        return values, ()
    cells = counted_moments(values, spec.unit)
    return cells.values, cells.faults


def _list(values: pa.Array, spec: ColumnSpec) -> Cells:
    if pa.types.is_string(values.type):
        return read_lists(values, spec.separator, spec.too_long)
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
