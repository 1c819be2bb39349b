"""What text may be read as: every type, date format and shape is tried on every value of a column.

Whether a value fits a type is asked of the mapper itself, so what is proposed is what will work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..job import ColumnSpec, Step
from ..mapper.column import Column

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ENOUGH: Final = 1000  # misfits that must be seen before a type is given up

_TIMES: Final = ("", " %H:%M", " %H:%M:%S")
# In the order of preference where two read the same of every value, as %b and %B do of May.
_WORDED: Final = (
    "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%d. %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y",
    "%d/%b/%Y",
)  # fmt: skip
_DIRECTIVES: Final = {
    "Y": r"\d{4}", "y": r"\d\d", "m": r"\d{1,2}", "d": r"\d{1,2}", "b": r"[A-Za-z]{3}", "B": r"[A-Za-z]{3,9}",
    "H": r"\d{1,2}", "I": r"\d{1,2}", "M": r"\d\d", "S": r"\d\d", "p": r"[AaPp][Mm]",
}  # fmt: skip
# Every text of any date format matches it; tried once, it spares most columns all formats.
LIKE_A_DATE: Final = r"^(?:\d{1,4}(?:[/.-]|\.? )|[A-Za-z]{3,9} \d|\d{8}$)"
# Eight digits are a date only if the date is one that somebody may have written down.
_COMPACT: Final = r"^(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$"


@dataclass(frozen=True, slots=True)
class Values:
    """m values of a column in one batch, d of them different.

    `distinct`, shape (d,), has no nulls; `codes` (int64, shape (m,)) has for each value its place in it;
    `counts` (int64, shape (d,)) how often each comes. `numbers` (int64, shape (m,)) are rows of `source`.
    """

    source: str
    distinct: pa.Array
    codes: NDArray[np.int64]
    counts: NDArray[np.int64]
    numbers: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TextType:
    """A way to read text. `gate` is a pattern that every fitting text matches; `spec`, if any, must take it.

    `share` is how many of the values (0 to 1) must fit for the type to be of use.
    """

    gate: str
    share: float = 0.99
    spec: ColumnSpec | None = None
    luhn: bool = False

    def misfits(self, texts: pa.StringArray) -> NDArray[np.bool_]:
        """Which of the texts, shape (n,) and without nulls, don't fit."""
        bad = np.array(pc.invert(pc.match_substring_regex(texts, self.gate)), dtype=np.bool_)
        places = np.flatnonzero(~bad)
        if len(places) == 0:
            return bad
        gated = texts.take(pa.array(places))
        if self.luhn:
            bad[places] = ~luhn_valid(gated)
        if self.spec is not None:
            cells = Column("", "", "value", replace(self.spec, column="")).read(gated, len(gated), text=True)
            for issue in cells.issues:
                bad[places[issue.rows]] = True
        return bad


@dataclass(slots=True)
class Trial:
    """How well a column fits a text type so far. `first` is the place (source, row) of the first misfit."""

    text_type: TextType
    fits: int = 0
    misfits: int = 0
    first: tuple[str, int] | None = None
    hopeless: bool = False

    @property
    def total(self) -> int:
        """How many values there were."""
        return self.fits + self.misfits

    @property
    def perfect(self) -> bool:
        """Whether there were values, and all fit."""
        return self.fits > 0 and self.misfits == 0

    @property
    def likely(self) -> bool:
        """Whether so many fit that this is what the values are."""
        return not self.hopeless and self.fits > 0 and self.fits >= self.text_type.share * self.total

    def add(self, values: Values) -> None:
        """Try some more values."""
        if not self.hopeless:
            self._count(values, self.text_type.misfits(values.distinct))

    def miss(self, values: Values) -> None:
        """Count values of which none fits."""
        if not self.hopeless:
            self._count(values, np.ones(len(values.distinct), dtype=np.bool_))

    def _count(self, values: Values, bad: NDArray[np.bool_]) -> None:
        missed = int(values.counts[bad].sum())
        if missed and self.first is None:
            place = int(np.flatnonzero(bad[values.codes])[0])
            self.first = values.source, int(values.numbers[place])
        self.misfits += missed
        self.fits += len(values.codes) - missed
        self.hopeless = self.misfits > _ENOUGH and self.fits < self.total * self.text_type.share / 2


