"""The types number, integer and boolean: text is read strictly, and no number that JSON lacks is sent."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..arrow.json_text import json_texts
from ..arrow.layout import text_layout, valid_mask
from .column_values import ColumnValues, blank_bad, empty_to_null, issues_of

if TYPE_CHECKING:
    from ..job.column_spec import ColumnSpec

_NUMBER: Final = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
_INTEGER: Final = r"^(?P<sign>[+-]?)0*(?P<digits>\d{1,19})$"
_ZERO_FRACTION: Final = r"^([+-]?\d+)\.0*$"
TRUE: Final = ("true", "t", "yes", "y", "on", "1", "1.0")
FALSE: Final = ("false", "f", "no", "n", "off", "0", "0.0")
NOT_A_NUMBER: Final = "{} is not a number"

NOT_FINITE: Final = "{} is not a finite number"
NOT_AN_INTEGER: Final = "{} is not a whole number of at most 64 bits"
NOT_A_BOOLEAN: Final = "{} is neither true nor false"

# What one character of a job file stands for: typography has several spaces and apostrophes.
SPACES: Final = " \u00a0\u2009\u202f"
_ALIKE: Final = {" ": SPACES, "\u00a0": SPACES, "\u202f": SPACES, "'": "'\u2019", "\u2019": "'\u2019"}


def to_numbers(values: pa.Array, spec: ColumnSpec) -> ColumnValues:
    """Numbers, and texts of numbers, as the spec's type number or integer."""
    kind, whole = values.type, spec.type == "integer"
    if pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and not whole):
        return ColumnValues(values)
    if pa.types.is_floating(kind):
        return floats_to_integers(values) if whole else check_finite(values)
    if pa.types.is_decimal(kind):
        return parse_integers(pc.replace_substring_regex(json_texts(values), r"\.0+$", ""))
    if spec.decimal != "." or spec.thousands or spec.strip:
        return parse_written_numbers(values, spec)
    return parse_integers(values) if whole else parse_numbers(values)


def is_number(kind: pa.DataType) -> bool:
    """Whether it is one of the types of numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def check_finite(values: pa.Array) -> ColumnValues:
    """Floats as they are; NaN becomes null, an infinity is an issue."""
    floats = values.to_numpy(zero_copy_only=False)
    usable = np.isfinite(floats)
    if np.count_nonzero(usable) == len(values) - values.null_count:
        return ColumnValues(values)
    cleaned = pa.array(floats, values.type, mask=~usable)
    return ColumnValues(cleaned, issues_of("not_finite", np.isinf(floats), NOT_FINITE))


def parse_numbers(texts: pa.Array) -> ColumnValues:
    """Decimal or exponent notation as doubles."""
    with suppress(pa.ArrowInvalid):
        # Arrow takes the same notation, and besides it only spellings of NaN and the infinities.
        numbers = texts.cast(pa.float64())
        finite = np.isfinite(numbers.to_numpy(zero_copy_only=False))
        if np.count_nonzero(finite) == len(texts) - texts.null_count:
            return ColumnValues(numbers)
    bad = pc.invert(pc.match_substring_regex(texts, _NUMBER))
    digits = blank_bad(texts, bad, "bad_number", NOT_A_NUMBER)
    return digits.then(pc.cast, pa.float64()).then(check_finite)


def parse_integers(texts: pa.Array) -> ColumnValues:
    """Digits with or without a sign as int64; a fraction of zeros is none."""
    with suppress(pa.ArrowInvalid):
        # Arrow takes fewer notations, and besides them only hexadecimal digits.
        integers = texts.cast(pa.int64())
        if text_layout(texts)[2].max(initial=0) <= ord("9"):
            return ColumnValues(integers)
    texts = pc.replace_substring_regex(texts, _ZERO_FRACTION, r"\1")
    negative, digits = pc.extract_regex(texts, _INTEGER).flatten()
    last = pc.if_else(pc.equal(negative, "-"), "9223372036854775808", "9223372036854775807")
    bad = pc.invert(pc.less_equal(pc.utf8_lpad(digits, 19, "0"), last).fill_null(False))
    good = blank_bad(texts, pc.and_(bad, texts.is_valid()), "bad_integer", NOT_AN_INTEGER)
    return good.then(pc.utf8_ltrim, "+").then(pc.cast, pa.int64())


def floats_to_integers(values: pa.Array) -> ColumnValues:
    """Floats without a fraction as int64; NaN becomes null."""
    checked = check_finite(values)
    floats = checked.values.to_numpy(zero_copy_only=False)
    good = (floats == np.floor(floats)) & (floats >= -(2.0**63)) & (floats < 2.0**63)
    integers = pa.array(np.where(good, floats, 0).astype(np.int64), mask=~good)
    bad = valid_mask(checked.values) & ~good
    return ColumnValues(integers, checked.issues + issues_of("bad_integer", bad, NOT_AN_INTEGER))


def parse_booleans(texts: pa.Array) -> ColumnValues:
    """true/false, t/f, yes/no, y/n, on/off, 1/0 and 1.0/0.0, in upper or lower case."""
    places = pc.index_in(pc.utf8_lower(texts), value_set=pa.array(TRUE + FALSE))
    bad = pc.and_not(texts.is_valid(), places.is_valid())
    return ColumnValues(pc.less(places, len(TRUE)), issues_of("bad_boolean", bad, NOT_A_BOOLEAN))


def parse_written_numbers(texts: pa.Array, spec: ColumnSpec) -> ColumnValues:
    """Numbers as people write them, such as `2.015,10 €`, with the signs of the spec; as doubles or int64.

    Groups must have three digits: `12.5` is not 125 if the point separates thousands. A fraction of zeros is
    no fraction of an integer.
    """
    whole = spec.type == "integer"
    if spec.strip:
        around = "".join(_ALIKE.get(sign, sign) for sign in spec.strip)
        texts = empty_to_null(pc.utf8_trim(texts, around))
    between = "".join(map(re.escape, _ALIKE.get(spec.thousands, spec.thousands)))
    point = re.escape(spec.decimal)
    groups = rf"(?:\d{{1,3}}(?:[{between}]\d{{3}})+|\d+)" if between else r"\d+"
    if whole:
        pattern = rf"^[+-]?{groups}(?:{point}0*)?$"
    else:
        pattern = rf"^[+-]?(?:{groups}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?$"
    bad = pc.invert(pc.match_substring_regex(texts, pattern))
    if between:
        texts = pc.replace_substring_regex(texts, f"[{between}]", "")
    texts = pc.replace_substring(texts, spec.decimal, ".")
    if whole:
        texts = pc.replace_substring_regex(texts, r"\.0*$", "")
    signs = [f"`{spec.decimal}` before the fraction"] if spec.decimal != "." else []
    signs += [f"`{spec.thousands}` between thousands"] if spec.thousands else []
    message = f"{{}} is not a {'whole number' if whole else 'number'}"
    message += f" with {' and '.join(signs)}" if signs else ""
    digits = blank_bad(texts, bad, "bad_integer" if whole else "bad_number", message)
    return digits.then(parse_integers if whole else parse_numbers)
