"""Constants and defaults: JSON text of the job file as values of a column."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from etl.json_lines import json_texts
from etl.mapper.cells import Cells
from etl.mapper.dates import parse_dates, parse_datetimes
from etl.mapper.lists import is_list

if TYPE_CHECKING:
    from pydantic import JsonValue


def constant(text: str) -> Cells:
    """One value of its own type, shape (1,); raw where Arrow has no one type for it."""
    value = orjson.loads(text)
    if value is None:
        return Cells(pa.nulls(1, pa.string()))
    array = pa.array([value]) if _has_arrow_type(value) else None
    return Cells(pa.array([text]), raw=True) if array is None else Cells(array)


def fill(cells: Cells, default: str) -> Cells:
    """Nulls replaced by a default. Where the values' type can't hold it, all become raw JSON.

    Which of the two depends on the type and the default only, never on the values.
    """
    values, kind = cells.values, cells.values.type
    if cells.raw:
        return Cells(values.fill_null(default), cells.faults, raw=True)
    scalar = fitting(orjson.loads(default), kind)
    if scalar is None:
        return Cells(json_texts(values).fill_null(default), cells.faults, raw=True)
    return Cells(pc.if_else(values.is_null(), scalar, values), cells.faults)


def fitting(value: JsonValue, kind: pa.DataType) -> pa.Scalar | None:
    """The value as a scalar of a column's type; None where it isn't one."""
    if pa.types.is_string(kind):
        return _text(value)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _moment(value, kind)
    if pa.types.is_boolean(kind) != isinstance(value, bool):
        return None
    if pa.types.is_decimal(kind) and isinstance(value, float):
        value = Decimal(str(value))  # type: ignore[assignment]
    if is_list(kind) and not isinstance(value, list):
        value = [value]
    try:
        scalar = pa.scalar(value, type=kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    # Arrow makes integers of floats without a word.
    return scalar if scalar.as_py() == value else None


def _has_arrow_type(value: JsonValue) -> bool:
    """Single values, and lists whose elements are of one type."""
    if isinstance(value, list):
        return {type(element) for element in value} in ({str}, {int}, {float}, {bool})
    return not isinstance(value, dict)


def _text(value: JsonValue) -> pa.Scalar | None:
    if isinstance(value, (list, dict)):
        return None
    return pa.scalar(value if isinstance(value, str) else orjson.dumps(value).decode())


def _moment(value: JsonValue, kind: pa.DataType) -> pa.Scalar | None:
    if not isinstance(value, str):
        return None
    parse = parse_dates if pa.types.is_date(kind) else parse_datetimes
    cells = parse(pa.array([value]))
    return None if cells.faults else cells.values[0]