def luhn_valid(texts: pa.StringArray) -> NDArray[np.bool_]:
    """Which texts have digits with a right check sum, as card numbers do; at most 19 digits, shape (n,)."""
    digits = pc.utf8_lpad(pc.replace_substring_regex(texts, r"\D", ""), 20, "0").cast(pa.binary(20))
    signs = np.frombuffer(digits.buffers()[1], dtype=np.uint8).reshape(-1, 20)
    matrix = signs[digits.offset : digits.offset + len(digits)] - ord("0")
    doubled = matrix[:, 0::2] * 2
    total = matrix[:, 1::2].sum(axis=1) + np.where(doubled > 9, doubled - 9, doubled).sum(axis=1)
    valid: NDArray[np.bool_] = total % 10 == 0
    return valid


def date_spec(format_: str) -> ColumnSpec:
    """The spec, without a column, that reads dates in a strptime format."""
    return ColumnSpec(
        type="datetime" if "%M" in format_ else "date", transform=(Step("date_format", format_),)
    )


def one_meaning(formats: Iterable[str]) -> bool:
    """Whether the formats, all of which fit, read the same dates: whether their parts have one order."""
    return len({re.sub(r"[^dmYyHIMSp]", "", re.sub("%[bB]", "%m", one)) for one in formats}) == 1


def _date_formats() -> Iterator[str]:
    for sign in "/-.":
        for time in _TIMES:
            yield f"%m{sign}%d{sign}%Y{time}"
            yield f"%d{sign}%m{sign}%Y{time}"
            yield f"%Y{sign}%m{sign}%d{time}"
        yield from (f"%m{sign}%d{sign}%y", f"%d{sign}%m{sign}%y", f"%y{sign}%m{sign}%d")
    yield from ("%m/%d/%Y %I:%M %p", "%m/%d/%Y %I:%M:%S %p")
    yield from _WORDED


def _date_gate(format_: str) -> str:
    parts = re.split("%(.)", format_)
    gates = [_DIRECTIVES[part] if number % 2 else re.escape(part) for number, part in enumerate(parts)]
    return f"^{''.join(gates)}$"


def _separated(sign: str) -> str:
    word = rf"\s*[^\s{sign}]+(?: [^\s{sign}]+){{0,2}}\s*"
    return rf"^{word}(?:[{sign}](?:{word})?)+$"


DATE_FORMATS: Final[Mapping[str, TextType]] = {
    **{format_: TextType(_date_gate(format_), spec=date_spec(format_)) for format_ in _date_formats()},
    "%Y%m%d": TextType(_COMPACT, spec=date_spec("%Y%m%d")),
}
_NUMBER: Final = ColumnSpec(type="number")
# At most 15 digits: what has more is a code, and would lose digits as a number in a browser.
TYPES: Final[Mapping[str, TextType]] = {
    "integer": TextType(r"^-?(?:0|[1-9]\d{0,14})$", spec=ColumnSpec(type="integer")),
    "number": TextType(r"^-?(?:(?:0|[1-9]\d{0,14})(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$", spec=_NUMBER),
    "number with commas for points": TextType(
        r"^-?(?:0|[1-9]\d{0,14})(?:,\d+)?$",
        spec=replace(_NUMBER, transform=(Step("replace", pairs=((",", "."),)),)),
    ),
    "number with commas between thousands": TextType(
        r"^-?[1-9]\d{0,2}(?:,\d{3})*(?:\.\d+)?$",
        spec=replace(_NUMBER, transform=(Step("replace", pairs=((",", ""),)),)),
    ),
    "boolean": TextType(r"^[A-Za-z01]{1,5}$", spec=ColumnSpec(type="boolean")),
    "date": TextType(r"^\d{4}-\d\d-\d\d$", spec=ColumnSpec(type="date")),
    "datetime": TextType(r"^\d{4}-\d\d-\d\d", spec=ColumnSpec(type="datetime")),
    "json": TextType(r"^\s*(?:\{|\[)", spec=ColumnSpec(type="json")),
}
SHAPES: Final[Mapping[str, TextType]] = {
    "digits": TextType(r"^[+-]?\d+$", 1.0),
    ";": TextType(_separated(";"), 0.5),
    "|": TextType(_separated("|"), 0.5),
    "card": TextType(r"^\d(?:[ -]?\d){12,18}$", 0.9, luhn=True),
    "mail": TextType(r"^[^@\s,;]+@[^@\s,;]+\.[^@\s,;.]+$", 0.9),
    "phone": TextType(r"^(?:\+|00)\d[\d ()./-]{5,18}\d$", 0.9),
    "ip": TextType(r"^\d{1,3}(?:\.\d{1,3}){3}$", 0.9),
    "national": TextType(r"^\d{3}-\d\d-\d{4}$", 0.9),
}
