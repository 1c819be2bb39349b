"""Numbers as people write them, such as `2.015,10 €`, in the notation that the types read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pyarrow.compute as pc

from etl.mapper.cells import Cells, blank_out, faults_of
from etl.mapper.steps import empty_to_null

if TYPE_CHECKING:
    import pyarrow as pa

    from etl.job.spec import ColumnSpec

# What stands for one sign of a job file: typography has several spaces and apostrophes.
_SPACES: Final = " \u00a0\u2009\u202f"
_ALIKE: Final = {" ": _SPACES, "\u00a0": _SPACES, "\u202f": _SPACES, "'": "'\u2019", "\u2019": "'\u2019"}


def writes_numbers(spec: ColumnSpec) -> bool:
    """Whether the spec says how numbers are written."""
    return spec.decimal != "." or bool(spec.thousands or spec.strip)


def plain_numbers(texts: pa.Array, spec: ColumnSpec) -> Cells:
    """Texts of numbers with the spec's signs in decimal or exponent notation.

    Groups must be of three digits: `12.5` is not 125 where the point stands between thousands.
    """
    return _plain(texts, spec, fraction=r"\d*", code="bad_number")


def plain_integers(texts: pa.Array, spec: ColumnSpec) -> Cells:
    """Texts of whole numbers with the spec's signs as digits; a fraction of zeros counts for nothing."""
    cells = _plain(texts, spec, fraction=r"0*", code="bad_integer")
    return cells.then(lambda some: Cells(pc.replace_substring_regex(some, r"\.0*$", "")))


def _plain(texts: pa.Array, spec: ColumnSpec, *, fraction: str, code: str) -> Cells:
    if spec.strip:
        around = "".join(_ALIKE.get(sign, sign) for sign in spec.strip)
        texts = empty_to_null(pc.utf8_trim(texts, characters=around)).values
    between = _class(spec.thousands) if spec.thousands else None
    point = re.escape(spec.decimal)
    groups = rf"(?:\d{{1,3}}(?:{between}\d{{3}})+|\d+)" if between else r"\d+"
    exponent = r"(?:[eE][+-]?\d+)?" if code == "bad_number" else ""
    beginning = rf"|{point}\d+" if code == "bad_number" else ""
    fits = pc.match_substring_regex(texts, rf"^[+-]?(?:{groups}(?:{point}{fraction})?{beginning}){exponent}$")
    bad = pc.invert(fits).fill_null(False)
    digits = blank_out(texts, bad)
    if between:
        digits = pc.replace_substring_regex(digits, between, "")
    if spec.decimal != ".":
        digits = pc.replace_substring(digits, spec.decimal, ".")
    return Cells(digits, faults_of(code, bad, _says(spec, code)))


def _class(sign: str) -> str:
    return "[" + "".join(map(re.escape, _ALIKE.get(sign, sign))) + "]"


def _says(spec: ColumnSpec, code: str) -> str:
    noun = "number" if code == "bad_number" else "whole number"
    signs = [f"`{spec.decimal}` before the fraction"] if spec.decimal != "." else []
    signs += [f"`{spec.thousands}` between thousands"] if spec.thousands else []
    return f"{{}} is not a {noun}" + (f" with {' and '.join(signs)}" if signs else "")
