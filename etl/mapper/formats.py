"""The step date_format: dates in a notation of the source's own, as strptime describes it."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from etl.mapper.calendar import (
    DAY,
    FIRST_SECOND,
    LAST_SECOND,
    ZONE_PATTERN,
    Moments,
    read_distinct,
    read_each,
)
from etl.mapper.cells import Cells, faults_of
from etl.mapper.dates import as_valid, moments_of, seconds_as_days
from etl.mapper.zones import UTC, WallClock

if TYPE_CHECKING:
    from collections.abc import Sequence

# What strptime takes for each directive, for those that need no names of months or days.
_DIGITS: Final = {
    "Y": r"(?P<year>\d{4})",
    "y": r"(?P<yy>\d\d)",
    "m": r"(?P<month>1[0-2]|0[1-9]|[1-9])",
    "d": r"(?P<day>3[01]|[12]\d|0[1-9]|[1-9]| [1-9])",
    "H": r"(?P<hour>2[0-3]|[01]\d|\d)",
    "M": r"(?P<minute>[0-5]\d|\d)",
    "S": r"(?P<second>[0-5]\d|\d)",
    "f": r"\d{1,9}",
    "z": f"(?P<zone>{ZONE_PATTERN})",
    "%": "%",
}
_TIME_DIRECTIVES: Final = frozenset("HIMSfpcX")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def parse_formats(texts: pa.Array, formats: Sequence[str], zone: str | None = None) -> Cells:
    """Texts in one of several strptime formats, the first that fits, as date32.

    Where a format has a time, all are timestamp[s] in UTC. Times that don't say their zone are those of
    `zone`; the result's type then says that it is in UTC.
    """
    seconds, good = read_distinct(texts, lambda distinct: _first_fitting(distinct, formats, WallClock(zone)))
    bad = as_valid(texts) & ~good
    says = f"{{}} is not a date written as {' or '.join(formats)}"
    cells = Cells(moments_of(seconds, good), faults_of("bad_date", bad, says))
    if not any(map(_has_time, formats)):
        return cells.then(seconds_as_days)
    return (
        cells if zone is None else cells.then(lambda moments: Cells(moments.cast(pa.timestamp("s", "UTC"))))
    )


def _first_fitting(texts: pa.Array, formats: Sequence[str], clock: WallClock) -> Moments:
    """Each text as the first format reads it that can."""
    # Days have no zone: among days alone a midnight stands for one.
    clock = clock if any(map(_has_time, formats)) else UTC
    seconds, good = _read(texts, formats[0], clock)
    for another in formats[1:]:
        left = np.flatnonzero(~good)
        if not len(left):
            break
        seconds[left], good[left] = _read(texts.take(pa.array(left)), another, clock)
    return seconds, good


def _read(texts: pa.Array, format_: str, clock: WallClock) -> Moments:
    pattern = _pattern(format_)
    if pattern is not None:
        return read_each(texts, pattern, clock)
    return _read_words(texts, format_, clock)


def _has_time(format_: str) -> bool:
    return not _TIME_DIRECTIVES.isdisjoint(re.findall(r"%(.)", format_))


@lru_cache(maxsize=64)
def _pattern(format_: str) -> str | None:
    """The format as a pattern for `read_moments`; None where that can't read it."""
    directives = re.findall(r"%(.)", format_)
    whole_date = sorted(d for d in directives if d in "Yymd") in (["Y", "d", "m"], ["d", "m", "y"])
    once = all(directives.count(d) == 1 for d in directives if d != "%")
    if not (whole_date and once and set(directives) <= _DIGITS.keys()):
        return None
    parts = re.split(r"%(.)|(\s+)", format_)
    return f"(?i)^{''.join(_translated(*parts[place : place + 3]) for place in range(0, len(parts), 3))}$"


def _translated(literal: str, directive: str | None = None, blanks: str | None = None) -> str:
    return re.escape(literal) + (_DIGITS[directive] if directive else "") + (r"\s+" if blanks else "")


def _read_words(texts: pa.Array, format_: str, clock: WallClock) -> Moments:
    """Seconds since the epoch and which of them are good, shape (n,), of formats that only strptime knows."""
    moments = [_moment(text, format_) for text in texts.to_pylist()]
    seconds = np.array([0 if moment is None else _seconds(moment) for moment in moments], dtype=np.int64)
    good = np.array([moment is not None for moment in moments], dtype=np.bool_)
    said = np.array([moment is not None and moment.tzinfo is not None for moment in moments], dtype=np.bool_)
    seconds, good = clock.read(seconds, good, said=said)
    return seconds, good & (seconds >= FIRST_SECOND) & (seconds <= LAST_SECOND)


def _moment(text: str, format_: str) -> dt.datetime | None:
    try:
        return dt.datetime.strptime(text, format_)
    except (ValueError, re.error):
        return None


def _seconds(moment: dt.datetime) -> int:
    since = (moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)) - _EPOCH
    return since.days * DAY + since.seconds
