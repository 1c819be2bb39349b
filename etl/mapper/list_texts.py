"""The type list in text: parts between separators, JSON arrays, and arrays as Postgres writes them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.arrow.exact_json import dump, load
from etl.arrow.raw_json import mark_one
from etl.mapper.cells import Cells, Fault, as_mask, blank_out, faults_of, text_layout
from etl.mapper.json_values import fit_list
from etl.mapper.limits import TooLong, fit_lists
from etl.mapper.lists import split
from etl.mapper.native import NESTED_LIST

if TYPE_CHECKING:
    from pydantic import JsonValue

    from etl.mapper.cells import Mask

NO_LIST: Final = (
    '{} begins as a list does, and is neither a JSON array such as ["a"] nor one of Postgres such as {a}'
)

# The first bytes of what may stand at the beginning of a list: brackets, and blanks of all kinds before them.
_BEGINNINGS: Final = np.array([code in b"[{ \t\r\n\f\v\xc2\xe1\xe2\xe3" for code in range(256)])
_BRACKETED: Final = r"^[\s\pZ]*[\[{]"
_ELEMENT: Final = re.compile(
    r'\s*(?:"((?:[^"\\]|\\.)*)"|((?:[^\s,{}"\\]|\\.|\s+(?![\s,}]|$))+))\s*(,|$)', re.DOTALL
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_BAD: Final = ("bad_list", NO_LIST)
_NESTED: Final = ("nested_list", NESTED_LIST)

# The elements, or code and sentence of what is wrong.
_Read: TypeAlias = "list[JsonValue] | tuple[str, str]"


def read_lists(texts: pa.Array, separator: str, too_long: TooLong) -> Cells:
    """Texts as lists of text; elements of JSON arrays that are no text are marked JSON."""
    bracketed = _bracketed(texts)
    if not bracketed.any():
        return split(texts, separator).then(lambda lists: fit_lists(lists, too_long))
    parts = read_lists(blank_out(texts, bracketed), separator, too_long)
    encoded = texts.filter(pa.array(bracketed)).dictionary_encode()
    read = [_read(text, too_long) for text in encoded.dictionary.to_pylist()]
    places = np.arange(len(texts))
    places[bracketed] = len(texts) + encoded.indices.to_numpy(zero_copy_only=False)
    distinct = pa.array([_texts(one) for one in read], parts.values.type)
    lists = pa.concat_arrays([parts.values, distinct]).take(pa.array(places))
    wrong = [None if isinstance(one, list) else one for one in read]
    codes = [wrong[place] for place in encoded.indices.to_pylist()]
    return Cells(lists, parts.faults + tuple(_faults(codes, bracketed)))


def _bracketed(texts: pa.Array) -> Mask:
    """Which texts begin as a list does; bool, shape (n,)."""
    starts, stops, codes = text_layout(texts)
    first = codes[starts[starts < stops]]
    if not _BEGINNINGS[first].any():
        return np.zeros(len(texts), dtype=np.bool_)
    return as_mask(pc.match_substring_regex(texts, _BRACKETED))


def _faults(codes: list[tuple[str, str] | None], rows: Mask) -> list[Fault]:
    """What is wrong with the marked rows; `codes` (shape (k,)) are theirs."""
    found: list[Fault] = []
    for code in dict.fromkeys(code for code in codes if code is not None):
        marks = np.zeros(len(rows), dtype=np.bool_)
        marks[np.flatnonzero(rows)[[one == code for one in codes]]] = True
        found += faults_of("bad_list", marks, NO_LIST) if code == _BAD else faults_of(code[0], marks, code[1])
    return found


def _texts(read: _Read) -> list[str] | None:
    if not isinstance(read, list):
        return None
    return [one if isinstance(one, str) else mark_one(dump(one)) for one in read]


def _read(text: str, too_long: TooLong) -> _Read:
    text = text.strip()
    elements = _json(text) if text[0] == "[" else _postgres(text)
    return fit_list(elements, too_long) if isinstance(elements, list) else elements


def _json(text: str) -> _Read:
    try:
        value: JsonValue = load(text)
    except (ValueError, RecursionError):
        return _BAD
    return value if isinstance(value, list) else _BAD


def _postgres(text: str) -> _Read:
    """The elements between braces; NULL without quotes is none."""
    if not text.endswith("}"):
        return _BAD
    inner = text[1:-1]
    if inner.lstrip().startswith("{"):
        return _NESTED
    elements: list[JsonValue] = []
    at, more = 0, bool(inner.strip())
    while more:
        found = _ELEMENT.match(inner, at)
        if found is None:
            return _BAD
        quoted, bare, comma = found.groups()
        if quoted is not None or bare.upper() != "NULL":
            elements.append(_ESCAPED.sub(r"\1", bare if quoted is None else quoted))
        at, more = found.end(), comma == ","
    return elements
