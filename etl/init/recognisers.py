"""Recognisers of text: each type, date format and shape is tried on all values of many columns at once.

Whether a value fits a type is asked of the mapper itself, so what is proposed is what will work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..arrow.layout import as_mask, text_layout
from ..job.column_spec import ColumnSpec, Step
from ..mapper.column import Column
from ..mapper.numbers import FALSE, SPACES, TRUE
from .names import VOCABULARY, texts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

NULLS, YES, NO, _CURRENCIES = map(texts_of, ("nulls", "yes", "no", "currencies"))
_TIMES: Final = ("", " %H:%M", " %H:%M:%S")
# In the order of preference where two read the same of every value, as %b and %B do of May.
_WORDED: Final = (
    "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%d. %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y",
    "%d/%b/%Y",
)  # fmt: skip
# Digits are 9 and letters are a where a format is compared with the pattern of a text.
_DIRECTIVES: Final = {
    "Y": "9{4}", "y": "99", "m": "9{1,2}", "d": "9{1,2}", "b": "a{3}", "B": "a{3,9}",
    "H": "9{1,2}", "I": "9{1,2}", "M": "99", "S": "99", "p": "aa",
}  # fmt: skip
# A number with a fraction isn't, and there are many of these.
_LIKE_A_DATE: Final = r"^(?:\d{1,4}(?:[/.年-]|\.? )(?:\d{1,2}\D|\p{L})|[A-Za-z]{3,9} \d)"
COMPACT: Final = "%Y%m%d"
# Eight digits are a date only if the date is one that somebody may have written down.
_EIGHT_DIGITS: Final = r"^(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$"
SEPARATORS: Final = (";", "|", ",")
TWO_LETTERS: Final = r"^\p{L}{2}$"
_LONGEST_NULL: Final = max(map(len, NULLS)) * 3 + 4  # bytes
# By the first two bytes of a text, whether it may be a word for null, blanks around it or not.
_NULL_BEGINS: Final = np.zeros((256, 256), dtype=np.bool_)
_NULL_BEGINS[[*range(0x21), *range(0x80, 0x100)]] = True
for _first, _second in {(word[0], word[1:2]) for word in NULLS if word[0].isascii()}:
    _signs = [ord(_second.lower()), ord(_second.upper())] if _second and _second.isascii() else range(256)
    _NULL_BEGINS[np.ix_([ord(_first.lower()), ord(_first.upper())], _signs)] = True
_MONEY: Final = "|".join(sorted(map(re.escape, _CURRENCIES), key=len, reverse=True))
# What stands around a number is money, percents and spaces.
_AROUND: Final = rf"(?:{_MONEY}|[{SPACES}])*"
_SIGNS: Final = rf"[\d.,'\x{{2019}}{SPACES}]*"
_WRITTEN: Final = rf"^{_AROUND}[+-]?[.,]?\d{_SIGNS}{_AROUND}$"
AROUND: Final = rf"^(?P<before>{_AROUND})(?P<number>[+-]?[.,]?\d(?:{_SIGNS}\d)?[.,]?)(?P<after>{_AROUND})$"


class _TextType(NamedTuple):
    """A way to read text: `gate` is a pattern that every fitting text matches.

    `reads` says which of the texts that match it fit; all do without it.
    """

    gate: str
    reads: Callable[[pa.StringArray], Mask] | None = None


def matches(texts: pa.StringArray, pattern: str) -> Mask:
    """Which texts, shape (n,) and without nulls, have a part that a regular expression matches."""
    return as_mask(pc.match_substring_regex(texts, pattern))


def fitting(texts: pa.StringArray, spec: ColumnSpec) -> Mask:
    """Which texts, shape (n,) and without nulls, the mapper reads by a spec."""
    column = Column((), "", "value", replace(spec, column="", invalid="reject"))
    cells = column.read(texts, len(texts), text=True)
    return as_mask(cells.values.is_valid()) & ~cells.wrong


def are_null(texts: pa.StringArray, *, codes: bool = False) -> Mask:
    """Which texts, shape (n,), are words for null; two letters are none where texts are `codes` of two."""
    found = np.zeros(len(texts), dtype=np.bool_)
    starts, stops, letters = text_layout(texts)
    if not len(letters):
        return found
    # Two bytes show that most values aren't such words; after a single byte comes that of the next value.
    begins = letters[np.minimum(starts, len(letters) - 1)].astype(np.uint16) << 8
    begins |= letters[np.minimum(starts + 1, len(letters) - 1)]
    sizes = stops - starts
    places = np.flatnonzero(_NULL_BEGINS.ravel()[begins] & (sizes <= _LONGEST_NULL) & (sizes > 0))
    if len(places):
        some = texts.take(pa.array(places))
        null = as_mask(pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(some)), value_set=_word_array(NULLS)))
        found[places] = null & ~matches(some, TWO_LETTERS) if codes else null
    return found


def is_short_word(word: str) -> bool:
    """Whether a word for null may be a value elsewhere, such as a country's code: each column has its own."""
    return len(word) <= 2 and word.isalpha()


