"""The types date and datetime: every value as a day, or as a second in UTC, in the years 1 to 9999."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.mapper.calendar import (
    DAY,
    FIRST_DAY,
    FIRST_SECOND,
    LAST_DAY,
    LAST_SECOND,
    ZONE_PATTERN,
    read_moments,
)
from etl.mapper.cells import Cells, Mask, blank_out, faults_of
from etl.mapper.zones import Ints, WallClock, shown

_DATE: Final = r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
_TIME: Final = r"[Tt ](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,]\d+)?)?"
_ISO: Final = rf"^{_DATE}(?:{_TIME} ?(?P<zone>{ZONE_PATTERN})?)?$"
_ISO_WHATEVER_ZONE: Final = rf"^{_DATE}(?:{_TIME} ?(?:{ZONE_PATTERN})?)?$"

NOT_A_DATE: Final = "{} is not a date like 2024-12-31"
NOT_A_DATETIME: Final = "{} is not a date and time like 2024-12-31T23:59:59Z"
DATE_OUT_OF_RANGE: Final = "{} is not in the years 1 to 9999"

PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def parse_dates(texts: pa.Array, zone: str | None = None) -> Cells:
    """ISO dates as date32; of a date with a time, the date as it is written, whatever the zone.

    In a `zone` of the job's a time that says its own is a moment, and the date is that on a clock there.
    """
    pattern = _ISO_WHATEVER_ZONE if zone is None else _ISO
    seconds, good = read_moments(texts, pattern, WallClock(zone, on_wall=True))
    bad = as_valid(texts) & ~good
    days = _floor_to_days(moments_of(seconds, good))
    return Cells(days, faults_of("bad_date", bad, NOT_A_DATE))


def parse_datetimes(texts: pa.Array, zone: str | None = None) -> Cells:
    """ISO dates with or without a time, T or a blank between, as timestamp[s] in UTC; fractions are cut.

    Times that don't say their zone are those of `zone`.
    """
    seconds, good = read_moments(texts, _ISO, WallClock(zone))
    bad = as_valid(texts) & ~good
    return Cells(moments_of(seconds, good), faults_of("bad_datetime", bad, NOT_A_DATETIME))


def moments_of(seconds: Ints, good: Mask) -> pa.Array:
    """timestamp[s], null where not good."""
    return pa.array(seconds, mask=~good).cast(pa.timestamp("s"))


def as_valid(values: pa.Array) -> Mask:
    """Which values are there; bool, shape (n,)."""
    valid: Mask = values.is_valid().to_numpy(zero_copy_only=False)
    return valid


def check_days(values: pa.Array) -> Cells:
    """date32 as it is; a year that four digits can't hold is a fault."""
    numbers = values.cast(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False)
    bad = (numbers < FIRST_DAY) | (numbers > LAST_DAY)
    if not bad.any():
        return Cells(values)
    return Cells(blank_out(values, bad), faults_of("bad_date", bad, DATE_OUT_OF_RANGE))


def to_seconds(values: pa.Array, zone: str | None = None) -> Cells:
    """Timestamps of any unit and zone as timestamp[s] in UTC; the fraction is cut, also before 1970.

    Those of a type without a zone are times of `zone`.
    """
    counts = values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    whole = np.floor_divide(counts, PER_SECOND[values.type.unit])
    good = np.ones(len(whole), dtype=np.bool_)
    if zone is not None and values.type.tz is None:
        near = (whole >= FIRST_SECOND) & (whole <= LAST_SECOND)
        whole, good = WallClock(zone).read(whole, near, said=~near)
        good |= ~as_valid(values)
    good &= (whole >= FIRST_SECOND) & (whole <= LAST_SECOND)
    result = moments_of(whole, good & as_valid(values))
    return Cells(result, faults_of("bad_datetime", ~good, DATE_OUT_OF_RANGE))


def days_as_seconds(values: pa.Array, zone: str | None = None) -> Cells:
    """date32 as the midnight it begins with, in UTC or in a zone."""
    midnights = check_days(values).then(lambda good: Cells(good.cast(pa.timestamp("s"))))
    return midnights if zone is None else midnights.then(lambda good: to_seconds(good, zone))


def seconds_as_days(values: pa.Array, zone: str | None = None) -> Cells:
    """Timestamps of any unit and zone as the day in UTC; in a `zone` as the day that it is there."""
    cells = to_seconds(values)
    if zone is not None and values.type.tz is not None:
        cells = cells.then(lambda moments: Cells(_shown(moments, zone)))
    return cells.then(lambda good: Cells(_floor_to_days(good)))


def _shown(moments: pa.Array, zone: str) -> pa.Array:
    seconds = moments.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return moments_of(shown(seconds, zone), as_valid(moments))


def _floor_to_days(values: pa.Array) -> pa.Array:
    counts = values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    numbers = np.floor_divide(counts, DAY).astype(np.int32)
    return pa.array(numbers, mask=~as_valid(values)).cast(pa.date32())


def moment_texts(values: pa.Array) -> pa.Array:
    """timestamp[s] as `YYYY-MM-DDTHH:MM:SS`."""
    return pc.replace_substring(values.cast(pa.string()), " ", "T", max_replacements=1)
