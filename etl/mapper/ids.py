"""Ids as text, checked by Amplitude's rules, and for damage by spreadsheets and conversions.

An id is mangled by a spreadsheet, a column of floats or a copied invisible character. Ids are permanent at
Amplitude, so a mangled one must not become a user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..amplitude.requests import ID_RULES, REFUSED_IDS
from ..arrow.layout import as_mask, text_layout
from .column_values import ColumnValues, Issues, ValueIssue, empty_to_null, issues_of
from .typed_values import apply_steps, as_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..job.column_spec import Step

REMEDY: Final = "; export ids as text, or allow it with `ids: {mangled: keep}`"
_SCIENTIFIC_ID: Final = f"{{}} is a number in scientific notation, which loses digits{REMEDY}"
_FRACTION_ID: Final = f"{{}} is a number with a point or comma, and ids have none{REMEDY}"
_SPREADSHEET_ID: Final = f"{{}} begins with a sign that a spreadsheet puts there{REMEDY}"
_SHEET_ERROR_ID: Final = f"{{}} stands for an error in a formula of a spreadsheet{REMEDY}"
_LARGE_FLOAT_ID: Final = f"{{}} is a float beyond the whole numbers that floats hold exactly{REMEDY}"
NESTED_ID: Final = (
    "{} is an object or a list, and an id is one value; name its place inside with `path`, or another column"
)
_SIGNS_ID: Final = f"{{}} has neither letters nor digits{REMEDY}"
_LOST_ID: Final = f"{{}} has U+FFFD in place of a character that was lost{REMEDY}"
_INVISIBLE_ID: Final = "{} has an invisible or control character inside; remove it from the source"

# What follows one of these steps has nothing of a number any more.
_HIDING: Final = ("prefix", "sha256")
# Whole numbers up to here are all there; beyond, a float stands for several of them.
_EXACT: Final = {"float": 2**24, "double": 2**53}

_WHITE: Final = "".join(sign for sign in map(chr, range(0x3001)) if sign.isspace())
# The soft hyphen, marks and isolates of writing directions, the zero-width space, the word joiner and its
# kin, and the byte order mark. Not U+200C and U+200D, with which some scripts and emoji are written.
_HIDDEN: Final = (
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff"
)
_INSIDE: Final = f"[\x00-\x1f\x7f-\x9f\u2028\u2029{_HIDDEN}]"

_NUMBER: Final = r"\d{1,3}(?:,\d{3})+\.?\d*|\d{1,3}(?:\.\d{3})+,\d*|\d+[.,]\d*|[.,]\d+"
_FRACTION: Final = rf"^[+-]?(?:{_NUMBER})$"
# Google Analytics' client ids: a random number, a point and the second in which it was drawn. They have more
# digits than a float.
_CLIENT_ID: Final = r"^[1-9]\d{7,9}\.1\d{9}$"
# With one digit before the point, as everything that writes numbers does, or with a sign of the exponent.
# Several digits and an e between others, such as 12345e10, are a hexadecimal id.
_SCIENTIFIC: Final = (
    r"^(?:[+-]?(?:\d|\d+[.,]\d*|[.,]\d+)[eE][+-]?\d{1,3}|[+-]?\d+[eE][+-]\d{1,3}|[+-]\d+[eE]\d{1,3})$"
)
_SPREADSHEET: Final = r"^['=]"
_SHEET_ERROR: Final = r"^#(?:NAME\?|N/A|(?:VALUE|REF|DIV/0|NUM|NULL|SPILL|CALC)!)$"
# Such as the rule below a header, `#####` from a column too narrow, and `?????` where an encoding has no such
# letters. Those that begin with a sign of a spreadsheet are _SPREADSHEET; shorter ones are refused anyway.
_ONLY_SIGNS: Final = r"^[!-&(-/:-<>-@\[-`{-~][!-/:-@\[-`{-~ ]{4,}$"
_LOST: Final = "\ufffd"
_SHORT: Final = 24  # bytes an id on average, up to which it is cheaper to look at all of them

_BEGINS: Final = np.isin(range(256), list(b"0123456789+-.,'=#"))
_NUMERIC: Final = np.isin(range(256), list(b"0123456789.,eE"))
_SIGNS: Final = np.array([0x20 < byte < 0x7F and not chr(byte).isalnum() for byte in range(256)])
_SIGN: Final = np.isin(range(256), list(b"+-"))
_EXPONENT: Final = np.isin(range(256), list(b"eE"))
_TELLING: Final = np.isin(range(256), list(b".,eE"))
_LARGE: Final = max(map(len, REFUSED_IDS)) + 1
_REFUSED: Final = np.zeros((_LARGE + 1, 256), dtype=np.bool_)  # by length and first byte
for _id in REFUSED_IDS:
    _REFUSED[len(_id), [ord(_id[0].lower()), ord(_id[0].upper())]] = True
# Where a text is looked at, after its first byte; -1 is the last one. A UUID has a hyphen at 8, which a
# number has only behind an e.
_LOOKED_AT: Final = (8, 1, 2, -1, 3, 5)


def read_ids(values: pa.Array, steps: tuple[Step, ...], *, keep: bool) -> ColumnValues:
    """Plain values as trimmed ids after the steps; a mangled id is an issue unless `keep`.

    An id is judged after the steps that may repair it, and before the first that would hide what is wrong.
    """
    border = next((place for place, step in enumerate(steps) if step.verb in _HIDING), len(steps))
    found = id_texts(values, keep=keep).then(trim_ids)
    if border:
        found = found.then(apply_steps, steps[:border], blank_is_null=True).then(as_text).then(trim_ids)
    if not keep:
        found = ColumnValues(found.values, (*found.issues, *_mangled(found.values)))
    return found.then(apply_steps, steps[border:], blank_is_null=True)


def id_texts(values: pa.Array, *, keep: bool) -> ColumnValues:
    """Plain values as text; whole numbers of any type without a fraction."""
    kind, found = values.type, as_text(values)
    issues: Issues = ()
    if pa.types.is_decimal(kind):
        found = found.then(pc.replace_substring_regex, r"\.0*$", "")
    elif pa.types.is_floating(kind) and not keep:
        floats = values.to_numpy(zero_copy_only=False)
        large = np.isfinite(floats) & (np.abs(floats) > _EXACT[str(kind)])
        issues = issues_of("mangled_id", large, _LARGE_FLOAT_ID)
    elif pa.types.is_nested(kind) and not keep:
        issues = issues_of("mangled_id", values.is_valid(), NESTED_ID)
    return ColumnValues(found.values, issues + found.issues)


def trim_ids(texts: pa.Array) -> pa.Array:
    """Ids without blanks and invisible characters around them; an empty one is null."""
    return empty_to_null(pc.utf8_trim(texts, _WHITE + _HIDDEN))


def check_ids(ids: pa.Array, name: str) -> ColumnValues:
    """Ids as they are, with the issues for which Amplitude would refuse them; a null is not an issue here."""
    rules = ID_RULES[name]
    starts, stops, letters = text_layout(ids)
    if not len(letters) or int(letters.max()) > ord("~"):  # not each byte is a character
        rows = np.arange(len(ids))
    else:
        sizes, begins = stops - starts, letters[np.minimum(starts, len(letters) - 1)]
        suspect = _REFUSED[np.minimum(sizes, _LARGE), begins]
        rows = np.flatnonzero(suspect | (sizes < rules.shortest) | (sizes > rules.longest))
        if not len(rows):
            return ColumnValues(ids)
    few = ids if len(rows) == len(ids) else ids.take(pa.array(rows))
    lengths = pc.utf8_length(few)
    refused = pc.is_in(pc.utf8_lower(few), value_set=pa.array(sorted(rules.refused), pa.string()))
    short, long = pc.less(lengths, rules.shortest), pc.greater(lengths, rules.longest)
    checks = (
        ("refused_id", refused, f"Amplitude refuses {{}} as a {name}: it stands for no user"),
        ("short_id", short, f"{name} {{}} has fewer than {rules.shortest} characters"),
        ("long_id", long, f"{name} {{}} has more than {rules.longest} characters"),
    )
    return ColumnValues(ids, tuple(_issues_at(rows, checks, ids)))


def _issues_at(
    rows: NDArray[np.int64], checks: Iterable[tuple[str, pa.Array, str]], shown: pa.Array
) -> Iterator[ValueIssue]:
    """The issues of codes, marks of some rows, and messages; values are quoted from `shown`."""
    for code, marks, message in checks:
        bad = np.zeros(len(shown), dtype=np.bool_)
        bad[rows[as_mask(marks)]] = True
        yield from issues_of(code, bad, message, shown)


def _mangled(texts: pa.StringArray) -> Iterator[ValueIssue]:
    """The issues of mangled ids, which are trimmed; in most columns a few bytes of each show that none is."""
    starts, stops, letters = text_layout(texts)
    if not len(letters):
        return
    # Rows that may be numbers, or begin with a spreadsheet's sign. A column of nothing but digits has none.
    first = letters[np.minimum(starts, len(letters) - 1)]
    rows = np.flatnonzero(_BEGINS[first] & (stops > starts))
    begins = first[rows]
    spreadsheet = np.isin(begins, list(b"'=#"))
    spoilt, rows = rows[spreadsheet], rows[~spreadsheet]
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
    rows = np.sort(np.concatenate([spoilt, rows])) if len(spoilt) else rows
    few = texts if len(rows) == len(texts) else texts.take(pa.array(rows))
    patterns = (_SCIENTIFIC, _FRACTION, _SPREADSHEET, _SHEET_ERROR)
    if len(rows) and pc.any(pc.match_substring_regex(few, "|".join(patterns))).as_py():
        science, fraction, sheet, error, client = (
            pc.match_substring_regex(few, one) for one in (*patterns, _CLIENT_ID)
        )
        checks = (
            ("mangled_id", science, _SCIENTIFIC_ID),
            ("mangled_id", pc.and_not(fraction, client), _FRACTION_ID),
            ("mangled_id", sheet, _SPREADSHEET_ID),
            ("mangled_id", error, _SHEET_ERROR_ID),
        )
        yield from _issues_at(rows, checks, texts)
    if len(rows := np.flatnonzero(_SIGNS[first] & (stops > starts))):
        only_signs = pc.match_substring_regex(texts.take(pa.array(rows)), _ONLY_SIGNS)
        yield from _issues_at(rows, (("mangled_id", only_signs, _SIGNS_ID),), texts)
    if int(letters.min()) < ord(" ") or int(letters.max()) > ord("~"):
        yield from issues_of("mangled_id", pc.match_substring(texts, _LOST), _LOST_ID, texts)
        hidden = as_mask(pc.match_substring_regex(texts, _INSIDE))
        shown: list[str | None] = [None] * len(texts)
        for row in np.flatnonzero(hidden).tolist():  # with invisible characters written out
            signs = texts[row].as_py()
            shown[row] = "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in signs)
        if hidden.any():
            yield ValueIssue("mangled_id", hidden, _INVISIBLE_ID, pa.array(shown, pa.string()))
