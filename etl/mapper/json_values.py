"""JSON in columns: values of several kinds, texts of the types json and list, and values at a `path`.

A column of JSON values is split by kind, each kind is read as a column of its type, and all are merged. So a
value becomes the same whatever kinds of values stand in the rows around it.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.requests import MAX_DEPTH, MAX_STRING_LENGTH
from ..arrow.json_text import (
    JsonKind,
    RowIndices,
    as_marked_lists,
    as_marked_text,
    concat_values,
    dump_json,
    group_by_kind,
    is_json,
    json_column,
    load_json,
    mark_json_text,
)
from ..arrow.layout import FlatLists, as_mask, is_list, map_entries, text_layout, valid_mask
from ..errors import SourceError
from .column_values import (
    LIST_TOO_LONG,
    NESTED_LIST,
    STRING_TOO_LONG,
    ColumnValues,
    TooLong,
    ValueIssue,
    blank_out,
    empty_to_null,
    fit_lists,
    issues_of,
    words_to_null,
)
from .numbers import NOT_FINITE
from .typed_values import TOO_DEEP, plain_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic import JsonValue

    from ..job.column_spec import ColumnSpec

_NOT_AN_OBJECT: Final = "{} is not an object, so `path` leads nowhere in it"
_NOT_JSON: Final = "{} is not JSON"
_HALF_A_PAIR: Final = "{} has half of a surrogate pair, which is not text"
_NOT_A_LIST: Final = (
    '{} begins like a list, and is neither a JSON array such as ["a"] nor a Postgres array such as {a}'
)

# The first bytes of what may stand at the beginning of a list: brackets, and blanks of all kinds before them.
_BEGINNINGS: Final = np.array([code in b"[{ \t\r\n\f\v\xc2\xe1\xe2\xe3" for code in range(256)])
_BRACKETED: Final = r"^[\s\pZ]*[\[{]"
_ELEMENT: Final = re.compile(
    r'\s*(?:"((?:[^"\\]|\\.)*)"|((?:[^\s,{}"\\]|\\.|\s+(?![\s,}]|$))+))\s*(,|$)', re.DOTALL
)
_HALF: Final = re.compile("[\ud800-\udfff]")  # of a surrogate pair
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


class _UnfitError(ValueError):
    """The value can't be sent; the arguments are code and message of the issue."""


def _read_each(texts: pa.Array, read: Callable[[str], Any], kind: pa.DataType | None = None) -> ColumnValues:
    """Read each text as a value of a type, null if it can't be sent; equal texts are read once."""
    encoded = texts.dictionary_encode()
    found: list[Any] = []
    unfit: dict[tuple[str, str], list[int]] = {}
    for text in encoded.dictionary.to_pylist():
        value, fault = None, None
        try:
            value = read(text)
        except _UnfitError as error:
            fault = (error.args[0], error.args[1])
        if "\\u" in text and _HALF.search("".join(value or ())):
            value, fault = None, ("bad_json", _HALF_A_PAIR)
        if fault is not None:
            unfit.setdefault(fault, []).append(len(found))
        found.append(value)
    places = encoded.indices.fill_null(len(found)).to_numpy(zero_copy_only=False)
    issues = [ValueIssue(code, np.isin(places, bad), message) for (code, message), bad in unfit.items()]
    return ColumnValues(pa.array(found, kind or pa.string()).take(encoded.indices), tuple(issues))


def _load(text: str, code: str, message: str) -> Any:
    try:
        return load_json(text)
    except (ValueError, RecursionError) as error:
        raise _UnfitError(code, message) from error


# --- columns of JSON values ------------------------------------------------------------------------------


def read_json(
    values: pa.ExtensionArray, read: Mapping[JsonKind, Callable[[pa.Array], ColumnValues]]
) -> ColumnValues:
    """Read JSON values by their kinds, as `group_by_kind` has them.

    If all results are of one type, the column has it. Otherwise it is text, and what is not text is marked
    JSON in it.
    """
    n = len(values)
    arrays: list[pa.Array] = []
    places: list[RowIndices] = []
    issues: list[ValueIssue] = []
    for kind, rows, part in group_by_kind(values.storage.to_pylist()):
        found = read[kind](part)
        arrays.append(found.values)
        places.append(rows)
        for issue in found.issues:
            marks = np.zeros(n, dtype=np.bool_)
            marks[rows[issue.rows]] = True
            shown = None if issue.shown is None else _scatter(issue.shown, rows, n)
            issues.append(ValueIssue(issue.code, marks, issue.message, shown))
    if not arrays:
        return ColumnValues(pa.nulls(n, pa.string()))
    return ColumnValues(_scatter(concat_values(arrays), np.concatenate(places), n), tuple(issues))


