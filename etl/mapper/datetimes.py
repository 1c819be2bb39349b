"""Columns of dates and times: texts, Arrow's own types, and numbers since 1970.

The types date and datetime become date32 and timestamp[s] in UTC. The time of an event becomes whole
milliseconds since 1970. `etl.dates` reads the texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .. import dates
from ..arrow.json_text import json_texts
from ..arrow.layout import RowMask, as_mask, valid_mask
from .column_values import ColumnValues, blank_bad, blank_out, issues_of
from .numbers import is_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..job.column_spec import Unit

_NOT_A_DATE: Final = "{} is not a date like 2024-12-31"
_NOT_A_DATETIME: Final = "{} is not a date and time like 2024-12-31T23:59:59Z"
_DATE_OUT_OF_RANGE: Final = "{} is not in the years 1 to 9999"
_NOT_AN_EVENT_TIME: Final = (
    "{} is neither a time from 1970 on, such as 2024-12-31T23:59:59Z, nor one in seconds or milliseconds"
)

_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_UNIT_NAMES: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_SECONDS: Final = pa.timestamp("s")
_COUNT: Final = r"^(?P<sign>[+-]?)0*(?P<whole>\d{1,19})(?:\.(?P<part>\d*))?$"
_DIGITS: Final = r"^\d+(?:\.\d*)?$"
_FRACTION: Final = r":\d\d[.,](?P<digits>\d{1,3})"
_FIRST, _LAST = dates.FIRST_SECOND * 1000, dates.LAST_SECOND * 1000 + 999


# --- the types date and datetime -------------------------------------------------------------------------


def to_dates(values: pa.Array, zone: str | None = None) -> ColumnValues:
    """ISO texts, date32 and timestamps as date32.

    Without a `zone`, the date of a text with a time is the one that is written, and that of a timestamp is in
    UTC. With a `zone`, a time that has a zone of its own is an instant, and the date is that on a clock in
    `zone`.
    """
    if pa.types.is_date(values.type):
        return check_days(values)
    if pa.types.is_timestamp(values.type):
        times = to_seconds(values)
        if zone is not None and values.type.tz is not None:
            local = dates.to_local(_integers(times.values), zone)
            local_times = pa.array(local, mask=~valid_mask(times.values)).cast(_SECONDS)
            times = ColumnValues(local_times, times.issues)
    else:
        times = _found(values, dates.read_iso(values, zone, local=True), _SECONDS, "bad_date", _NOT_A_DATE)
    return times.then(pc.cast, pa.date32())


def to_datetimes(values: pa.Array, zone: str | None = None) -> ColumnValues:
    """ISO texts with or without a time, date32 and timestamps as timestamp[s] in UTC.

    A time without a zone is in `zone`, and so is the midnight at which a day begins.
    """
    if pa.types.is_date(values.type):
        midnights = check_days(values).then(pc.cast, _SECONDS)
        return midnights if zone is None else midnights.then(to_seconds, zone)
    if pa.types.is_timestamp(values.type):
        return to_seconds(values, zone)
    message = _or_skipped(_NOT_A_DATETIME, zone)
    return _found(values, dates.read_iso(values, zone), _SECONDS, "bad_datetime", message)


def parse_formats(texts: pa.Array, formats: Sequence[str], zone: str | None = None) -> ColumnValues:
    """Texts in the first of several strptime formats that fits, as date32.

    If a format has a time, all become timestamp[s] in UTC. A time without a zone is in `zone`; the type of
    the result then has the zone UTC, so that no later step takes it for a time without one.
    """
    timed = any(map(dates.has_time, formats))
    kind = pa.timestamp("s", "UTC") if timed and zone is not None else _SECONDS
    message = _or_skipped(f"{{}} is not a date written as {' or '.join(formats)}", zone if timed else None)
    times = _found(texts, dates.read_formats(texts, formats, zone), kind, "bad_date", message)
    return times if timed else times.then(pc.cast, pa.date32())


def check_days(values: pa.Array) -> ColumnValues:
    """date32 as it is; a date that is not in the years 1 to 9999 is an issue."""
    numbers = values.cast(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False)
    bad = (numbers < dates.FIRST_DAY) | (numbers > dates.LAST_DAY)
    return blank_bad(values, bad, "bad_date", _DATE_OUT_OF_RANGE)


def to_seconds(values: pa.Array, zone: str | None = None) -> ColumnValues:
    """Timestamps of any unit and zone as timestamp[s] in UTC. Fractions are rounded down, also before 1970.

    A timestamp of a type without a zone is in `zone`.
    """
    seconds, _, valid = _split_timestamps(values, zone)
    message = _or_skipped(_DATE_OUT_OF_RANGE, zone if values.type.tz is None else None)
    return _found(values, (seconds, valid), _SECONDS, "bad_datetime", message)


# --- numbers since 1970 ----------------------------------------------------------------------------------


def epoch_milliseconds(values: pa.Array, unit: Unit) -> ColumnValues:
    """Integers, floats, decimals and texts of digits as int64, rounded down.

    Anything else is an issue, and what is not in the years 1 to 9999; NaN is null.
    """
    kind, seconds = values.type, unit == "s"
    message = f"{{}} is not a number of {_UNIT_NAMES[unit]} since 1970, or not in the years 1 to 9999"
    if pa.types.is_floating(kind):
        values = blank_out(values, pc.is_nan(values))
        floats = values.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
        # The nearest thousandth first: 0.29 times 1000 is a little less than 290.
        rounded = np.floor(np.round(floats * (1000 / _PER_SECOND[unit]), 3))
        fits = np.isfinite(floats) & (rounded >= _FIRST) & (rounded <= _LAST)
        counts = np.where(fits, rounded, 0).astype(np.int64)
        return _found(values, (counts, fits), pa.int64(), "bad_datetime", message)
    if pa.types.is_integer(kind):
        counts, fits = _integers(values, safe=False), valid_mask(values)
        fits = fits & (counts >= 0) if pa.types.is_uint64(kind) else fits  # beyond 63 bits they wrap
        if seconds:
            counts = np.clip(counts, dates.FIRST_SECOND - 1, dates.LAST_SECOND + 1) * 1000
    else:
        texts = json_texts(values) if pa.types.is_decimal(kind) else values
        texts = texts if pa.types.is_string(texts.type) else pa.nulls(len(values), pa.string())
        sign, whole, part = pc.extract_regex(texts, _COUNT).flatten()
        digits = pc.if_else(pc.equal(whole, ""), "0", whole).fill_null("0").cast(pa.uint64()).to_numpy()
        fits = valid_mask(whole) & (digits < np.uint64(2**63))
        counts, part = np.where(fits, digits, np.uint64(0)).astype(np.int64), part.fill_null("")
        if seconds:
            thousandths = _integers(pc.utf8_rpad(pc.utf8_slice_codeunits(part, 0, 3), 3, "0"))
            counts = np.minimum(counts, dates.LAST_SECOND + 1) * 1000 + thousandths
            part = pc.utf8_slice_codeunits(part, 3)
        more = as_mask(pc.match_substring_regex(part, "[1-9]"))
        counts = np.where(as_mask(pc.equal(sign, "-")), -counts - more, counts)
    if not seconds:
        counts = counts // (_PER_SECOND[unit] // 1000)
    fits = fits & (counts >= _FIRST) & (counts <= _LAST)
    return _found(values, (counts, fits), pa.int64(), "bad_datetime", message)


# --- the time of an event --------------------------------------------------------------------------------


def to_milliseconds(values: pa.Array, zone: str | None = None, unit: Unit | None = None) -> ColumnValues:
    """Texts, timestamps, days and numbers as int64. Anything else is an issue, and a time before 1970.

    A time without a zone is in `zone`. Numbers count in `unit`, or else in seconds or milliseconds by their
    size.
    """
    kind = values.type
    temporal = pa.types.is_date(kind) or pa.types.is_timestamp(kind)
    if unit is not None and not temporal:
        counts = epoch_milliseconds(values, unit)
        return counts.then(blank_bad, pc.less(counts.values, 0), "bad_datetime", _NOT_AN_EVENT_TIME)
    found: dates.Instants = np.zeros(len(values), np.int64), np.zeros(len(values), np.bool_)
    if pa.types.is_string(kind):
        digits = as_mask(pc.match_substring_regex(values, _DIGITS))
        numbers, numbers_valid = _read_numbers(blank_out(values, ~digits).cast(pa.float64()))
        written = blank_out(values, digits)
        seconds, valid = dates.read_iso(written, zone)
        valid &= seconds >= 0
        parts = pc.struct_field(pc.extract_regex(written, _FRACTION), "digits").fill_null("")
        fractions = _integers(pc.utf8_rpad(parts, 3, "0"))
        milliseconds = np.where(digits, numbers, np.where(valid, seconds, 0) * 1000 + fractions)
        found = milliseconds, np.where(digits, numbers_valid, valid)
    elif temporal:
        times = values if pa.types.is_timestamp(kind) else values.cast(_SECONDS)
        seconds, fractions, valid = _split_timestamps(times, zone)
        valid = valid & valid_mask(values) & (seconds >= 0)
        found = np.where(valid, seconds, 0) * 1000 + fractions, valid
    elif is_number(kind):
        if pa.types.is_floating(kind):
            values = blank_out(values, pc.is_nan(values))
        found = _read_numbers(values.cast(pa.float64(), safe=False))
    return _found(values, found, pa.int64(), "bad_datetime", _or_skipped(_NOT_AN_EVENT_TIME, zone))


def _read_numbers(values: pa.Array) -> dates.Instants:
    """Milliseconds of numbers that are seconds or milliseconds by their size, and which are either."""
    numbers: NDArray[np.float64] = values.fill_null(0.0).to_numpy(zero_copy_only=False)
    # Numbers that can only be meant so: 1973 to 2286, and 2001 to 2286. A date without dashes is neither.
    seconds = (numbers >= 1e8) & (numbers < 1e10)
    valid = seconds | ((numbers >= 1e12) & (numbers < 1e13))
    return np.round(np.where(valid, numbers, 0.0) * np.where(seconds, 1000.0, 1.0)).astype(np.int64), valid


# --- Arrow's types ---------------------------------------------------------------------------------------


def _split_timestamps(values: pa.Array, zone: str | None) -> tuple[dates.Integers, dates.Integers, RowMask]:
    """Seconds in UTC, milliseconds of the fraction, and which are in the years 1 to 9999; nulls are."""
    per_second = _PER_SECOND[values.type.unit]
    seconds, rest = np.divmod(_integers(values), per_second)
    valid = dates.in_years(seconds)
    if zone is not None and values.type.tz is None:
        seconds, exist = dates.to_utc(np.where(valid, seconds, 0), zone)
        valid = valid & exist & dates.in_years(seconds)
    return seconds, rest * 1000 // per_second, valid


def _or_skipped(message: str, zone: str | None) -> str:
    """The message for a wrong time, which may also be one that clocks in the zone skip."""
    return message if zone is None else f"{message}, or clocks in {zone} skip it"


def _found(
    values: pa.Array, found: dates.Instants, kind: pa.DataType, code: str, message: str
) -> ColumnValues:
    """The numbers that were read of values, as a type of times; a value that isn't valid is an issue."""
    present, (numbers, valid) = valid_mask(values), found
    times = pa.array(numbers, mask=~(present & valid)).cast(kind)
    return ColumnValues(times, issues_of(code, present & ~valid, message))


def _integers(values: pa.Array, *, safe: bool = True) -> dates.Integers:
    """Values as int64, zero for null; shape (n,)."""
    numbers: dates.Integers = values.cast(pa.int64(), safe=safe).fill_null(0).to_numpy(zero_copy_only=False)
    return numbers
