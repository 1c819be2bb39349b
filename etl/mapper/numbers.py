"""The types number, integer and boolean: text read strictly, and no number that JSON can't hold."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.amplitude import MAX_SAFE_INTEGER
from etl.mapper.cells import Cells, Mask, as_mask, blank_out, faults_of, text_layout
from etl.mapper.lists import is_list

_NUMBER: Final = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
_INTEGER: Final = r"^[+-]?\d+$"
_TRUE: Final = ("true", "t", "yes", "y", "on", "1", "1.0")
_FALSE: Final = ("false", "f", "no", "n", "off", "0", "0.0")

NOT_A_NUMBER: Final = "{} is not a number"
NOT_FINITE: Final = "{} is not a finite number"
NOT_AN_INTEGER: Final = "{} is not a whole number of at most 64 bits"
NOT_A_BOOLEAN: Final = "{} is neither true nor false"

_SURELY_IN_RANGE: Final = 18  # characters, the sign included
_INT64: Final = range(-(2**63), 2**63)
_DOUBLES_IN_INT64: Final = (-(2.0**63), 2.0**63)


def finite(values: pa.Array) -> Cells:
    """Floats as they are; NaN becomes null, an infinity is a fault."""
    floats = values.to_numpy(zero_copy_only=False)
    usable = np.isfinite(floats)
    if np.count_nonzero(usable) == len(values) - values.null_count:
        return Cells(values)
    cleaned = pa.array(floats, values.type, mask=~usable)
    return Cells(cleaned, faults_of("not_finite", np.isinf(floats), NOT_FINITE))


def parse_numbers(texts: pa.Array) -> Cells:
    """Decimal or exponent notation as doubles."""
    try:
        # Arrow takes the same notation, and besides it only spellings of NaN and the infinities.
        numbers = texts.cast(pa.float64())
        good = np.isfinite(numbers.to_numpy(zero_copy_only=False))
        if np.count_nonzero(good) == len(texts) - texts.null_count:
            return Cells(numbers)
    except pa.ArrowInvalid:
        pass
    bad = pc.invert(pc.match_substring_regex(texts, _NUMBER))
    faults = faults_of("bad_number", bad, NOT_A_NUMBER)
    numbers = finite(blank_out(texts, bad).cast(pa.float64()))
    return Cells(numbers.values, faults + numbers.faults)


def parse_integers(texts: pa.Array) -> Cells:
    """Digits with or without a sign as int64."""
    with suppress(pa.ArrowInvalid):
        # Arrow takes fewer notations, and besides them only hexadecimal digits.
        integers = texts.cast(pa.int64())
        if text_layout(texts)[2].max(initial=0) <= ord("9"):
            return Cells(integers)
    bad = pc.invert(pc.match_substring_regex(texts, _INTEGER)).fill_null(False)
    bad = pc.or_(bad, pa.array(_too_large(texts, bad)))
    digits = pc.utf8_ltrim(blank_out(texts, bad), characters="+")
    return Cells(digits.cast(pa.int64()), faults_of("bad_integer", bad, NOT_AN_INTEGER))


def whole(values: pa.Array) -> Cells:
    """Floats without a fraction as int64; NaN becomes null."""
    checked = finite(values)
    floats = checked.values.to_numpy(zero_copy_only=False)
    low, high = _DOUBLES_IN_INT64
    good = (floats == np.floor(floats)) & (floats >= low) & (floats < high)
    integers = pa.array(np.where(good, floats, 0).astype(np.int64), mask=~good)
    bad = as_mask(checked.values.is_valid()) & ~good
    return Cells(integers, checked.faults + faults_of("bad_integer", bad, NOT_AN_INTEGER))


def parse_booleans(texts: pa.Array) -> Cells:
    """true/false, t/f, yes/no, y/n, on/off, 1/0 and 1.0/0.0, whatever their case."""
    words = pc.utf8_lower(texts)
    true, false = (pc.is_in(words, value_set=pa.array(some)) for some in (_TRUE, _FALSE))
    known = pc.or_(true, false)
    bad = pc.and_not(texts.is_valid(), known)
    return Cells(blank_out(true, pc.invert(known)), faults_of("bad_boolean", bad, NOT_A_BOOLEAN))


def loses_digits(values: pa.Array) -> bool:
    """Whether a value, or an element of a list, is a whole number that a browser shows with other digits."""
    if is_list(values.type):
        return loses_digits(values.flatten())
    if not (pa.types.is_int64(values.type) or pa.types.is_uint64(values.type)):
        return False
    ends = [end for end in pc.min_max(values).as_py().values() if end is not None]
    return any(abs(end) > MAX_SAFE_INTEGER for end in ends)


def _too_large(texts: pa.Array, bad: pa.Array) -> Mask:
    """Which texts are integers that 64 bits can't hold. Only long ones, which are rare, are looked at."""
    long = as_mask(pc.and_not(pc.greater(pc.binary_length(texts), _SURELY_IN_RANGE), bad))
    for place in np.flatnonzero(long):
        text = texts[int(place)].as_py()
        digits = text.lstrip("+-").lstrip("0") or "0"
        sign = -1 if text.startswith("-") else 1
        # Python refuses to read thousands of digits, so their number is looked at first.
        long[place] = len(digits) > 19 or sign * int(digits) not in _INT64
    return long