def _luhn_valid(texts: pa.StringArray) -> Mask:
    """Which texts have digits with a right check sum, as card numbers do; at most 19 digits, shape (n,)."""
    digits = pc.utf8_lpad(pc.replace_substring_regex(texts, r"\D", ""), 20, "0").cast(pa.binary(20))
    signs = np.frombuffer(digits.buffers()[1], dtype=np.uint8).reshape(-1, 20)
    matrix = signs[digits.offset : digits.offset + len(digits)] - ord("0")
    doubled = matrix[:, 0::2] * 2
    total = matrix[:, 1::2].sum(axis=1) + np.where(doubled > 9, doubled - 9, doubled).sum(axis=1)
    valid: Mask = total % 10 == 0
    return valid


def date_spec(formats: Iterable[str]) -> ColumnSpec:
    """The spec, without a column, that reads dates in strptime formats."""
    step = Step("date_format", formats=tuple(formats))
    timed = any("%M" in one for one in step.formats)
    return ColumnSpec(type="datetime" if timed else "date", transform=(step,))


def order_of(format_: str) -> str:
    """The order of a format's parts: two formats of one order read the same dates."""
    return re.sub(r"[^dmYyHIMSp]", "", re.sub("%[bB]", "%m", format_))


def _date_formats() -> Iterator[str]:
    for sign in "/-.":
        for time in (*_TIMES, *((", %H:%M", ", %H:%M:%S") if sign != "-" else ())):
            yield f"%m{sign}%d{sign}%Y{time}"
            yield f"%d{sign}%m{sign}%Y{time}"
            yield f"%Y{sign}%m{sign}%d{time}"
        yield from (f"%m{sign}%d{sign}%y", f"%d{sign}%m{sign}%y", f"%y{sign}%m{sign}%d")
    yield from ("%Y-%m-%dT%H:%M:%S", "%m/%d/%Y %I:%M %p", "%m/%d/%Y %I:%M:%S %p")
    yield from (f"%Y年%m月%d日{time}" for time in _TIMES)
    yield from (*_WORDED, COMPACT)


def _date_gate(format_: str) -> str:
    if format_ == COMPACT:
        return _EIGHT_DIGITS
    parts = re.split("%(.)", format_)
    literals = [re.sub(r"(?![T])[^\W\d_]|T", "a", re.escape(part)) for part in parts]
    gates = [_DIRECTIVES[part] if number % 2 else literals[number] for number, part in enumerate(parts)]
    return f"^{''.join(gates)}$"


DATE_FORMATS: Final[Mapping[str, _TextType]] = {
    one: _TextType(_date_gate(one), partial(fitting, spec=date_spec([one]))) for one in _date_formats()
}
_NUMBER: Final = ColumnSpec(type="number")
# The ways of writing numbers, in the order of preference: the decimal sign, and that between thousands.
STYLES: Final[Mapping[str, tuple[str, str]]] = {
    style: (style[-2], "" if style[1].isdigit() else style[1])
    for style in ("1234.5", "1234,5", "1,234.5", "1.234,5", "1 234,5", "1 234.5", "1'234.5")
}
_BARE, _ISO, _BRACKETED, _MAIL = (
    {
        name: _TextType(gate, partial(fitting, spec=ColumnSpec(type=type_[0])) if type_ else None)
        for name, (gate, *type_) in forms.items()
    }
    for forms in VOCABULARY["forms"].values()
)
_BARE["card"] = _TextType(_BARE["card"].gate, _luhn_valid)
_ENGLISH: Final = frozenset(TRUE + FALSE)


