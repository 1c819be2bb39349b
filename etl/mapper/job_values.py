"""Values that stand in the job file: constants, defaults for nulls, and what the words of `values` mean."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ..arrow.json_text import is_json, json_column, json_texts
from ..arrow.layout import is_list
from .column_values import ColumnValues, empty_to_null, issues_of
from .datetimes import parse_formats, to_dates, to_datetimes
from .typed_values import as_text, hex_text, uuid_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import JsonValue

    from ..job.column_spec import Step


NOT_A_WORD: Final = "{} is none of the texts in `values`"
_WITHOUT_ARGUMENT: Final[dict[str, Callable[[pa.Array], pa.Array | ColumnValues]]] = {
    "trim": pc.utf8_trim_whitespace,
    "lower": pc.utf8_lower,
    "upper": pc.utf8_upper,
    "hex": hex_text,
    "uuid": uuid_text,
}
# Pairs of a word and the JSON text that it stands for.
Words: TypeAlias = tuple[tuple[str, str], ...]


def constant_value(text: str) -> pa.Array:
    """One JSON text as a value of its own type, shape (1,); as JSON where Arrow has no one type for it."""
    value = orjson.loads(text)
    if value is None:
        return pa.nulls(1, pa.string())
    one_type = not isinstance(value, dict)
    if isinstance(value, list):
        one_type = {type(element) for element in value} in ({str}, {int}, {float}, {bool})
    return pa.array([value]) if one_type else json_column([text])


def fill_default(values: pa.Array, default: str) -> pa.Array:
    """Nulls replaced by a default. If the values' type can't hold it, all become JSON.

    Which of the two depends on the type and the default only, never on the values.
    """
    if is_json(values.type):
        return json_column(values.storage.fill_null(default))
    scalar = _scalar(orjson.loads(default), values.type)
    if scalar is None:
        return json_column(json_texts(values).fill_null(default))
    return pc.if_else(values.is_null(), scalar, values)


def _scalar(value: JsonValue, kind: pa.DataType) -> pa.Scalar | None:
    """The value as a scalar of a column's type; None where it isn't one."""
    if pa.types.is_string(kind):
        if isinstance(value, (list, dict)):
            return None
        return pa.scalar(value if isinstance(value, str) else orjson.dumps(value).decode())
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        if not isinstance(value, str):
            return None
        found = (to_dates if pa.types.is_date(kind) else to_datetimes)(pa.array([value]))
        return None if found.issues else found.values[0]
    if pa.types.is_boolean(kind) != isinstance(value, bool):
        return None
    if pa.types.is_decimal(kind) and isinstance(value, float):
        value = Decimal(str(value))  # type: ignore[assignment]
    if is_list(kind) and not isinstance(value, list):
        value = [value]
    try:
        scalar = pa.scalar(value, type=kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    # Arrow makes integers of floats without an error.
    return scalar if scalar.as_py() == value else None


def read_words(texts: pa.Array, words: Words) -> ColumnValues:
    """What trimmed texts stand for; a text that is not among the words is an issue.

    Where the words stand for values of several types, the result is JSON.
    """
    known, meant = word_tables(words)
    places = pc.index_in(pc.utf8_trim_whitespace(texts), value_set=known)
    unknown = pc.and_not(texts.is_valid(), places.is_valid())
    return ColumnValues(meant.take(places), issues_of("bad_value", unknown, NOT_A_WORD))


@lru_cache(maxsize=256)
def word_tables(words: Words) -> tuple[pa.Array, pa.Array]:
    """The words, and what each stands for: JSON if these are values for which Arrow has no one type."""
    known = pa.array([word for word, _ in words], pa.string())
    values = [orjson.loads(text) for _, text in words]
    # Said where there are booleans: beside a float, Arrow takes them for numbers.
    kind = pa.bool_() if any(isinstance(value, bool) for value in values) else None
    try:
        meant = pa.array(values, kind)
    except (pa.ArrowException, OverflowError):
        meant = json_column([None if text == "null" else text for _, text in words])
    return known, meant.cast(pa.string()) if pa.types.is_null(meant.type) else meant


def apply_steps(
    values: pa.Array, steps: tuple[Step, ...], *, blank_is_null: bool, zone: str | None = None
) -> ColumnValues:
    """Plain values after all steps. `blank_is_null`: a text that a step has emptied is null for the next.

    A time without a zone is in `zone`.
    """
    found = ColumnValues(values)
    for step in steps:
        found = found.then(as_text).then(_apply, step, zone)
        if blank_is_null:
            found = found.then(empty_to_null)
    return found


def _apply(texts: pa.Array, step: Step, zone: str | None) -> pa.Array | ColumnValues:
    if step.verb in _WITHOUT_ARGUMENT:
        return _WITHOUT_ARGUMENT[step.verb](texts)
    match step.verb:
        case "date_format":
            return parse_formats(texts, step.formats, zone)
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
    return texts
