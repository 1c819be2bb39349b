"""What a column of text might be read as: each reading is asked of every value and counts what doesn't fit.

Whether a value fits a type is asked of the mapper itself, so what is proposed is what will work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.job import ColumnSpec, Step
from etl.mapper.column import Column

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl.init.values import Values

_ENOUGH: Final = 1000  # misfits that must be seen before a reading is given up


@dataclass(frozen=True, slots=True)
class Reading:
    """A way to read text. `gate` is a pattern that every fitting text matches; `spec`, if any, must take it.

    `share` is how many of the values (0 to 1) must fit for the reading to be of use.
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
            for fault in cells.faults:
                bad[places[fault.rows]] = True
        return bad


@dataclass(slots=True)
class Trial:
    """How a reading has done so far. `first` is the place (source, row) of the first misfit."""

    reading: Reading
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
        return not self.hopeless and self.fits > 0 and self.fits >= self.reading.share * self.total

    def add(self, values: Values) -> None:
        """Ask the reading of some more values."""
        if self.hopeless:
            return
        bad = self.reading.misfits(values.distinct)
        self._count(values, bad)

    def miss(self, values: Values) -> None:
        """Count values of which none fits."""
        if not self.hopeless:
            self._count(values, np.ones(len(values.distinct), dtype=np.bool_))

    def _count(self, values: Values, bad: NDArray[np.bool_]) -> None:
        missed = int(values.counts[bad].sum())
        if missed and self.first is None:
            self.first = values.place(int(np.flatnonzero(bad[values.codes])[0]))
        self.misfits += missed
        self.fits += len(values.codes) - missed
        self.hopeless = self.misfits > _ENOUGH and self.fits < self.total * self.reading.share / 2


def luhn_valid(texts: pa.StringArray) -> NDArray[np.bool_]:
    """Which texts have digits with a right check sum, as card numbers do; at most 19 digits, shape (n,)."""
    digits = pc.utf8_lpad(pc.replace_substring_regex(texts, r"\D", ""), 20, "0").cast(pa.binary(20))
    signs = np.frombuffer(digits.buffers()[1], dtype=np.uint8).reshape(-1, 20)
    matrix = signs[digits.offset : digits.offset + len(digits)] - ord("0")
    doubled = matrix[:, 0::2] * 2
    total = matrix[:, 1::2].sum(axis=1) + np.where(doubled > 9, doubled - 9, doubled).sum(axis=1)
    valid: NDArray[np.bool_] = total % 10 == 0
    return valid


def _separated(sign: str) -> str:
    word = rf"\s*[^\s{sign}]+(?: [^\s{sign}]+){{0,2}}\s*"
    return rf"^{word}(?:[{sign}](?:{word})?)+$"


# At most 15 digits: what has more is a code, and would lose digits as a number in a browser.
TYPES: Final[Mapping[str, Reading]] = {
    "integer": Reading(r"^-?(?:0|[1-9]\d{0,14})$", spec=ColumnSpec(type="integer")),
    "number": Reading(
        r"^-?(?:(?:0|[1-9]\d{0,14})(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$", spec=ColumnSpec(type="number")
    ),
    "number with commas for points": Reading(
        r"^-?(?:0|[1-9]\d{0,14})(?:,\d+)?$",
        spec=ColumnSpec(type="number", transform=(Step("replace", pairs=((",", "."),)),)),
    ),
    "number with commas between thousands": Reading(
        r"^-?[1-9]\d{0,2}(?:,\d{3})*(?:\.\d+)?$",
        spec=ColumnSpec(type="number", transform=(Step("replace", pairs=((",", ""),)),)),
    ),
    "boolean": Reading(r"^[A-Za-z01]{1,5}$", spec=ColumnSpec(type="boolean")),
    "date": Reading(r"^\d{4}-\d\d-\d\d$", spec=ColumnSpec(type="date")),
    "datetime": Reading(r"^\d{4}-\d\d-\d\d", spec=ColumnSpec(type="datetime")),
    "json": Reading(r"^\s*(?:\{|\[)", spec=ColumnSpec(type="json")),
}
SHAPES: Final[Mapping[str, Reading]] = {
    "digits": Reading(r"^[+-]?\d+$", 1.0),
    ";": Reading(_separated(";"), 0.5),
    "|": Reading(_separated("|"), 0.5),
    "card": Reading(r"^\d(?:[ -]?\d){12,18}$", 0.9, luhn=True),
    "mail": Reading(r"^[^@\s,;]+@[^@\s,;]+\.[^@\s,;.]+$", 0.9),
    "phone": Reading(r"^(?:\+|00)\d[\d ()./-]{5,18}\d$", 0.9),
    "ip": Reading(r"^\d{1,3}(?:\.\d{1,3}){3}$", 0.9),
    "national": Reading(r"^\d{3}-\d\d-\d{4}$", 0.9),
}
