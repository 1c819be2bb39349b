"""Numbers that count seconds, or parts of a second, since 1970."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl.mapper.calendar import FIRST_SECOND, LAST_SECOND
from etl.mapper.cells import Cells, Mask, as_mask, faults_of
from etl.mapper.dates import PER_SECOND
from etl.mapper.native import as_text
from etl.mapper.zones import Ints

if TYPE_CHECKING:
    from etl.job.spec import Unit

_NAMES: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_NUMBER: Final = r"^(?P<sign>[+-]?)0*(?P<whole>\d{1,19})(?:\.(?P<part>\d*))?$"
_FIRST, _LAST = FIRST_SECOND * 1000, LAST_SECOND * 1000 + 999

# Milliseconds since 1970, and which of them are there and in the years 1 to 9999; shape (n,) each.
_Counted: TypeAlias = tuple[Ints, Mask]


def counted_milliseconds(values: pa.Array, unit: Unit) -> Cells:
    """Integers, floats and texts of digits as int64; anything else is a fault, and NaN is null."""
    moments, good = _read(values, unit)
    there = as_mask(values.is_valid())
    if pa.types.is_floating(values.type):
        there &= ~as_mask(pc.is_nan(values))
    says = f"{{}} is no number of {_NAMES[unit]} since 1970, or not in the years 1 to 9999"
    return Cells(pa.array(moments, mask=~good), faults_of("bad_datetime", there & ~good, says))


def counted_moments(values: pa.Array, unit: Unit) -> Cells:
    """The same as timestamp[ms] in UTC."""
    cells = counted_milliseconds(values, unit)
    return cells.then(lambda counts: Cells(counts.cast(pa.timestamp("ms", "UTC"))))


def _read(values: pa.Array, unit: Unit) -> _Counted:
    kind = values.type
    if pa.types.is_integer(kind):
        return _integers(values, unit)
    if pa.types.is_floating(kind):
        return _floats(values, unit)
    return _texts(as_text(values).values, unit)


def _integers(values: pa.Array, unit: Unit) -> _Counted:
    counts: Ints = values.cast(pa.int64(), safe=False).fill_null(0).to_numpy(zero_copy_only=False)
    fits = as_mask(values.is_valid())
    if pa.types.is_uint64(values.type):
        fits &= counts >= 0  # beyond 63 bits they turn round
    return _in_range(
        np.abs(np.where(fits, counts, 0)), np.zeros(len(counts), np.int64), counts < 0, fits, unit
    )


def _floats(values: pa.Array, unit: Unit) -> _Counted:
    floats: NDArray[np.float64] = values.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    milliseconds = floats * (1000 / PER_SECOND[unit])
    # The nearest thousandth first: 0.29 times 1000 is a little less than 290.
    rounded = np.floor(np.round(milliseconds, 3))
    good = np.isfinite(floats) & (rounded >= _FIRST) & (rounded <= _LAST)
    return np.where(good, rounded, 0).astype(np.int64), good


def _texts(texts: pa.Array, unit: Unit) -> _Counted:
    found = pc.extract_regex(texts, _NUMBER)
    parts = dict(zip([field.name for field in found.type], found.flatten(), strict=True))
    fits = as_mask(found.is_valid())
    whole = pc.if_else(pc.equal(parts["whole"], ""), "0", parts["whole"]).fill_null("0").cast(pa.uint64())
    counts = whole.to_numpy(zero_copy_only=False)
    fits = fits & (counts < np.uint64(2**63))
    part = parts["part"].fill_null("")
    # What is behind the point: thousandths, and whether there is more.
    digits = pc.utf8_rpad(pc.utf8_slice_codeunits(part, 0, 3), 3, padding="0")
    thousandths: Ints = digits.cast(pa.int64()).to_numpy(zero_copy_only=False)
    rest = as_mask(pc.match_substring_regex(part, "^\\d{3,}?.*[1-9]")) if unit == "s" else thousandths > 0
    negative = as_mask(pc.equal(parts["sign"], "-"))
    counts = np.where(fits, counts, np.uint64(0)).astype(np.int64)
    if unit != "s":
        return _in_range(counts, rest.astype(np.int64), negative, fits, unit)
    fits = fits & (counts <= _LAST)
    counts = np.where(fits, counts, 0)
    near = np.minimum(counts, LAST_SECOND + 1)
    return _in_range(near * 1000 + thousandths, rest.astype(np.int64), negative, fits, "ms")


def _in_range(counts: Ints, rest: Ints, negative: Mask, fits: Mask, unit: Unit) -> _Counted:
    """Counts without their sign in milliseconds; `rest` is not 0 where there is a fraction besides."""
    if unit == "s":
        milliseconds, more = np.minimum(counts, LAST_SECOND + 1) * 1000, rest
    else:
        milliseconds, more = np.divmod(counts, PER_SECOND[unit] // 1000)
        more = more + rest
    milliseconds = np.where(negative, -milliseconds - (more > 0), milliseconds)
    good = fits & (milliseconds >= _FIRST) & (milliseconds <= _LAST)
    return np.where(good, milliseconds, 0), good