def fill_nulls(values: pa.Array, filling: pa.Array) -> pa.Array:
    """Nulls replaced by a filling of shape (1,), which may be of another type."""
    places = np.where(valid_mask(values), np.arange(len(values)), len(values))
    return concat_values([values, filling]).take(pa.array(places))


def _scatter(values: pa.Array, rows: RowIndices, n: int) -> pa.Array:
    """The values at their rows among n, null elsewhere."""
    places = np.full(n, -1, dtype=np.int64)
    places[rows] = np.arange(len(rows))
    return values.take(pa.array(places, mask=places < 0))


def stable_type(values: pa.Array, role: str) -> pa.Array:
    """Values read from JSON text in a type that depends on the role alone, not on what they are.

    Where chunks end must not depend on how rows are batched.
    """
    if role == "list":
        lists = is_list(values.type)
        return as_marked_lists(values) if lists else pa.nulls(len(values), pa.list_(pa.string()))
    return as_marked_text(values) if role == "value" else values


# --- paths into objects ----------------------------------------------------------------------------------


def at_path(values: pa.Array, spec: ColumnSpec) -> ColumnValues:
    """The value at the spec's path in each value; null where an object has no such part.

    Objects in JSON give JSON values. Raises SourceError for a struct whose type has no such part.
    """
    if is_json(values.type):
        return _in_json(values.storage, spec.path)
    plain = plain_values(values)
    if pa.types.is_string(plain.values.type):
        plain = plain.then(pc.utf8_trim_whitespace).then(words_to_null, spec.nulls)
    return plain.then(_inside, spec.path, spec.column or "")


def _inside(values: pa.Array, path: Sequence[str], column: str) -> ColumnValues:
    kind, part = values.type, path[0]
    if pa.types.is_string(kind):
        return _in_json(empty_to_null(values), path)
    if pa.types.is_struct(kind):
        if kind.get_field_index(part) < 0:
            names = ", ".join(field.name for field in kind)
            raise SourceError(f"column {column} has no part `{part}`", hint=f"its parts are {names}")
        inner = pc.struct_field(values, part)
    elif pa.types.is_map(kind) and pa.types.is_string(kind.key_type):
        # Not by `map_lookup`, which takes no values of an extension type.
        lists = FlatLists.of(map_entries(values))
        keys, items = lists.elements.flatten()
        places = np.flatnonzero(as_mask(pc.equal(keys, part)))  # of equal keys the last one counts
        inner = _scatter(items.take(pa.array(places)), lists.owners[places], len(values))
    else:
        nothing = pa.nulls(len(values), pa.string())
        return ColumnValues(nothing, issues_of("bad_path", values.is_valid(), _NOT_AN_OBJECT))
    return plain_values(inner).then(_inside, path[1:], column) if path[1:] else ColumnValues(inner)


def _in_json(texts: pa.Array, path: Sequence[str]) -> ColumnValues:
    def part(text: str) -> str | None:
        value = _load(text, "bad_path", _NOT_AN_OBJECT)
        for name in path:
            if not isinstance(value, dict | None):
                raise _UnfitError("bad_path", _NOT_AN_OBJECT)
            value = None if value is None else value.get(name)
        return None if value is None else dump_json(value)

    return _read_each(texts, part).then(json_column)


# --- the type json ---------------------------------------------------------------------------------------


def fit_json(texts: pa.Array, too_long: TooLong, *, nulls: bool) -> ColumnValues:
    """JSON texts written anew without blanks; `null` becomes null. The result is of the type `JSON`.

    Without `nulls`, objects lose their nulls, and are null where they have no other members.
    """

    def rewrite(text: str) -> str | None:
        value = _fit(_load(text, "bad_json", _NOT_JSON), too_long, nulls=nulls)
        return None if value is None else dump_json(value)

    return _read_each(texts, rewrite).then(json_column)


