"""The step date_format: dates in a notation of the source's own, as strptime describes it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from etl.mapper.calendar import DAY, FIRST_SECOND, ZONE_PATTERN, Moments, read_distinct, read_moments
from etl.mapper.cells import Cells, faults_of
from etl.mapper.dates import as_valid, moments_of, seconds_as_days

if TYPE_CHECKING:
    import pyarrow as pa

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
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_format(texts: pa.Array, format_: str) -> Cells:
    """Texts in a strptime format as date32, or as timestamp[s] in UTC where the format has a time."""
    pattern = _pattern(format_)
    if pattern is None:
        seconds, good = read_distinct(texts, lambda distinct: _read_words(distinct, format_))
    else:
        seconds, good = read_moments(texts, pattern)
    bad = as_valid(texts) & ~good
    says = f"{{}} is not a date written as {format_}"
    cells = Cells(moments_of(seconds, good), faults_of("bad_date", bad, says))
    return cells if _has_time(format_) else cells.then(seconds_as_days)


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


def _read_words(texts: pa.Array, format_: str) -> Moments:
    """Seconds since the epoch and which of them are good, shape (n,), of formats that only strptime knows."""
    moments = [_moment(text, format_) for text in texts.to_pylist()]
    seconds = np.array([0 if moment is None else moment for moment in moments], dtype=np.int64)
    return seconds, np.array([moment is not None for moment in moments], dtype=np.bool_)


def _moment(text: str, format_: str) -> int | None:
    try:
        moment = datetime.strptime(text, format_)
    except (ValueError, re.error):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - _EPOCH).days * DAY + (moment - _EPOCH).seconds
    return seconds if seconds >= FIRST_SECOND else None
