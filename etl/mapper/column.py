"""One column spec: from a source column to the values that go into the identification."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.requests import LIST_OPERATORS
from ..arrow.json_text import as_marked_text, is_json, json_column, json_texts
from ..arrow.layout import is_list
from ..job.identification_spec import KEY_ROLES
from .column_values import (
    ColumnValues,
    count_groups,
    empty_to_null,
    fit_strings,
    issues_of,
    to_lists,
    words_to_null,
)
from .datetimes import epoch_milliseconds, to_dates, to_datetimes, to_milliseconds
from .ids import NESTED_ID, check_ids, id_texts, read_ids, trim_ids
from .json_values import at_path, fill_nulls, fit_json, json_elements, parse_lists, read_json, stable_type
from .numbers import is_number, parse_booleans, to_numbers
from .typed_values import apply_steps, as_text, decode_source, element_texts, native_values

if TYPE_CHECKING:
    from pydantic import JsonValue

    from ..arrow.layout import FieldPath
    from ..job.column_spec import ColumnSpec

_NOT_A_WORD: Final = "{} is none of the texts in `values`"
# Pairs of a word and the JSON text that it stands for.
Words: TypeAlias = tuple[tuple[str, str], ...]
_Role: TypeAlias = Literal["id", "field", "time", "group", "value", "list"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column spec in its role: `id`, string `field`, `time`, `group`, a property's `value` or `list`.

    `path` is where an identification has it, and `name` the field there.
    """

    path: FieldPath
    name: str
    role: _Role
    spec: ColumnSpec

    @classmethod
    def at(cls, path: FieldPath, spec: ColumnSpec) -> Column:
        """The spec at a path of the identification, in its role there."""
        role: _Role = KEY_ROLES.get(path[0], "field")
        if path[0] == "user_properties":
            role = "list" if path[1] in LIST_OPERATORS else "value"
        return cls(path, path[0], role, spec)

    @property
    def source_name(self) -> str:
        """Where the values come from, as reasons of rejects begin."""
        return "a constant of the job" if self.spec.column is None else f"column {self.spec.column}"

    @property
    def may_read_distinct(self) -> bool:
        """Whether it is enough to read each distinct text: nothing stands for null, and it is not an id."""
        return self.role in {"field", "value"} and self.spec.default is None and not self.spec.path

    def read(self, source: pa.Array | None, n: int, *, text: bool) -> ColumnValues:
        """Values for n rows; `source` is None for a constant.

        Their type depends on that of `source` only, but for JSON values, whose type depends on what they are.
        Raises SourceError where a path leads to a part that a struct doesn't have.
        """
        if source is None or not self.spec.path:
            return self._read(source, n, text=text)
        found = at_path(source, self.spec)
        read = self._read(found.values, n, text=False)
        was_text = is_json(found.values.type) and not is_json(source.type)
        values = stable_type(read.values, self.role) if was_text else read.values
        return ColumnValues(values, found.issues + read.issues)

    def _read(self, source: pa.Array | None, n: int, *, text: bool) -> ColumnValues:
        spec, default = self.spec, self.spec.default
        if self.role == "time" and default is not None:
            # In UTC: `timezone` and `unit` are those of the source.
            default = str(to_milliseconds(constant_value(default)).values[0])
        if source is not None and is_json(source.type):
            # By kind, so that each value becomes what it would among values of its kind.
            found = read_json(source, {"typed": self._typed, "nested": self._nested, "huge": self._huge})
            if self.role == "list":
                found = found.then(to_lists)  # where all are null, they are not lists yet
            elif self.role == "time":
                found = found.then(pc.cast, pa.int64())
            if default is not None:
                filling = ColumnValues(constant_value(default))
                filling = filling if self.role == "time" else self._in_role(filling)
                found = found.then(fill_nulls, filling.values)
        elif source is not None:
            found = self._in_role(self._converted(source, text=text), default)
        else:
            values = constant_value(spec.constant or "null").take(pa.array(np.zeros(n, np.int64)))
            found = ColumnValues(values) if is_json(values.type) else native_values(values, spec.too_long)
            found = self._in_role(found, default)
        return found.then(check_ids, self.name) if self.role == "id" else found

    # --- values of JSON, by kind -------------------------------------------------------------------------

    def _typed(self, values: pa.Array) -> ColumnValues:
        return self._in_role(self._converted(values, text=False))

    def _nested(self, texts: pa.Array) -> ColumnValues:
        """Objects and lists of several types as JSON, or as its text if the column takes text."""
        spec, role = self.spec, self.role
        found = fit_json(texts, spec.too_long, nulls=False)
        if self.keeps_json and spec.type in {None, "json", "list"}:
            if spec.type == "list":  # an object as a list of one
                texts = found.values.storage.to_pylist()
                lists = [f"[{one}]" if one and one[0] == "{" else one for one in texts]
                found = ColumnValues(json_column(lists), found.issues)
            return self._in_role(found)
        issues = found.issues
        if role == "id" and spec.mangled == "reject":
            issues = (*issues_of("mangled_id", texts.is_valid(), NESTED_ID), *issues)
        if role == "group" and spec.type in {None, "list"} and not spec.transform:
            found = self._in_role(ColumnValues(json_elements(found.values, marked=False)))
        else:
            found = self._typed(found.values.storage)
        return ColumnValues(found.values, issues + found.issues)

    def _huge(self, digits: pa.Array) -> ColumnValues:
        """Whole numbers beyond 64 bits, digit by digit."""
        if self.keeps_json and self.spec.type in {None, "json", "number", "list"}:
            return self._in_role(ColumnValues(json_column(digits)))
        return self._typed(digits)

    @property
    def keeps_json(self) -> bool:
        """Whether JSON may be sent as it is, if the type lets it."""
        return self.role in {"value", "list"} and not (self.spec.transform or self.spec.values)

    # --- every value -------------------------------------------------------------------------------------

    def _converted(self, source: pa.Array, *, text: bool) -> ColumnValues:
        """Values of the spec's type, after its `nulls`, `transform` and `values`."""
        spec, role = self.spec, self.role
        found, steps = decode_source(source, spec.transform, ids=role == "id")
        if spec.nulls:
            found = found.then(words_to_null, spec.nulls)
        if role == "id":
            found = found.then(read_ids, steps, keep=spec.mangled == "keep")
            if spec.type in {None, "string"}:
                return found  # ids have a limit of their own
        else:
            # An empty text is not a value in text sources, and under types that have none.
            typed = role == "time" or spec.type not in {None, "string"}
            dated = any(step.verb == "date_format" for step in spec.transform)
            blank_is_null = typed or dated or (text and spec.empty == "null")
            if blank_is_null:
                found = found.then(empty_to_null)
            found = found.then(apply_steps, steps, blank_is_null=blank_is_null, zone=spec.timezone)
        if spec.values:
            found = found.then(as_text).then(read_words, spec.values)
        if is_json(found.values.type) or (role == "time" and spec.type is None):
            return found  # times keep their milliseconds
        return found.then(convert, spec)

    def _in_role(self, found: ColumnValues, default: str | None = None) -> ColumnValues:
        """The values as their place takes them: text, milliseconds, lists or marked JSON."""
        spec = self.spec
        if self.role == "id":
            if spec.column is None or spec.transform or spec.type is not None:  # others are trimmed already
                found = found.then(id_texts, keep=True).then(trim_ids)
        elif self.role == "time":
            as_written = spec.type is None and spec.column is not None
            found = found.then(to_milliseconds, *((spec.timezone, spec.unit) if as_written else ()))
        elif self.role == "field":
            found = found.then(as_text).then(fit_strings, spec.too_long)
        elif self.role == "group":
            found = found.then(element_texts)
        if default is not None:
            found = found.then(fill_default, default)
        raw = is_json(found.values.type)
        if self.role == "list":
            return found.then(json_elements, marked=True) if raw else found.then(to_lists)
        if raw:
            return found.then(as_marked_text)
        return found.then(count_groups) if self.role == "group" else found


