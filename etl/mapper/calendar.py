"""Dates and times written in digits as seconds since the epoch; there is no 30th of February."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.mapper.cells import Mask, as_mask
from etl.mapper.zones import UTC, Ints, WallClock

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_DAY: Final = -719_162  # 0001-01-01
LAST_DAY: Final = 2_932_896  # 9999-12-31
DAY: Final = 86_400  # seconds
FIRST_SECOND: Final = FIRST_DAY * DAY
LAST_SECOND: Final = LAST_DAY * DAY + DAY - 1

ZONE_PATTERN: Final = r"[Zz]|(?i:UTC|GMT)|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?"

Moments: TypeAlias = tuple[Ints, Mask]


def read_distinct(texts: pa.Array, read: Callable[[pa.Array], Moments]) -> Moments:
    """Read each distinct text once: few days are many rows' dates. Shapes are those of `texts`."""
    encoded = texts.dictionary_encode()
    seconds, good = read(encoded.dictionary)
    # One more entry, for nulls.
    places = encoded.indices.fill_null(len(seconds)).to_numpy(zero_copy_only=False)
    return np.append(seconds, 0)[places], np.append(good, np.False_)[places]


def read_moments(texts: pa.Array, pattern: str, clock: WallClock = UTC) -> Moments:
    """Seconds since the epoch, shape (n,), of texts that match a pattern, and which ones are good.

    The pattern names its groups year (or yy), month, day, hour, minute, second (digits each) and zone.
    """
    return read_distinct(texts, lambda distinct: read_each(distinct, pattern, clock))


def read_each(texts: pa.Array, pattern: str, clock: WallClock) -> Moments:
    """The same as `read_moments`, for texts that are distinct already."""
    found = pc.extract_regex(texts, pattern)
    parts = dict(zip([field.name for field in found.type], found.flatten(), strict=True))
    zones = parts.pop("zone", None)
    ahead = _zone_seconds(zones, len(texts))
    numbers = {name: _digits(part) for name, part in parts.items()}
    days, good = _days(_years(numbers), numbers["month"], numbers["day"])
    zero = np.zeros(len(texts), dtype=np.int64)
    hour, minute, second = (numbers.get(name, zero) for name in ("hour", "minute", "second"))
    good &= (hour < 24) & (minute < 60) & (second < 60)
    seconds = days * DAY + hour * 3600 + minute * 60 + second - ahead
    if clock.zone is not None:
        said = np.zeros(len(texts), np.bool_) if zones is None else as_mask(pc.not_equal(zones, ""))
        seconds, good = clock.read(seconds, good, said=said)
    good &= (seconds >= FIRST_SECOND) & (seconds <= LAST_SECOND)
    return seconds, good


def _years(numbers: dict[str, Ints]) -> Ints:
    """Two digits mean 1969 to 2068, as POSIX has it."""
    if "year" in numbers:
        return numbers["year"]
    return numbers["yy"] + np.where(numbers["yy"] < 69, 2000, 1900)


def _days(year: Ints, month: Ints, day: Ints) -> Moments:
    """Days since the epoch of calendar dates, and which of them there are; shape (n,) each."""
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    first = months.astype("datetime64[D]").astype(np.int64)
    after = (months + np.timedelta64(1, "M")).astype("datetime64[D]").astype(np.int64)
    good: Mask = (year > 0) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= after - first)
    return first + day - 1, good


def _digits(part: pa.Array) -> Ints:
    """Numbers of a group; where it or the whole pattern didn't match, zero (no date has a month 0)."""
    text = part.fill_null("0")
    numbers: Ints = pc.if_else(pc.equal(text, ""), "0", text).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return numbers


def _zone_seconds(zones: pa.Array | None, n: int) -> Ints:
    """How many seconds each zone is ahead of UTC; shape (n,)."""
    if zones is None or n == 0:
        return np.zeros(n, dtype=np.int64)
    encoded = zones.fill_null("").dictionary_encode()
    offsets = np.array([_zone_offset(zone) for zone in encoded.dictionary.to_pylist()], dtype=np.int64)
    ahead: Ints = offsets[encoded.indices.to_numpy(zero_copy_only=False)]
    return ahead


def _zone_offset(zone: str) -> int:
    if zone.upper() in {"", "Z", "UTC", "GMT"}:
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if zone[0] == "-" else seconds
