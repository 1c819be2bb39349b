"""JSON in text: the type json, and the type list, which is parts, or a JSON or Postgres array."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.limits import MAX_DEPTH, MAX_STRING_LENGTH
from ..arrow.exact_json import dump_json, load_json
from ..arrow.json_lines import mark_json, mark_json_text
from .column_values import ColumnValues, ValueIssue, as_mask, blank_out, text_layout
from .lists import LIST_TOO_LONG, NESTED_LIST, STRING_TOO_LONG, TooLong, fit_lists, flatten_lists
from .numbers import NOT_FINITE
from .typed_values import TOO_DEEP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic import JsonValue

NOT_JSON: Final = "{} is not JSON"
NOT_A_LIST: Final = (
    '{} begins like a list, and is neither a JSON array such as ["a"] nor a Postgres array such as {a}'
)

# The first bytes of what may stand at the beginning of a list: brackets, and blanks of all kinds before them.
_BEGINNINGS: Final = np.array([code in b"[{ \t\r\n\f\v\xc2\xe1\xe2\xe3" for code in range(256)])
_BRACKETED: Final = r"^[\s\pZ]*[\[{]"
_ELEMENT: Final = re.compile(
    r'\s*(?:"((?:[^"\\]|\\.)*)"|((?:[^\s,{}"\\]|\\.|\s+(?![\s,}]|$))+))\s*(,|$)', re.DOTALL
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)

# Code and message of an issue.
_Issue: TypeAlias = tuple[str, str]
_T = TypeVar("_T")


class _UnfitError(ValueError):
    """The value can't be sent; the arguments are code and message of the issue."""


# --- the type json ---------------------------------------------------------------------------------------


def parse_json(texts: pa.Array, too_long: TooLong) -> ColumnValues:
    """JSON texts written anew without blanks; `null` becomes null. The result is raw."""
    return _rewrite(texts, lambda text: _load(text, "bad_json", NOT_JSON), too_long)


def clean_nested(texts: pa.Array, too_long: TooLong) -> ColumnValues:
    """JSON texts of objects and lists from typed sources, without nulls and objects of nulls; raw."""
    return _rewrite(texts, lambda text: _without_nulls(load_json(text)), too_long)


def _rewrite(texts: pa.Array, read: Callable[[str], JsonValue], too_long: TooLong) -> ColumnValues:
    def rewrite(text: str) -> str | None:
        value = _fit(read(text), 0, too_long)
        return None if value is None else dump_json(value)

    results, unfit = _apply_each(rewrite, texts)
    return ColumnValues(pa.array(results, pa.string()), _issues_by_row(unfit), raw=True)


def _apply_each(
    function: Callable[[str], _T | None], texts: pa.Array
) -> tuple[list[_T | None], list[_Issue | None]]:
    """The result of each text, None for null and for what can't be sent; and the issue of each text."""
    results: list[_T | None] = [None] * len(texts)
    unfit: list[_Issue | None] = [None] * len(texts)
    for row, text in enumerate(texts.to_pylist()):
        try:
            results[row] = None if text is None else function(text)
        except _UnfitError as error:
            unfit[row] = error.args[0], error.args[1]
    return results, unfit


def _load(text: str, code: str, message: str) -> Any:
    try:
        return load_json(text)
    except (ValueError, RecursionError) as error:
        raise _UnfitError(code, message) from error


def _issues_by_row(found: Sequence[_Issue | None]) -> tuple[ValueIssue, ...]:
    """The issues of n rows, each with all rows that have it."""
    return tuple(
        ValueIssue(issue[0], np.array([one == issue for one in found], np.bool_), issue[1])
        for issue in dict.fromkeys(found)
        if issue is not None
    )


def _without_nulls(value: JsonValue, depth: int = 0) -> JsonValue:
    """The value without nulls; what is nested beyond the limit stays, as `_fit` reports it."""
    if depth > MAX_DEPTH:
        return value
    if isinstance(value, dict):
        members = ((key, _without_nulls(member, depth + 1)) for key, member in value.items())
        return {key: member for key, member in members if member is not None} or None
    if isinstance(value, list):
        return [_without_nulls(element, depth + 1) for element in value]
    return value


def _fit(value: JsonValue, depth: int, too_long: TooLong) -> JsonValue:
    """The value as it may be sent. Raises _UnfitError."""
    if isinstance(value, str):
        if len(value) > MAX_STRING_LENGTH and too_long == "reject":
            raise _UnfitError("too_long", STRING_TOO_LONG)
        return value[:MAX_STRING_LENGTH]
    if isinstance(value, float) and not math.isfinite(value):
        raise _UnfitError("not_finite", NOT_FINITE)
    if isinstance(value, (list, dict)) and depth == MAX_DEPTH:
        raise _UnfitError("too_deep", TOO_DEEP)
    if isinstance(value, list):
        return _fit_elements(value, depth, too_long)
    if isinstance(value, dict):
        return {key: _fit(member, depth + 1, too_long) for key, member in value.items()}
    return value


