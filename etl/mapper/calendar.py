"""Dates and times written in digits, turned into days and seconds since the epoch; refuses the 30th of February."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

if TYPE_CHECKING:
    from etl.mapper.cells import Mask

Ints = NDArray[np.int64]

FIRST_DAY: Final = -719_162  # 0001-01-01
LAST_DAY: Final = 2_932_896  # 9999-12-31
DAY: Final = 86_400  # seconds
FIRST_SECOND: Final = FIRST_DAY * DAY
LAST_SECOND: Final = LAST_DAY * DAY + DAY - 1

# What the groups of a pattern may be called; a part that is not in the pattern counts as zero.
ZONE_PATTERN: Final = r"[Zz]|[+-]\d\d(?::?\d\d)?"


def read_moments(texts: pa.Array, pattern: str) -> tuple[Ints, Mask]:
    """Seconds since the epoch in UTC, shape (n,), of texts that match a pattern, and which ones are good.

    The pattern names its groups year (or yy), month, day, hour, minute, second (digits each) and zone.
    """
    found = pc.extract_regex(texts, pattern)
    names = [field.name for field in found.type]
    parts = dict(zip(names, found.flatten(), strict=True))
    zones, zones_good = _zone_seconds(parts.pop("zone", None), len(texts))
    numbers = {name: _digits(part) for name, part in parts.items()}
    days, good = _days(_years(numbers), numbers["month"], numbers["day"])
    zero = np.zeros(len(texts), dtype=np.int64)
    hour, minute, second = (numbers.get(name, zero) for name in ("hour", "minute", "second"))
    good &= (hour < 24) & (minute < 60) & (second < 60) & zones_good
    seconds = days * DAY + hour * 3600 + minute * 60 + second - zones
    good &= (seconds >= FIRST_SECOND) & (seconds <= LAST_SECOND)
    return np.where(good, seconds, 0), good


def _years(numbers: dict[str, Ints]) -> Ints:
    """Two digits mean 1969 to 2068, as POSIX has it."""
    if "year" in numbers:
        return numbers["year"]
    return numbers["yy"] + np.where(numbers["yy"] < 69, 2000, 1900)


def _days(year: Ints, month: Ints, day: Ints) -> tuple[Ints, Mask]:
    """Days since the epoch of calendar dates, and which of them there are; shape (n,) each."""
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    first = months.astype("datetime64[D]").astype(np.int64)
    after = (months + 1).astype("datetime64[D]").astype(np.int64)
    good: Mask = (year > 0) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= after - first)
    return first + day - 1, good


def _digits(part: pa.Array) -> Ints:
    """Numbers of a group; where it or the whole pattern didn't match, zero (no date has a month 0)."""
    text = part.fill_null("0")
    numbers = pc.if_else(pc.equal(text, ""), "0", text).cast(pa.int64())
    return numbers.to_numpy(zero_copy_only=False)


def _zone_seconds(zones: pa.Array | None, n: int) -> tuple[Ints, Mask]:
    """How many seconds each zone is ahead of UTC; few different ones, so each is read once."""
    if zones is None or n == 0:
        return np.zeros(n, dtype=np.int64), np.ones(n, dtype=np.bool_)
    encoded = zones.fill_null("").dictionary_encode()
    offsets = [_zone_offset(zone) for zone in encoded.dictionary.to_pylist()]
    table = np.array([0 if offset is None else offset for offset in offsets], dtype=np.int64)
    good = np.array([offset is not None for offset in offsets], dtype=np.bool_)
    index = encoded.indices.to_numpy(zero_copy_only=False)
    return table[index], good[index]


def _zone_offset(zone: str) -> int | None:
    """Seconds ahead of UTC; None for an offset of a day or more, or of 60 minutes and more."""
    if zone in {"", "Z", "z"}:
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 23 or minutes > 59:
        return None
    return (-1 if zone[0] == "-" else 1) * (hours * 3600 + minutes * 60)
