"""The grammar of dates and times in text, one for source columns and for values of the job file.

A text is ISO 8601 or in strptime formats. It becomes seconds since 1970-01-01 in UTC, in the years 1 to 9999.
Own code, as Arrow's strptime takes 31 February for 2 March.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Integers: TypeAlias = NDArray[np.int64]
# Seconds since 1970-01-01, and whether each text is a time; shape (n,) each.
Instants: TypeAlias = tuple[Integers, NDArray[np.bool_]]

_SECONDS_PER_DAY: Final = 86_400
FIRST_DAY, LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31
FIRST_SECOND: Final = FIRST_DAY * _SECONDS_PER_DAY
LAST_SECOND: Final = LAST_DAY * _SECONDS_PER_DAY + _SECONDS_PER_DAY - 1

_AHEAD: Final = r"(?P<sign>[+-])(?P<hours>[01]\d|2[0-3])(?::?(?P<minutes>[0-5]\d))?"  # of UTC
_ZONE: Final = rf"(?P<zone>[Zz]|(?i:UTC|GMT)|{_AHEAD})"
_ISO: Final = (
    r"^(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
    rf"(?:[Tt ](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,]\d+)?)? ?{_ZONE}?)?$"
)
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
    "z": _ZONE,
    "%": "%",
}
_TIME_DIRECTIVES: Final = frozenset("HIMSfpcX")


def normalized(text: str, *, day: bool) -> str:
    """Return an ISO date or time in UTC as YYYY-MM-DDTHH:MM:SS; with `day`, its day as written as YYYY-MM-DD.

    A time without a zone is in UTC. Raises ValueError.
    """
    (seconds,), (valid,) = read_iso(pa.array([text]), local=day)
    if not valid:
        raise ValueError("not a date or time")
    return str(seconds.astype("datetime64[s]"))[: 10 if day else None]


def read_iso(texts: pa.Array, zone: str | None = None, *, local: bool = False) -> Instants:
    """Read ISO dates, with or without a time; a fraction of a second is dropped.

    A time without a zone is in `zone`, or else in UTC. `local`: the seconds are what a clock in `zone` shows;
    without a zone they are the time as it is written.
    """
    return _read_distinct(texts, lambda distinct: _read_pattern(distinct, _ISO, zone, local=local))


def read_formats(texts: pa.Array, formats: Sequence[str], zone: str | None = None) -> Instants:
    """Read each text in the first of the strptime formats that fits. A time without a zone is in `zone`.

    If no format has a time, `zone` has no effect: a day has no zone.
    """
    zone = zone if any(map(has_time, formats)) else None

    def read(distinct: pa.Array) -> Instants:
        seconds, valid = _read_format(distinct, formats[0], zone)
        for another in formats[1:]:
            left = np.flatnonzero(~valid)
            if not len(left):
                break
            seconds[left], valid[left] = _read_format(distinct.take(pa.array(left)), another, zone)
        return seconds, valid

    return _read_distinct(texts, read)


def has_time(format_: str) -> bool:
    """Whether a strptime format has a time of day."""
    return not _TIME_DIRECTIVES.isdisjoint(re.findall(r"%(.)", format_))


def in_years(seconds: Integers) -> NDArray[np.bool_]:
    """Which seconds are in the years 1 to 9999; shape (n,)."""
    return (seconds >= FIRST_SECOND) & (seconds <= LAST_SECOND)


def to_utc(local: Integers, zone: str) -> Instants:
    """Convert times on a clock in `zone` to seconds in UTC, and mark those that exist; shape (n,) each.

    A time that occurs twice, when clocks are put back, is the first of both. A time that clocks skip doesn't
    exist, but a day that begins with a skipped time begins with the next one.
    """
    times = pa.array(local).cast(pa.timestamp("s"))
    utc = pc.assume_timezone(times, zone, ambiguous="earliest", nonexistent="latest").cast(pa.int64())
    seconds: Integers = utc.to_numpy(zero_copy_only=False)
    return seconds, (to_local(seconds, zone) == local) | (local % _SECONDS_PER_DAY == 0)


def to_local(utc: Integers, zone: str) -> Integers:
    """Convert seconds in UTC to seconds since 1970-01-01 on a clock in `zone`; shape (n,)."""
    times = pc.local_timestamp(pa.array(utc).cast(pa.timestamp("s", tz=zone)))
    seconds: Integers = times.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return seconds


def _read_distinct(texts: pa.Array, read: Callable[[pa.Array], Instants]) -> Instants:
    """Read each distinct text once: few days are the dates of many rows."""
    encoded = texts.dictionary_encode()
    seconds, valid = read(encoded.dictionary)
    # One more entry, for nulls.
    places = encoded.indices.fill_null(len(seconds)).to_numpy(zero_copy_only=False)
    return np.append(seconds, 0)[places], np.append(valid, np.False_)[places]


def _read_pattern(texts: pa.Array, pattern: str, zone: str | None, *, local: bool = False) -> Instants:
    """Read texts by a pattern with the groups year (or yy), month, day, hour, minute, second and zone."""
    found = pc.extract_regex(texts, pattern)
    groups = dict(zip([field.name for field in found.type], found.flatten(), strict=True))
    zone_text, sign = (groups.pop(name, pa.nulls(len(texts), pa.string())) for name in ("zone", "sign"))
    has_zone, behind = (
        np.asarray(marks.fill_null(False)) for marks in (pc.not_equal(zone_text, ""), pc.equal(sign, "-"))
    )
    # Where a group or the whole pattern doesn't match, zero: no date has a month 0.
    numbers: dict[str, Integers] = {
        name: pc.if_else(pc.equal(group, ""), "0", group).fill_null("0").cast(pa.int64()).to_numpy()
        for name, group in groups.items()
    }
    if "yy" in numbers:  # 1969 to 2068, as in POSIX
        numbers["year"] = numbers["yy"] + np.where(numbers["yy"] < 69, 2000, 1900)
    year, month, day = (numbers[name] for name in ("year", "month", "day"))
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    first_day = months.astype("datetime64[D]").astype(np.int64)
    next_month = (months + np.timedelta64(1, "M")).astype("datetime64[D]").astype(np.int64)
    zero = np.zeros(len(texts), dtype=np.int64)
    hour, minute, second = (numbers.get(name, zero) for name in ("hour", "minute", "second"))
    ahead = numbers.get("hours", zero) * 3600 + numbers.get("minutes", zero) * 60
    valid = (year > 0) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= next_month - first_day)
    valid &= (hour < 24) & (minute < 60) & (second < 60)
    written = (first_day + day - 1) * _SECONDS_PER_DAY + hour * 3600 + minute * 60 + second
    if local and zone is None:
        return written, valid
    return _in_zone((written - np.where(behind, -ahead, ahead), valid), has_zone, zone, local=local)


def _in_zone(
    instants: Instants, has_zone: NDArray[np.bool_], zone: str | None, *, local: bool = False
) -> Instants:
    """Seconds in UTC, or on the clock of `zone`; those of a text without a zone are on that clock already."""
    utc, valid = instants
    if zone is not None:
        sure = np.where(valid, utc, 0)
        if local:
            utc = np.where(has_zone, to_local(sure, zone), utc)
        else:
            moments, exist = to_utc(sure, zone)
            utc, valid = np.where(has_zone, utc, moments), valid & (has_zone | exist)
    return utc, valid & in_years(utc)


def _read_format(texts: pa.Array, format_: str, zone: str | None) -> Instants:
    pattern = _format_pattern(format_)
    if pattern is not None:
        return _read_pattern(texts, pattern, zone)
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    seconds = np.zeros(len(texts), dtype=np.int64)
    valid, has_zone = (np.zeros(len(texts), dtype=np.bool_) for _ in range(2))
    for row, text in enumerate(texts.to_pylist()):
        try:
            time = dt.datetime.strptime(text, format_)
        except (ValueError, re.error):
            continue
        since = (time if time.tzinfo is not None else time.replace(tzinfo=dt.UTC)) - epoch
        seconds[row] = since.days * _SECONDS_PER_DAY + since.seconds
        valid[row], has_zone[row] = True, time.tzinfo is not None
    return _in_zone((seconds, valid), has_zone, zone)


@lru_cache(maxsize=64)
def _format_pattern(format_: str) -> str | None:
    """The format as a pattern for `_read_pattern`; None where only strptime can read it."""
    directives = re.findall(r"%(.)", format_)
    whole_date = sorted(d for d in directives if d in "Yymd") in (["Y", "d", "m"], ["d", "m", "y"])
    once = all(directives.count(d) == 1 for d in directives if d != "%")
    if not (whole_date and once and set(directives) <= _DIGITS.keys()):
        return None
    parts = re.split(r"%(.)|(\s+)", format_)  # text, directive, blanks, text, directive, blanks, ... text
    pattern = re.escape(parts[0])
    for directive, blanks, literal in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        pattern += (_DIGITS[directive] if directive else "") + (r"\s+" if blanks else "") + re.escape(literal)
    return f"(?i)^{pattern}$"
