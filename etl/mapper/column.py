"""One column spec: from a source column to the values that go into the identification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from etl.amplitude import MAX_GROUP_VALUES
from etl.arrow.json_type import is_json
from etl.arrow.raw_json import mark, without_marks
from etl.mapper.byte_texts import hex_of, holds_bytes, may_hold_bytes, uuid_of
from etl.mapper.cells import Cells, as_mask, faults_of
from etl.mapper.constants import constant, fill
from etl.mapper.ids import check_ids, id_texts, read_ids, trimmed
from etl.mapper.json_columns import fill_nulls, read_json
from etl.mapper.json_values import clean_nested
from etl.mapper.limits import fit_strings
from etl.mapper.lists import is_list, open_lists, wrap
from etl.mapper.mangled import NESTED as NESTED_ID
from etl.mapper.moments import fill_moments, to_milliseconds
from etl.mapper.native import as_text, native
from etl.mapper.paths import at_path, steady
from etl.mapper.plain import plain
from etl.mapper.raw_json import listed, listed_texts, mark_elements
from etl.mapper.steps import empty_to_null, transform, words_to_null
from etl.mapper.types import convert
from etl.mapper.words import read_words

if TYPE_CHECKING:
    from etl.job.spec import ColumnSpec, Step

TOO_MANY_GROUPS: Final = f"{{}} has more than {MAX_GROUP_VALUES} group values"

Role: TypeAlias = Literal["id", "field", "time", "group", "value", "list"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column spec in its role: `id`, string `field`, `time`, `group`, a property's `value` or `list`.

    `place` is where the job file has it; `name` is its last part.
    """

    place: str
    name: str
    role: Role
    spec: ColumnSpec

    def read(self, source: pa.Array | None, n: int, *, text: bool) -> Cells:
        """Values for n rows; `source` is None for a constant.

        Their type depends on that of `source` only, but for JSON values, whose type depends on what they are.
        Raises SourceError where a path leads to a part that a struct doesn't have.
        """
        if source is None or not self.spec.path:
            return self._read(source, n, text=text)
        found = at_path(source, self.spec)
        cells = self._read(found.values, n, text=False)
        came_of_text = is_json(found.values.type) and not is_json(source.type)
        values = steady(cells.values, self.role) if came_of_text else cells.values
        return Cells(values, found.faults + cells.faults, cells.raw)

    def _read(self, source: pa.Array | None, n: int, *, text: bool) -> Cells:
        if source is not None and is_json(source.type):
            return self._json(source)
        cells = self._constant(n) if source is None else self._converted(source, text=text)
        cells = self._in_role(cells)
        if self.spec.default is not None:
            cells = (fill_moments if self.role == "time" else fill)(cells, self.spec.default)
        return self._checked(cells)

    def _json(self, source: pa.ExtensionArray) -> Cells:
        """JSON values: in their roles by kind, so that each becomes what it would among its like."""
        cells = read_json(source, {"typed": self._one, "nested": self._nested, "huge": self._huge})
        if self.spec.default is not None:
            default = self._one_role(constant(self.spec.default)).values
            cells = Cells(fill_nulls(cells.values, default), cells.faults)
        return cells.then(lambda ids: check_ids(self.name, ids)) if self.role == "id" else cells

    def _one(self, values: pa.Array) -> Cells:
        return self._one_role(self._converted(values, text=False))

    def _one_role(self, cells: Cells) -> Cells:
        cells = self._in_role(cells)
        return cells if self.role == "id" else self._checked(cells)

    def _nested(self, texts: pa.Array) -> Cells:
        """Objects and lists whose elements differ, as JSON; as its text where a text is wanted."""
        cells = clean_nested(texts, self.spec.too_long)
        if self._keeps_json:
            if self.spec.type == "list":
                cells = Cells(listed(cells.values), cells.faults)
            return self._checked(Cells(cells.values, cells.faults, raw=True))
        faults = cells.faults
        if self.role == "id" and self.spec.mangled == "reject":
            faults = (*faults_of("mangled_id", texts.is_valid(), NESTED_ID), *faults)
        if self.role == "group" and self.spec.type in {None, "list"} and not self.spec.transform:
            cells = self._one_role(Cells(listed_texts(cells.values)))
        else:
            cells = self._one(cells.values)
        return Cells(cells.values, faults + cells.faults)

    def _huge(self, digits: pa.Array) -> Cells:
        """Whole numbers beyond 64 bits, digit by digit."""
        if self.role in {"value", "list"} and self.spec.type in {None, "json", "number", "list"}:
            through = self.spec.transform or self.spec.values
            return self._one(digits) if through else self._checked(Cells(digits, raw=True))
        return self._one(digits)

    @property
    def _keeps_json(self) -> bool:
        kept = self.role in {"value", "list"} and self.spec.type in {None, "json", "list"}
        return kept and not (self.spec.transform or self.spec.values)

    def _constant(self, n: int) -> Cells:
        cells = constant(self.spec.constant or "null")
        values = pa.repeat(cells.values[0], n)
        return Cells(values, raw=True) if cells.raw else native(values, self.spec.too_long)

    def _converted(self, source: pa.Array, *, text: bool) -> Cells:
        blank_is_null = self._blank_is_null(text=text)
        cells, steps = self._plain(source)
        if self.spec.nulls:
            cells = cells.then(lambda values: words_to_null(values, self.spec.nulls))
        if self.role == "id":
            keep = self.spec.mangled == "keep"
            cells = cells.then(lambda values: read_ids(values, steps, keep=keep))
        else:
            if blank_is_null:
                cells = cells.then(empty_to_null)
            cells = cells.then(
                lambda values: transform(values, steps, blank_is_null=blank_is_null, zone=self.spec.timezone)
            )
        if self.role == "id" and self.spec.type in {None, "string"}:
            return cells  # ids have a limit of their own
        if self.spec.values:
            cells = cells.then(as_text).then(lambda texts: read_words(texts, self.spec.values))
            if cells.raw:
                return cells
        if self.role == "time" and self.spec.type is None:
            return cells  # times keep their milliseconds
        return cells.then(lambda values: convert(values, self.spec))

    def _plain(self, source: pa.Array) -> tuple[Cells, tuple[Step, ...]]:
        """Plain values, and the steps that are left to take; only the first step is for bytes."""
        steps = self.spec.transform
        if steps and steps[0].verb in {"hex", "uuid"} and may_hold_bytes(source.type):
            return (hex_of if steps[0].verb == "hex" else uuid_of)(source), steps[1:]
        if self.role == "id" and holds_bytes(source.type):
            return hex_of(source), steps
        return plain(source), steps

    def _blank_is_null(self, *, text: bool) -> bool:
        """Whether an empty text stands for no value: in text sources, and under types that have none."""
        if self.role in {"id", "time"} or self.spec.type not in {None, "string"}:
            return True
        dated = any(step.verb == "date_format" for step in self.spec.transform)
        return dated or (text and self.spec.empty == "null")

    def _in_role(self, cells: Cells) -> Cells:
        """Ids, string fields and groups are text whatever the type, and the time is milliseconds."""
        if self.role == "id":
            if self.spec.column is not None and not self.spec.transform and self.spec.type is None:
                return cells  # they are trimmed already
            return cells.then(lambda ids: id_texts(ids, keep=True)).then(trimmed)
        if self.role == "time":
            if self.spec.type is not None or self.spec.column is None:
                return cells.then(to_milliseconds)
            zone, unit = self.spec.timezone, self.spec.unit
            return cells.then(lambda times: to_milliseconds(times, zone, unit))
        if self.role == "field":
            return cells.then(as_text).then(lambda texts: fit_strings(texts, self.spec.too_long))
        return cells.then(group_texts) if self.role == "group" else cells

    def _checked(self, cells: Cells) -> Cells:
        if self.role == "list":
            return _as_lists(cells)
        if cells.raw:
            return Cells(mark(cells.values), cells.faults)
        if self.role == "id":
            return cells.then(lambda ids: check_ids(self.name, ids))
        return cells.then(count_groups) if self.role == "group" else cells


def group_texts(values: pa.Array) -> Cells:
    """A group's name, or a list of names, as text."""
    if not is_list(values.type):
        return as_text(values)
    opened = open_lists(values)
    names = as_text(opened.flat)
    everything = as_mask(names.values.is_valid())
    texts = without_marks(names.values)
    return Cells(opened.rebuilt(texts, keep=everything), opened.parents(names.faults))


def count_groups(values: pa.Array) -> Cells:
    """Group values as they are; a list of too many is a fault."""
    if not is_list(values.type):
        return Cells(values)
    many = pc.greater(pc.list_value_length(values), MAX_GROUP_VALUES)
    return Cells(values, faults_of("too_many_groups", many, TOO_MANY_GROUPS))


def _as_lists(cells: Cells) -> Cells:
    if cells.raw:
        return Cells(mark_elements(cells.values), cells.faults)
    return cells if is_list(cells.values.type) else cells.then(lambda values: Cells(wrap(values)))
