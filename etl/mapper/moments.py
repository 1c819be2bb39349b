"""The time of an event: every way to write a moment, as whole milliseconds since 1970."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl.mapper.calendar import LAST_SECOND
from etl.mapper.cells import Cells, Mask, as_mask, blank_out, faults_of
from etl.mapper.constants import constant
from etl.mapper.counts import counted_milliseconds
from etl.mapper.dates import PER_SECOND, as_valid, parse_datetimes, to_seconds
from etl.mapper.zones import Ints

if TYPE_CHECKING:
    from etl.job.spec import Unit

NOT_A_MOMENT: Final = (
    "{} is neither a time from 1970 on, such as 2024-12-31T23:59:59Z, nor one in seconds or milliseconds"
)
_DIGITS: Final = r"^\d+(?:\.\d*)?$"
_FRACTION: Final = r":\d\d[.,](?P<digits>\d{1,3})"
# Numbers that can only be meant so: 1973 to 2286, and 2001 to 2286. A date without dashes is neither.
_SECONDS: Final = (1e8, 1e10)
_MILLISECONDS: Final = (1e12, 1e13)

# Milliseconds since 1970, and which of them are there and right; shape (n,) each.
Moments: TypeAlias = tuple[Ints, Mask]


def to_milliseconds(values: pa.Array, zone: str | None = None, unit: Unit | None = None) -> Cells:
    """Texts, times, days and numbers as int64; whatever else is a fault, and a moment before 1970.

    Times that don't say their zone are those of `zone`; numbers count in `unit`, or else their digits tell.
    """
    kind = values.type
    if unit is not None and not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        cells = counted_milliseconds(values, unit)
        early = as_mask(pc.less(cells.values, 0))
        faults = cells.faults + faults_of("bad_datetime", early, NOT_A_MOMENT)
        return Cells(blank_out(cells.values, early), faults)
    if pa.types.is_floating(values.type):
        values = blank_out(values, pc.is_nan(values))
    moments, good = _read(values, zone)
    bad = as_valid(values) & ~good
    return Cells(pa.array(moments, mask=~good), faults_of("bad_datetime", bad, NOT_A_MOMENT))


def fill_moments(cells: Cells, default: str) -> Cells:
    """Nulls replaced by a default, the JSON text of a time."""
    moment = to_milliseconds(constant(default).values).values[0]
    return Cells(pc.if_else(cells.values.is_null(), moment, cells.values), cells.faults)


def _read(values: pa.Array, zone: str | None) -> Moments:
    kind = values.type
    if pa.types.is_string(kind):
        return _texts(values, zone)
    if pa.types.is_date(kind):
        return _zoned(values.cast(pa.timestamp("s")), 1, zone)
    if pa.types.is_timestamp(kind):
        return _zoned(values, PER_SECOND[kind.unit], zone)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _numbers(values.cast(pa.float64(), safe=False))
    nothing: Mask = np.zeros(len(values), dtype=np.bool_)
    return nothing.astype(np.int64), nothing


def _texts(texts: pa.Array, zone: str | None) -> Moments:
    digits = as_mask(pc.match_substring_regex(texts, _DIGITS))
    numbers, good_numbers = _numbers(blank_out(texts, ~digits).cast(pa.float64()))
    written = blank_out(texts, digits)
    moments, good_moments = _counts(parse_datetimes(written, zone).values, 1)
    return (
        np.where(digits, numbers, moments + _fractions(written)),
        np.where(digits, good_numbers, good_moments),
    )


def _fractions(texts: pa.Array) -> Ints:
    """The milliseconds of each text's last second; shape (n,)."""
    found = pc.struct_field(pc.extract_regex(texts, _FRACTION), "digits").fill_null("")
    digits = pc.utf8_rpad(found, 3, padding="0")
    fractions: Ints = digits.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return fractions


def _zoned(times: pa.Array, per_second: int, zone: str | None) -> Moments:
    """Timestamps of a unit; those of a type without a zone are times of `zone`."""
    if zone is None or times.type.tz is not None:
        return _counts(times, per_second)
    moments, rest = to_seconds(times, zone).values, _counts(times, per_second)[0] % 1000
    seconds, good = _counts(moments, 1)
    return seconds + rest, good


def _counts(times: pa.Array, per_second: int) -> Moments:
    """Timestamps of a unit of which a second has so many."""
    counts: Ints = times.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    seconds, rest = np.divmod(counts, per_second)
    good = as_valid(times) & (seconds >= 0) & (seconds <= LAST_SECOND)
    return np.where(good, seconds, 0) * 1000 + rest * 1000 // per_second, good


def _numbers(values: pa.Array) -> Moments:
    numbers: NDArray[np.float64] = values.fill_null(0.0).to_numpy(zero_copy_only=False)
    seconds, milliseconds = ((numbers >= low) & (numbers < high) for low, high in (_SECONDS, _MILLISECONDS))
    good = seconds | milliseconds
    moments = np.where(good, numbers, 0.0) * np.where(seconds, 1000.0, 1.0)
    return np.round(moments).astype(np.int64), good
