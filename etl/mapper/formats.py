"""The step date_format: dates in a notation of the source's own, as strptime describes it."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from functools import lru_cache
from typing import Final

import numpy as np
import pyarrow as pa

from etl.mapper.calendar import DAY, FIRST_SECOND, ZONE_PATTERN, read_moments
from etl.mapper.cells import Cells, faults_of
from etl.mapper.dates import as_valid, moments_of, seconds_as_days

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
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


def parse_format(texts: pa.Array, format_: str) -> Cells:
    """Texts in a strptime format as date32, or as timestamp[s] in UTC where the format has a time."""
    pattern = _pattern(format_)
    if pattern is None:
        seconds, good = _read_words(texts, format_)
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


def _read_words(
    texts: pa.Array, format_: str
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Seconds since the epoch and which of them are good, shape (n,); each distinct text is read once."""
    encoded = texts.dictionary_encode()
    moments = [_moment(text, format_) for text in encoded.dictionary.to_pylist()]
    # One more entry for nulls.
    table = np.array([0 if moment is None else moment for moment in (*moments, None)], dtype=np.int64)
    good = np.array([moment is not None for moment in (*moments, None)], dtype=np.bool_)
    places = encoded.indices.fill_null(len(moments)).to_numpy(zero_copy_only=False)
    return table[places], good[places]


def _moment(text: str, format_: str) -> int | None:
    try:
        moment = datetime.strptime(text, format_)  # noqa: DTZ007 - a time without a zone counts as UTC
    except (ValueError, re.error):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    seconds = (moment - _EPOCH).days * DAY + (moment - _EPOCH).seconds
    return seconds if seconds >= FIRST_SECOND else None
