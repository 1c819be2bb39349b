"""Ids that something has spoilt on their way: a spreadsheet, a column of floats, a copied invisible sign.

Ids are permanent at Amplitude, so none of these may become a user.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl.mapper.cells import Fault, Mask, as_mask, text_layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REMEDY: Final = "; export ids as text, or allow it with `ids: {mangled: keep}`"
SCIENTIFIC: Final = f"{{}} is a number in scientific notation, which loses digits{REMEDY}"
FRACTION: Final = f"{{}} is a number with a point or comma, and ids have none{REMEDY}"
SPREADSHEET: Final = f"{{}} begins with a sign that a spreadsheet puts there{REMEDY}"
LARGE_FLOAT: Final = f"{{}} is a float beyond the whole numbers that floats hold exactly{REMEDY}"
NESTED: Final = "{} is an object or a list, and an id is one value; map a column that holds the id"
INVISIBLE: Final = "{} has an invisible or control character inside; take it out of the source"

_WHITE: Final = "".join(sign for sign in map(chr, range(0x3001)) if sign.isspace())
# The soft hyphen, marks and isolates of writing directions, the zero-width space, the word joiner and its
# kin, and the byte order mark. Not U+200C and U+200D, with which some scripts and emoji are written.
_HIDDEN: Final = "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
_HIDDEN_SIGNS: Final = (
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff"
)
AROUND: Final = _WHITE + _HIDDEN_SIGNS
_INSIDE: Final = f"[\x00-\x1f\x7f-\x9f\u2028\u2029{_HIDDEN}]"

_PLAIN: Final = r"\d{1,3}(?:,\d{3})+\.?\d*|\d{1,3}(?:\.\d{3})+,\d*|\d+[.,]\d*|[.,]\d+"
_FRACTION: Final = rf"^[+-]?(?:{_PLAIN})$"
# Google Analytics' client ids: a random number, a point and the second in which it was drawn. They have more
# digits than a float.
_CLIENT_ID: Final = r"^[1-9]\d{7,9}\.1\d{9}$"
# With one digit before the point, as everything that writes numbers does, or with a sign of the exponent.
# Several digits and an e between others, such as 12345e10, are a hexadecimal id.
_SCIENTIFIC: Final = (
    r"^(?:[+-]?(?:\d|\d+[.,]\d*|[.,]\d+)[eE][+-]?\d{1,3}|[+-]?\d+[eE][+-]\d{1,3}|[+-]\d+[eE]\d{1,3})$"
)
_SIGNS: Final = r"^['=]"
_SHORT: Final = 24  # bytes an id on average, up to which it is cheaper to look at all of them
_ANY: Final = f"{_SCIENTIFIC}|{_FRACTION}|{_SIGNS}"


def _table(signs: bytes) -> NDArray[np.bool_]:
    table = np.zeros(256, dtype=np.bool_)
    table[list(signs)] = True
    return table


_BEGINS: Final = _table(b"0123456789+-.,'=")
_NUMERIC: Final = _table(b"0123456789.,eE")
_SIGN: Final = _table(b"+-")
_EXPONENT: Final = _table(b"eE")
_TELLING: Final = _table(b".,eE")
# Where a text is looked at, after its first byte; -1 is the last one. A UUID has a hyphen at 8, which a
# number has only behind an e.
_LOOKED_AT: Final = (8, 1, 2, -1, 3, 5)


def mangled(texts: pa.StringArray, told: Sequence[Mask] = ()) -> tuple[Fault, ...]:
    """What is wrong with trimmed ids; most columns are cleared by a look at a few bytes of each.

    A row has one such fault, and none if it is marked in one of the masks of `told`.
    """
    starts, stops, letters = text_layout(texts)
    if not len(letters):
        return ()
    found = list(_numbers(texts, starts, stops, letters))
    if int(letters.min()) < ord(" ") or int(letters.max()) > ord("~"):
        hidden = as_mask(pc.match_substring_regex(texts, _INSIDE))
        if hidden.any():
            found.append(Fault("mangled_id", hidden, INVISIBLE, _visible(texts, hidden)))
    return tuple(_once(found, told)) if found else ()


def _once(faults: list[Fault], told: Sequence[Mask]) -> Iterator[Fault]:
    known = np.logical_or.reduce(told, axis=0, initial=False)
    for fault in faults:
        rows = fault.rows & ~known
        known = known | rows
        if rows.any():
            yield replace(fault, rows=rows)


def _numbers(
    texts: pa.StringArray, starts: NDArray[np.int64], stops: NDArray[np.int64], letters: NDArray[np.uint8]
) -> list[Fault]:
    suspects = _suspects(starts, stops, letters)
    if not len(suspects):
        return []
    few = texts if len(suspects) == len(texts) else texts.take(pa.array(suspects))
    if not pc.any(pc.match_substring_regex(few, _ANY)).as_py():
        return []
    fraction = pc.and_not(pc.match_substring_regex(few, _FRACTION), pc.match_substring_regex(few, _CLIENT_ID))
    kinds = (
        (SCIENTIFIC, pc.match_substring_regex(few, _SCIENTIFIC)),
        (FRACTION, fraction),
        (SPREADSHEET, pc.match_substring_regex(few, _SIGNS)),
    )
    faults = []
    for says, marks in kinds:
        rows = np.zeros(len(texts), dtype=np.bool_)
        rows[suspects[as_mask(marks)]] = True
        faults.append(Fault("mangled_id", rows, says, texts))
    return faults


def _suspects(
    starts: NDArray[np.int64], stops: NDArray[np.int64], letters: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Rows whose texts may be numbers, or begin with a spreadsheet's sign, by a few bytes of each.

    Of a column of digits alone there is none.
    """
    rows = np.flatnonzero(_BEGINS[letters[np.minimum(starts, len(letters) - 1)]] & (stops > starts))
    begins = letters[starts[rows]]
    spoilt = rows[(begins == ord("'")) | (begins == ord("="))]
    rows = rows[(begins != ord("'")) & (begins != ord("="))]
    if len(letters) < _SHORT * len(rows) and not _TELLING[letters].any():
        rows = rows[:0]
    for place in _LOOKED_AT:
        if not len(rows):
            break
        last = stops[rows] - 1
        looked = last if place < 0 else np.minimum(starts[rows] + place, last)
        signs = letters[looked]
        may_be = _NUMERIC[signs]
        behind = np.flatnonzero(_SIGN[signs])
        may_be[behind] = _EXPONENT[letters[looked[behind] - 1]]
        rows = rows[may_be]
    return np.sort(np.concatenate([spoilt, rows])) if len(spoilt) else rows


def _visible(texts: pa.StringArray, rows: Mask) -> pa.Array:
    """The marked texts with their invisible characters written out, null elsewhere."""
    shown: list[str | None] = [None] * len(texts)
    for row in np.flatnonzero(rows).tolist():
        text = texts[row].as_py()
        shown[row] = "".join(sign if sign.isprintable() else _code(sign) for sign in text)
    return pa.array(shown, pa.string())


def _code(sign: str) -> str:
    return f"\\u{ord(sign):04x}"
