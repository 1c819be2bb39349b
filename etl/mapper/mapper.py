"""Rows become identifications, column by column; a row that can't be sent becomes a reject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl import amplitude
from etl.arrow.json_type import is_json
from etl.errors import SourceError, TransformError
from etl.mapper.cells import Fault, as_mask, blank_out
from etl.mapper.column import Column, Role
from etl.mapper.hook import Transform, apply
from etl.mapper.json_columns import marked_loses_digits
from etl.mapper.layout import assemble, says_nothing
from etl.mapper.numbers import loses_digits
from etl.mapper.rejects import Verdicts
from etl.mapper.skipped import LeftOut
from etl.mapper.structs import all_null
from etl.mapper.words import are_mixed
from etl.model import Batch, Mapped, Reject
from etl.values import originals, shown_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from etl.job.spec import ColumnSpec, Identification


class Mapper:
    """Maps batches one by one, each by itself: what a row becomes depends on no other row.

    `transform` is the job's own function on DataFrames; it sees the rows first. What it makes of a row may
    depend on the others in the batch, so its batches have to be frames.
    """

    def __init__(self, identification: Identification, *, transform: Transform | None = None) -> None:
        self._identification = identification
        self._transform = transform
        self._columns = [_column(place, spec) for place, spec in identification.specs()]

    @property
    def has_transform(self) -> bool:
        """Whether batches have to be whole frames, since a function on DataFrames sees them."""
        return self._transform is not None

    @property
    def has_raw_json(self) -> bool:
        """Whether JSON lines of the identifications need `splice_json`."""
        return any(_may_be_raw(spec) for _, spec in self._identification.specs())

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The source columns that are used, each once; None where the job's own function may use any."""
        return self._identification.columns() if self._transform is None else None

    @property
    def keep_empty(self) -> frozenset[str]:
        """Columns of a text source in which an empty field is a value."""
        kept = (spec.column for _, spec in self._identification.specs() if spec.empty == "keep")
        return frozenset(column for column in kept if column is not None)

    def map(self, batch: Batch) -> Mapped:
        """Map a batch. The type of the identifications depends on the batch's schema only.

        Raises SourceError where a column is missing, TransformError where the job's transform fails.
        """
        given = self._given(batch)
        verdicts, left_out = Verdicts(len(given.positions)), LeftOut()
        values = self._read(batch, given, verdicts, left_out)
        identifications = assemble(self._identification, values, verdicts.n, left_out.rows)
        chosen = ~verdicts.bad & ~as_mask(says_nothing(identifications))
        if not chosen.all():
            identifications = identifications.filter(pa.array(chosen))
        return Mapped(
            batch=batch,
            kept=given.positions[chosen],
            identifications=identifications,
            rejects=self._rejects(batch, given, verdicts),
            keep_empty=self.keep_empty,
            large=self._large(given.rows, values),
            skipped=left_out.counted(batch.numbers[given.positions], ~verdicts.bad),
        )

    def ids(self, batch: Batch) -> pa.RecordBatch:
        """The ids of every row that has one, whatever else is wrong with it; a wrong id counts as none."""
        given = self._given(batch)
        found = {}
        for column in self._columns:
            if column.role == "id":
                spec, n = column.spec, len(given.positions)
                source = None if spec.column is None else self._source(batch, given, spec.column)
                cells = column.read(source, n, text=batch.text)
                wrong = np.logical_or.reduce([fault.rows for fault in cells.faults], axis=0, initial=False)
                found[column.place] = blank_out(cells.values, np.broadcast_to(wrong, n))
        ids = pa.RecordBatch.from_arrays(list(found.values()), names=list(found))
        some = np.logical_or.reduce([as_mask(column.is_valid()) for column in ids.columns])
        return ids.filter(pa.array(some))

    def _given(self, batch: Batch) -> _Given:
        everything = np.arange(batch.rows.num_rows, dtype=np.int64)
        # Functions on DataFrames seldom expect one without rows.
        if self._transform is None or len(everything) == 0:
            return _Given(batch.rows, everything)
        return _Given(*apply(self._transform, batch))

    def _read(
        self, batch: Batch, given: _Given, verdicts: Verdicts, left_out: LeftOut
    ) -> dict[str, pa.Array]:
        """Every spec's values by its place; faults go to the verdicts in the order of the specs.

        Those of specs with `invalid: skip` are left out instead.
        """
        values: dict[str, pa.Array] = {}
        last_id = [column.place for column in self._columns if column.role == "id"][-1:]
        for column in self._columns:
            source = None if column.spec.column is None else self._source(batch, given, column.spec.column)
            cells = column.read(source, verdicts.n, text=batch.text)
            if column.spec.invalid == "skip" and cells.faults:
                cells = left_out.skip(column, cells)
            values[column.place] = cells.values
            verdicts.add(_naming(column.spec), cells.faults, cells.values if source is None else source)
            if column.place in last_id:
                self._find_missing(values, verdicts)
        return values

    def _large(self, rows: pa.RecordBatch, values: Mapping[str, pa.Array]) -> frozenset[str]:
        """The properties with whole numbers of too many digits; among JSON values those are marked text."""
        found = set()
        json = {field.name for field in rows.schema if is_json(field.type)}
        for column in self._columns:
            if column.role in {"value", "list"}:
                lose = marked_loses_digits if column.spec.path or column.spec.column in json else loses_digits
                if lose(values[column.place]):
                    found.add(column.place.split(".", 2)[2])
        return frozenset(found)

    def _source(self, batch: Batch, given: _Given, name: str) -> pa.Array:
        place = given.rows.schema.get_field_index(name)
        if place >= 0:
            return given.rows.column(place)
        if self._transform is None:
            hint = f"the columns are {', '.join(given.rows.schema.names)}"
            raise SourceError(f"{batch.source} has no column {name}", hint=hint)
        if len(given.positions) == 0:
            return pa.nulls(0, pa.string())
        hint = "return it as a column of the DataFrame, or take it out of the job file"
        raise TransformError(f"the job's transform returned no column {name} ({batch.source})", hint=hint)

    def _find_missing(self, values: Mapping[str, pa.Array], verdicts: Verdicts) -> None:
        ids = [column for column in self._columns if column.role == "id"]
        missing = as_mask(all_null([values[column.place] for column in ids], verdicts.n))
        if missing.any():
            names = " and ".join(_naming(column.spec) for column in ids)
            wanted = " or ".join(column.name for column in ids)
            fault = Fault("missing_id", missing, f"there is no {wanted}")
            verdicts.add(names, (fault,), None)

    def _rejects(self, batch: Batch, given: _Given, verdicts: Verdicts) -> tuple[Reject, ...]:
        found = [(int(given.positions[row]), code, reason) for row, code, reason in verdicts.reasons()]
        found = sorted([*found, *_dropped(batch, given)])
        positions = np.array([position for position, _, _ in found], dtype=np.int64)
        rows = originals(
            shown_rows(batch), positions, source=batch.source, text=batch.text, keep_empty=self.keep_empty
        )
        rejects = [
            Reject(batch.source, int(batch.numbers[position]), code, reason, row.values, origin=row.origin)
            for (position, code, reason), row in zip(found, rows, strict=True)
        ]
        return tuple(sorted([*batch.rejects, *rejects], key=lambda reject: reject.row))