def _fit_elements(elements: list[JsonValue], depth: int, too_long: TooLong) -> list[JsonValue]:
    """The list without nulls; its strings count together, and where they are cut the rest is left out."""
    fitting: list[JsonValue] = []
    characters = 0
    for element in elements:
        if isinstance(element, list):
            raise _UnfitError("nested_list", NESTED_LIST)
        fit = _fit(element, depth + 1, too_long)
        characters += len(fit) if isinstance(fit, str) else 0
        if characters > MAX_STRING_LENGTH and too_long == "reject":
            raise _UnfitError("too_long", LIST_TOO_LONG)
        if characters <= MAX_STRING_LENGTH and fit is not None:
            fitting.append(fit)
    return fitting


# --- the type list ---------------------------------------------------------------------------------------


def parse_lists(texts: pa.Array, separator: str, too_long: TooLong) -> ColumnValues:
    """Texts as lists of text; elements of JSON arrays that are not text are marked JSON."""
    starts, stops, codes = text_layout(texts)
    bracketed = np.zeros(len(texts), dtype=np.bool_)
    if _BEGINNINGS[codes[starts[starts < stops]]].any():
        bracketed = as_mask(pc.match_substring_regex(texts, _BRACKETED))
    if not bracketed.any():
        # Elements are trimmed, and empty ones left out; where nothing is left, the list is null.
        split = flatten_lists(pc.split_pattern(texts, separator))
        elements = pc.utf8_trim_whitespace(split.elements)
        lists = split.rebuild(elements, as_mask(pc.not_equal(elements, "")))
        return fit_lists(blank_out(lists, pc.equal(pc.list_value_length(lists), 0)), too_long)
    parts = parse_lists(blank_out(texts, bracketed), separator, too_long)

    def read(text: str) -> list[str]:
        text = text.strip()
        elements = _load(text, "bad_list", NOT_A_LIST) if text[0] == "[" else _postgres_elements(text)
        fitting = _fit_elements(elements, 0, too_long)
        return [one if isinstance(one, str) else mark_json_text(dump_json(one)) for one in fitting]

    encoded = texts.filter(pa.array(bracketed)).dictionary_encode()
    read_lists, unfit = _apply_each(read, encoded.dictionary)
    places = encoded.indices.to_numpy(zero_copy_only=False)
    source = np.arange(len(texts))
    source[bracketed] = len(texts) + places
    merged = pa.concat_arrays([parts.values, pa.array(read_lists, parts.values.type)]).take(pa.array(source))
    by_row = [None if place < 0 else unfit[place] for place in (source - len(texts)).tolist()]
    return ColumnValues(merged, parts.issues + _issues_by_row(by_row))


def _postgres_elements(text: str) -> list[JsonValue]:
    """The elements of a Postgres array; NULL without quotes is none."""
    inner = text[1:-1]
    if not text.endswith("}"):
        raise _UnfitError("bad_list", NOT_A_LIST)
    if inner.lstrip().startswith("{"):
        raise _UnfitError("nested_list", NESTED_LIST)
    elements: list[JsonValue] = []
    at, more = 0, bool(inner.strip())
    while more:
        if (found := _ELEMENT.match(inner, at)) is None:
            raise _UnfitError("bad_list", NOT_A_LIST)
        quoted, bare, comma = found.groups()
        if quoted is not None or bare.upper() != "NULL":
            elements.append(_ESCAPED.sub(r"\1", bare if quoted is None else quoted))
        at, more = found.end(), comma == ","
    return elements


# --- JSON arrays as lists of text ------------------------------------------------------------------------


def mark_elements(texts: pa.Array) -> pa.Array:
    """JSON texts as lists of marked strings: an array by element, any other value as a list of one."""
    lists = flatten_lists(pa.array(list(map(_element_texts, texts.to_pylist())), pa.list_(pa.string())))
    return lists.rebuild(mark_json(lists.elements))


def json_element_texts(texts: pa.Array) -> pa.Array:
    """JSON texts as lists of text: text without its quotes, any other element as its JSON."""
    parts = flatten_lists(pa.array(list(map(_element_texts, texts.to_pylist())), pa.list_(pa.string())))
    elements = [str(load_json(one)) if one[0] == '"' else one for one in parts.elements.to_pylist()]
    return parts.rebuild(pa.array(elements, pa.string()))


def _element_texts(text: str | None) -> list[str] | None:
    """The JSON texts of the elements of an array; any other value is its only element."""
    if text is None:
        return None
    value = load_json(text)
    return [dump_json(element) for element in (value if isinstance(value, list) else [value])]
