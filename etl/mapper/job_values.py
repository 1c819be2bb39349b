"""Values that stand in the job file: constants, defaults for nulls, and what the words of `values` mean."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ..arrow.json_lines import json_texts, unmark_json
from .column_values import ColumnValues, empty_to_null, issues_of
from .datetimes import parse_formats, to_dates, to_datetimes
from .json_values import mark_elements
from .lists import is_list, to_lists
from .numbers import is_number
from .typed_values import as_text, hex_text, uuid_text

if TYPE_CHECKING:
    from ..job.column_spec import Step

NOT_A_WORD: Final = "{} is none of the texts in `values`"

# Pairs of a word and the JSON text that it stands for.
Words: TypeAlias = tuple[tuple[str, str], ...]


def constant_value(text: str) -> ColumnValues:
    """One JSON text as a value of its own type, shape (1,); raw where Arrow has no one type for it."""
    value = orjson.loads(text)
    if value is None:
        return ColumnValues(pa.nulls(1, pa.string()))
    one_type = not isinstance(value, dict)
    if isinstance(value, list):
        one_type = {type(element) for element in value} in ({str}, {int}, {float}, {bool})
    return ColumnValues(pa.array([value])) if one_type else ColumnValues(pa.array([text]), raw=True)


def as_column_type(default: pa.Array, kind: pa.DataType) -> pa.Array:
    """A default, shape (1,), in the type of its column if that holds it exactly, or else as it is."""
    given = default.type
    if pa.types.is_string(kind) and not pa.types.is_nested(given):
        return default if pa.types.is_string(given) else json_texts(default)
    if pa.types.is_string(given) and (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        found = (to_dates if pa.types.is_date(kind) else to_datetimes)(default)
        return default if found.issues else found.values
    if is_list(kind) and not is_list(given):
        marked = pa.types.is_string(given) and unmark_json(default[0].as_py())
        if not marked:
            return to_lists(default).values
        return mark_elements(pa.array([marked])) if marked[0] == "[" else default
    if is_number(kind) and is_number(given):
        with suppress(pa.ArrowInvalid):
            cast = default.cast(kind)
            if float(cast[0].as_py()) == default[0].as_py():
                return cast
    return default


def read_words(texts: pa.Array, words: Words) -> ColumnValues:
    """What trimmed texts stand for; a text that is not among the words is an issue.

    Where the words stand for values of several types, the result is raw.
    """
    known, meant, raw = _word_tables(words)
    places = pc.index_in(pc.utf8_trim_whitespace(texts), value_set=known)
    unknown = pc.and_not(texts.is_valid(), places.is_valid())
    return ColumnValues(meant.take(places), issues_of("bad_value", unknown, NOT_A_WORD), raw=raw)


def have_several_types(words: Words) -> bool:
    """Whether words stand for values of several types, for which Arrow has no type."""
    values = [orjson.loads(text) for _, text in words if text != "null"]
    return len({"number" if type(value) in {int, float} else type(value).__name__ for value in values}) > 1


@lru_cache(maxsize=256)
def _word_tables(words: Words) -> tuple[pa.Array, pa.Array, bool]:
    """The words, what each stands for, and whether that is JSON text."""
    known = pa.array([word for word, _ in words], pa.string())
    texts = [text for _, text in words]
    if have_several_types(words):
        return known, pa.array([None if text == "null" else text for text in texts], pa.string()), True
    meant = pa.array([orjson.loads(text) for text in texts])
    return known, meant.cast(pa.string()) if pa.types.is_null(meant.type) else meant, False


def apply_steps(
    values: pa.Array, steps: tuple[Step, ...], *, blank_is_null: bool, zone: str | None = None
) -> ColumnValues:
    """Plain values after all steps. `blank_is_null`: a text that a step has emptied is null for the next.

    A time without a zone is in `zone`.
    """
    found = ColumnValues(values)
    for step in steps:
        found = found.then(as_text)
        found = found.then(lambda texts, step=step: _apply(step, texts, zone))  # type: ignore[misc]
        if blank_is_null:
            found = found.then(empty_to_null)
    return found


def _apply(step: Step, texts: pa.Array, zone: str | None) -> ColumnValues:
    match step.verb:
        case "date_format":
            return parse_formats(texts, step.date_formats, zone)
        case "hex":
            return hex_text(texts)
        case "uuid":
            return uuid_text(texts)
        case "trim":
            texts = pc.utf8_trim_whitespace(texts)
        case "lower":
            texts = pc.utf8_lower(texts)
        case "upper":
            texts = pc.utf8_upper(texts)
        case "prefix":
            texts = pc.binary_join_element_wise(step.argument, texts, "")
        case "replace":
            for old, new in step.pairs:
                if old:  # Arrow would look for an empty text for ever
                    texts = pc.replace_substring(texts, old, new)
        case "sha256":  # each distinct text is hashed once
            encoded = texts.dictionary_encode()
            distinct = encoded.dictionary.cast(pa.binary()).to_pylist()
            digests = pa.array([hashlib.sha256(text).hexdigest() for text in distinct], pa.string())
            texts = digests.take(encoded.indices)
    return ColumnValues(texts)