@dataclass(frozen=True, slots=True)
class _Given:
    """The m rows to map, and the position in the batch of each; int64, shape (m,), ascending."""

    rows: pa.RecordBatch
    positions: NDArray[np.int64]


def _dropped(batch: Batch, given: _Given) -> Iterator[tuple[int, str, str]]:
    missing = np.ones(batch.rows.num_rows, dtype=np.bool_)
    missing[given.positions] = False
    for position in np.flatnonzero(missing).tolist():
        yield position, "dropped", "dropped by the job's transform"


def _column(place: str, spec: ColumnSpec) -> Column:
    top, *rest = place.split(".", 2)
    role: Role = "field"
    if top in amplitude.ID_FIELDS:
        role = "id"
    elif top == amplitude.TIME_FIELD:
        role = "time"
    elif top == "groups":
        role = "group"
    elif rest:
        role = "list" if rest[0] in amplitude.LIST_OPERATORS else "value"
    return Column(place, top, role, spec)


def _naming(spec: ColumnSpec) -> str:
    return "a constant of the job" if spec.column is None else f"column {spec.column}"


def _may_be_raw(spec: ColumnSpec) -> bool:
    """Whether Arrow may lack a type for the values: any JSON, a default of another type, words of several."""
    constant = (spec.constant or "").lstrip()
    raw = spec.type == "json" or spec.default is not None or constant[:1] in {"[", "{"}
    return raw or are_mixed(spec.values) or spec.type == "list" or bool(spec.path)
