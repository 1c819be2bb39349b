"""One column spec: from a source column to the values that go into the identification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pyarrow as pa

from etl.amplitude import MAX_GROUP_VALUES
from etl.job.spec import ColumnSpec
from etl.mapper.cells import Cells, faults_of
from etl.mapper.constants import constant, fill
from etl.mapper.ids import check_ids, trimmed
from etl.mapper.limits import fit_strings
from etl.mapper.lists import is_list, open_lists, wrap
from etl.mapper.native import as_text
from etl.mapper.plain import plain
from etl.mapper.raw_json import mark, mark_elements
from etl.mapper.steps import empty_to_null, transform
from etl.mapper.types import convert

Role: TypeAlias = Literal["id", "field", "group", "value", "list"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column spec in its role: `id`, string `field`, `group`, a property's `value`, or a `list` operator's.

    `place` is where the job file has it; `name` is its last part.
    """

    place: str
    name: str
    role: Role
    spec: ColumnSpec

    def read(self, source: pa.Array | None, n: int, *, text: bool) -> Cells:
        """Values for n rows. `source` is None for a constant. Faults are those of `source`, or of the constant."""
        if source is None:
            cells = self._constant(n)
        else:
            cells = self._converted(source, text=text)
        cells = _keep_raw(cells, _IN_ROLE[self.role], self.spec)
        if self.spec.default is not None:
            cells = fill(cells, self.spec.default)
        if self.role == "list":
            cells = _as_lists(cells)
        elif cells.raw:
            cells = Cells(mark(cells.values), cells.faults)
        return cells.then(lambda ids: check_ids(self.name, ids)) if self.role == "id" else cells

    def _constant(self, n: int) -> Cells:
        cells = constant(self.spec.constant or "null")
        return Cells(pa.repeat(cells.values[0], n), raw=cells.raw)

    def _converted(self, source: pa.Array, *, text: bool) -> Cells:
        blank_is_null = self._blank_is_null(text=text)
        cells = plain(source)
        if self.role == "id":
            cells = cells.then(as_text).then(trimmed)
        elif blank_is_null:
            cells = cells.then(empty_to_null)
        cells = cells.then(lambda values: transform(values, self.spec.transform, blank_is_null=blank_is_null))
        return cells.then(lambda values: convert(values, self.spec))

    def _blank_is_null(self, *, text: bool) -> bool:
        """Whether an empty text stands for no value: in text sources, and under types that have none."""
        if self.role == "id" or self.spec.type not in {None, "string"}:
            return True
        dated = any(step.verb == "date_format" for step in self.spec.transform)
        return dated or (text and self.spec.empty == "null")


def _id(cells: Cells, _: ColumnSpec) -> Cells:
    return _text(cells).then(trimmed)


def _field(cells: Cells, spec: ColumnSpec) -> Cells:
    return _text(cells).then(lambda texts: fit_strings(texts, spec.too_long))
