"""The notations of dates that are tried, and which one is meant where several fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from etl.init.readings import Reading
from etl.job import ColumnSpec, Step

if TYPE_CHECKING:
    from etl.job import ValueType

_TIMES: Final = ("", " %H:%M", " %H:%M:%S")
# In the order of preference where two say the same of every value, as %b and %B do of May.
_WORDED: Final = (
    "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%d. %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y",
    "%d/%b/%Y",
)  # fmt: skip
_GATES: Final = {
    "Y": r"\d{4}", "y": r"\d\d", "m": r"\d{1,2}", "d": r"\d{1,2}", "b": r"[A-Za-z]{3}", "B": r"[A-Za-z]{3,9}",
    "H": r"\d{1,2}", "I": r"\d{1,2}", "M": r"\d\d", "S": r"\d\d", "p": r"[AaPp][Mm]",
}  # fmt: skip
# What every format's text matches; asked once, it spares most columns all formats.
LIKE_A_DATE: Final = r"^(?:\d{1,4}(?:[/.-]|\.? )|[A-Za-z]{3,9} \d|\d{8}$)"
# Eight digits are a date only if the date is one that somebody may have written down.
_COMPACT: Final = r"^(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$"


def date_spec(format_: str) -> ColumnSpec:
    """The spec, without a column, that reads dates in a strptime format."""
    kind: ValueType = "datetime" if "%M" in format_ else "date"
    return ColumnSpec(type=kind, transform=(Step("date_format", format_),))


def order(format_: str) -> str:
    """The order of the parts of a format: "dmY" for %d/%m/%Y, whatever stands between."""
    return re.sub(r"[^dmYyHIMSp]", "", re.sub("%[bB]", "%m", format_).replace("%", ""))


def one_meaning(formats: Iterable[str]) -> bool:
    """Whether the formats, all of which fit, read the same dates."""
    return len({order(format_) for format_ in formats}) == 1


def _formats() -> Iterator[str]:
    for sign in "/-.":
        for time in _TIMES:
            yield f"%m{sign}%d{sign}%Y{time}"
            yield f"%d{sign}%m{sign}%Y{time}"
            yield f"%Y{sign}%m{sign}%d{time}"
        yield from (f"%m{sign}%d{sign}%y", f"%d{sign}%m{sign}%y", f"%y{sign}%m{sign}%d")
    yield from ("%m/%d/%Y %I:%M %p", "%m/%d/%Y %I:%M:%S %p")
    yield from _WORDED


def _gate(format_: str) -> str:
    parts = re.split("%(.)", format_)
    gates = [_GATES[part] if number % 2 else re.escape(part) for number, part in enumerate(parts)]
    return f"^{''.join(gates)}$"


FORMATS: Final[Mapping[str, Reading]] = {
    **{format_: Reading(_gate(format_), spec=date_spec(format_)) for format_ in _formats()},
    "%Y%m%d": Reading(_COMPACT, spec=date_spec("%Y%m%d")),
}