def _fit(value: JsonValue, too_long: TooLong, depth: int = 0, *, nulls: bool = True) -> JsonValue:
    """The value as it can be sent; lists lose their nulls. Raises _UnfitError."""
    if isinstance(value, str):
        if len(value) > MAX_STRING_LENGTH and too_long == "reject":
            raise _UnfitError("too_long", STRING_TOO_LONG)
        return value[:MAX_STRING_LENGTH]
    if isinstance(value, float) and not math.isfinite(value):
        raise _UnfitError("not_finite", NOT_FINITE)
    if not isinstance(value, (list, dict)):
        return value
    if depth == MAX_DEPTH:
        raise _UnfitError("too_deep", TOO_DEEP)
    if isinstance(value, dict):
        members = {key: _fit(member, too_long, depth + 1, nulls=nulls) for key, member in value.items()}
        return members if nulls else {key: one for key, one in members.items() if one is not None} or None
    found: list[JsonValue] = []
    characters = 0  # the strings of a list count together, and where they are cut the rest is left out
    for element in value:
        if isinstance(element, list):
            raise _UnfitError("nested_list", NESTED_LIST)
        fit = _fit(element, too_long, depth + 1, nulls=nulls)
        characters += len(fit) if isinstance(fit, str) else 0
        if characters > MAX_STRING_LENGTH and too_long == "reject":
            raise _UnfitError("too_long", LIST_TOO_LONG)
        if characters <= MAX_STRING_LENGTH and fit is not None:
            found.append(fit)
    return found


# --- the type list ---------------------------------------------------------------------------------------


def parse_lists(texts: pa.Array, separator: str, too_long: TooLong) -> ColumnValues:
    """Texts as lists of text; elements of JSON arrays that are not text are marked JSON."""
    starts, stops, codes = text_layout(texts)
    bracketed = np.zeros(len(texts), dtype=np.bool_)
    if _BEGINNINGS[codes[starts[starts < stops]]].any():
        bracketed = as_mask(pc.match_substring_regex(texts, _BRACKETED))
    if not bracketed.any():
        # Elements are trimmed, and empty ones left out; where nothing is left, the list is null.
        split = FlatLists.of(pc.split_pattern(texts, separator))
        elements = pc.utf8_trim_whitespace(split.elements)
        lists = split.rebuild(elements, as_mask(pc.not_equal(elements, "")))
        return fit_lists(blank_out(lists, pc.equal(pc.list_value_length(lists), 0)), too_long)
    parts = parse_lists(blank_out(texts, bracketed), separator, too_long)

    def read(text: str) -> list[str]:
        text = text.strip()
        elements = _load(text, "bad_list", _NOT_A_LIST) if text[0] == "[" else _postgres_elements(text)
        fitting: Any = _fit(elements, too_long)
        return [one if isinstance(one, str) else mark_json_text(dump_json(one)) for one in fitting]

    found = _read_each(blank_out(texts, ~bracketed), read, parts.values.type)
    return ColumnValues(pc.coalesce(found.values, parts.values), parts.issues + found.issues)


def _postgres_elements(text: str) -> list[JsonValue]:
    """The elements of a Postgres array; NULL without quotes is none."""
    inner = text[1:-1]
    if not text.endswith("}"):
        raise _UnfitError("bad_list", _NOT_A_LIST)
    if inner.lstrip().startswith("{"):
        raise _UnfitError("nested_list", NESTED_LIST)
    elements: list[JsonValue] = []
    at, more = 0, bool(inner.strip())
    while more:
        if (found := _ELEMENT.match(inner, at)) is None:
            raise _UnfitError("bad_list", _NOT_A_LIST)
        quoted, bare, comma = found.groups()
        if quoted is not None or bare.upper() != "NULL":
            elements.append(_ESCAPED.sub(r"\1", bare if quoted is None else quoted))
        at, more = found.end(), comma == ","
    return elements


# --- JSON arrays as lists of text ------------------------------------------------------------------------


def json_elements(values: pa.ExtensionArray, *, marked: bool) -> pa.Array:
    """JSON values as lists of text: an array by element, any other value as a list of one.

    An element that is not text becomes its JSON, `marked` or as it is.
    """

    def read(text: str) -> list[str]:
        value = load_json(text)
        elements = value if isinstance(value, list) else [value]
        write = mark_json_text if marked else str
        return [one if isinstance(one, str) else write(dump_json(one)) for one in elements]

    return _read_each(values.storage, read, pa.list_(pa.string())).values