def convert(values: pa.Array, spec: ColumnSpec) -> ColumnValues:
    """Plain values as the spec's type; without one they keep the source's."""
    wanted, kind = spec.type, values.type
    if wanted == "list" and pa.types.is_string(kind):
        return parse_lists(values, spec.separator, spec.too_long)
    if wanted == "json" and pa.types.is_string(kind):
        return fit_json(values, spec.too_long, nulls=True)
    if wanted in {None, "list", "json"}:
        found = native_values(values, spec.too_long)
        return found.then(to_lists) if wanted == "list" else found
    if wanted == "string":
        return as_text(values).then(fit_strings, spec.too_long)
    if wanted == "boolean":
        return ColumnValues(values) if pa.types.is_boolean(kind) else as_text(values).then(parse_booleans)
    if wanted in {"number", "integer"}:
        found = ColumnValues(values) if is_number(kind) else as_text(values)
        return found.then(to_numbers, spec)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        found = ColumnValues(values)
    elif spec.unit is not None:
        found = epoch_milliseconds(values, spec.unit).then(pc.cast, pa.timestamp("ms", "UTC"))
    else:
        found = as_text(values)
    return found.then(to_dates if wanted == "date" else to_datetimes, spec.timezone)


# --- values of the job file: constants, defaults for nulls, and what words mean --------------------------


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
    """The values that trimmed texts stand for; a text that is not among the words is an issue.

    Where the words stand for values of several types, the result is JSON.
    """
    known, meant = word_tables(words)
    places = pc.index_in(pc.utf8_trim_whitespace(texts), value_set=known)
    unknown = pc.and_not(texts.is_valid(), places.is_valid())
    return ColumnValues(meant.take(places), issues_of("bad_value", unknown, _NOT_A_WORD))


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