@cache
def _word_array(words: frozenset[str]) -> pa.Array:
    """Words as an array; made only when it is needed, as pyarrow then looks for pandas."""
    return pa.array(sorted(words), pa.string())


def fits_by_name(texts: pa.StringArray, *, numbers: bool = False) -> dict[str, Mask]:
    """Which of the texts, shape (n,) and without nulls, fit each recogniser that any of them fits.

    `numbers`: all are numbers of a typed column, of which only some are of interest.
    """
    if numbers:
        return _gated(texts, {name: _BARE[name] for name in ("s", "ms", "us", "ns", "card")})
    words = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    found = {
        "null": are_null(texts),
        "yes": as_mask(pc.is_in(words, value_set=_word_array(YES))),
        "no": as_mask(pc.is_in(words, value_set=_word_array(NO))),
        "boolean": as_mask(pc.is_in(pc.utf8_lower(texts), value_set=_word_array(_ENGLISH))),
        **{sign: as_mask(pc.match_substring(texts, sign)) for sign in SEPARATORS},
        **_gated(texts, _BARE, r"^[+-]?[\d.]"),
        **_gated(texts, WRITTEN_NUMBERS, _WRITTEN),
        **_gated(texts, _ISO, r"^\d{4}-\d\d-\d\d"),
        **_gated(texts, _BRACKETED, r"^\s*[\[{]"),
        **_gated(texts, _MAIL, "@"),
        **_gated(texts, DATE_FORMATS, _LIKE_A_DATE, by_pattern=True),
        **_gated(texts, {COMPACT: DATE_FORMATS[COMPACT]}),
    }
    return {name: mask for name, mask in found.items() if mask.any()}


def _gated(
    texts: pa.StringArray, types: Mapping[str, _TextType], gate: str = "", *, by_pattern: bool = False
) -> dict[str, Mask]:
    """Which texts fit each type, of those that match a gate.

    `by_pattern`: the gates of the types are for the patterns of texts, which are few.
    """
    found: dict[str, Mask] = {}
    places = np.flatnonzero(matches(texts, gate))
    some = shown = texts.take(pa.array(places))
    codes = np.arange(len(places))
    if by_pattern:
        signs = pc.replace_substring_regex(pc.replace_substring_regex(some, r"\p{L}", "a"), r"\d", "9")
        patterns = signs.dictionary_encode()
        shown, codes = patterns.dictionary, np.array(patterns.indices)
    for name, text_type in types.items() if len(places) else ():
        own = np.flatnonzero(matches(shown, text_type.gate)[codes])
        if text_type.reads is not None and len(own):
            own = own[text_type.reads(some.take(pa.array(own)))]
        if len(own):
            found[name] = np.zeros(len(texts), dtype=np.bool_)
            found[name][places[own]] = True
    return found


def style_spec(style: str, strip: str = "") -> ColumnSpec:
    """The spec, without a column, that reads numbers of a style with signs around them."""
    decimal, thousands = STYLES[style]
    return replace(_NUMBER, decimal=decimal, thousands=thousands, strip=strip)


def _style_gate(decimal: str, thousands: str) -> str:
    """No leading zeros: what has them is a code."""
    between = f"[{SPACES}]" if thousands == " " else "['\u2019]" if thousands == "'" else re.escape(thousands)
    whole = (
        rf"(?:0|[1-9]\d{{0,2}}(?:{between}\d{{3}}){{0,4}}|[1-9]\d{{0,14}})"
        if thousands
        else r"(?:0|[1-9]\d{0,14})"
    )
    return rf"^{_AROUND}[+-]?(?:{whole}(?:{re.escape(decimal)}\d*)?|{re.escape(decimal)}\d+){_AROUND}$"


# The mapper reads all that fit, so it isn't asked.
WRITTEN_NUMBERS: Final = {style: _TextType(_style_gate(*signs)) for style, signs in STYLES.items()}
