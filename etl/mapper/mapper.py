"""Rows become identifications, column by column; a row that can't be sent becomes a reject."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.requests import (
    ADDRESS_FIELDS,
    ID_FIELDS,
    MAX_SAFE_INTEGER,
    STRING_FIELDS,
    TIME_FIELD,
    UNSET_VALUE,
)
from ..arrow.json_text import is_json, unmark_json
from ..arrow.layout import all_null, is_list, nested_rows, plain_array, plain_rows
from ..arrow.originals import rejects_of, rows_with_originals
from ..errors import SourceError, TransformError
from ..model import Batch, Mapped, Reject, RowFault
from .column import Column, word_tables
from .column_values import ColumnValues, RowIssues, SkippedValues, blank_out, issues_of
from .transform_function import Transform, apply_transform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..arrow.layout import FieldPath, RowMask
    from ..job.identification_spec import Identification

_PROPERTIES: Final = "user_properties"
_FIELDS: Final = tuple((name,) for name in (*ID_FIELDS, TIME_FIELD, *STRING_FIELDS))  # in the order of JSON


class Mapper:
    """Maps batches one by one, each by itself: what a row becomes depends on no other row.

    `transform` is the job's own function on DataFrames; it sees the rows first. What it makes of a row may
    depend on the others in the batch, so its batches have to be frames (`has_transform`).

    `columns` are the source columns that are used, each once; None where the job's own function may use any.
    `keep_empty` are those of a text source in which an empty field is a value. `has_raw_json`: JSON lines of
    the identifications need `splice_json`, as Arrow may lack a type for values.
    """

    def __init__(self, identification: Identification, *, transform: Transform | None = None) -> None:
        self._identification = identification
        self._transform = transform
        self._columns = [Column.at(tuple(map(str, path)), spec) for path, spec in identification.located()]
        self._ids = [column for column in self._columns if column.role == "id"]
        self.has_transform = transform is not None
        self.columns = identification.columns() if transform is None else None
        specs = [column.spec for column in self._columns]
        self.keep_empty = frozenset(spec.column for spec in specs if spec.column and spec.empty == "keep")
        self.has_raw_json = any(
            spec.type in {"json", "list"}
            or spec.default is not None
            or (spec.constant or "").lstrip()[:1] in {"[", "{"}
            or is_json(word_tables(spec.values)[1].type)
            or spec.path
            for spec in specs
        )

    def map(self, batch: Batch) -> Mapped:
        """Map a batch. The type of the identifications depends on the batch's schema only.

        Raises SourceError where a column is missing, TransformError where the job's transform fails.
        """
        rows, positions = self._transformed(batch)
        n = len(positions)
        row_issues, skipped = RowIssues(n), SkippedValues()
        values: dict[FieldPath, pa.Array] = {}
        for column in self._columns:
            spec = column.spec
            read, source = self._read(column, batch, rows)
            if spec.invalid == "skip" and read.issues:
                read = skipped.skip(column.path, spec.column or column.name, read)
            values[column.path] = read.values
            quoted = read.values if source is None else source
            row_issues.add(spec.column or "", column.source_name, read.issues, quoted)
            if column is self._ids[-1]:
                missing = all_null([values[one.path] for one in self._ids])
                missing &= ~row_issues.rows  # a bad id is reported as such
                columns = "/".join(one.spec.column or one.name for one in self._ids)
                sources = " and ".join(one.source_name for one in self._ids)
                wanted = " or ".join(one.name for one in self._ids)
                row_issues.add(columns, sources, issues_of("missing_id", missing, f"there is no {wanted}"))
        identifications = build_identifications(self._identification, values, skipped.rows)
        bad = row_issues.rows
        names = [name for name in identifications.schema.names if name not in ADDRESS_FIELDS]
        updates = [identifications.column(name) for name in names]
        chosen = ~bad & ~all_null(updates) if updates else np.zeros(n, np.bool_)
        if not chosen.all():
            identifications = identifications.filter(pa.array(chosen))
        return Mapped(
            batch=batch,
            kept=positions[chosen],
            identifications=identifications,
            rejects=self._rejects(batch, positions, row_issues),
            keep_empty=self.keep_empty,
            large=self._large_numbers(rows, values),
            skipped=skipped.counted(batch.numbers[positions], ~bad),
        )

    def ids(self, batch: Batch) -> pa.RecordBatch:
        """The ids of every row that has one, whatever else is wrong with it; a wrong id counts as none."""
        ids = self.placed_ids(batch)[1]
        return ids.filter(pa.array(~all_null(ids.columns)))

    def placed_ids(self, batch: Batch) -> tuple[NDArray[np.int64], pa.RecordBatch]:
        """The ids of m rows, null if wrong or missing, after their positions in the batch (shape (m,))."""
        rows, positions = self._transformed(batch)
        read = [self._read(column, batch, rows)[0] for column in self._ids]
        ids = [blank_out(one.values, one.wrong) for one in read]
        return positions, pa.RecordBatch.from_arrays(ids, names=[column.name for column in self._ids])

    def _transformed(self, batch: Batch) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
        """The m rows to map, and the position in the batch of each; int64, shape (m,), ascending."""
        # Functions on DataFrames seldom expect one without rows.
        if self._transform is None or not batch.rows.num_rows:
            return batch.rows, np.arange(batch.rows.num_rows)
        return apply_transform(self._transform, batch)

    def _read(
        self, column: Column, batch: Batch, rows: pa.RecordBatch
    ) -> tuple[ColumnValues, pa.Array | None]:
        """The values of a column spec, and its source column; None for a constant."""
        n, name = rows.num_rows, column.spec.column
        if name is None:
            return column.read(None, n, text=batch.text), None
        place = rows.schema.get_field_index(name)
        if place >= 0:
            source = rows.column(place)
        elif self._transform is None:
            hint = f"the columns are {', '.join(rows.schema.names)}"
            raise SourceError(f"{batch.source} has no column {name}", hint=hint)
        elif n == 0:
            source = pa.nulls(0, pa.string())
        else:
            hint = "return it as a column of the DataFrame, or remove it from the job file"
            raise TransformError(f"the job's transform returned no column {name} ({batch.source})", hint=hint)
        if not pa.types.is_dictionary(source.type):
            return column.read(source, n, text=batch.text), source
        if column.may_read_distinct:
            texts = column.read(source.dictionary, len(source.dictionary), text=batch.text)
            if not texts.issues and not texts.values.null_count:
                return ColumnValues(pa.DictionaryArray.from_arrays(source.indices, texts.values)), source
        source = plain_array(source)
        return column.read(source, n, text=batch.text), source

    def _large_numbers(self, rows: pa.RecordBatch, values: Mapping[FieldPath, pa.Array]) -> frozenset[str]:
        """The properties with whole numbers of too many digits; among JSON values those are marked text."""
        json = {field.name for field in rows.schema if is_json(field.type)}
        found = set()
        for column in self._columns:
            marked = column.spec.path or column.spec.column in json
            if column.role in {"value", "list"} and loses_digits(values[column.path], marked=bool(marked)):
                found.add(column.path[2])
        return frozenset(found)

    def _rejects(
        self, batch: Batch, positions: NDArray[np.int64], row_issues: RowIssues
    ) -> tuple[Reject, ...]:
        found = [(int(positions[row]), faults) for row, faults in row_issues.faults()]
        gone = (RowFault("", "dropped", "dropped by the job's transform"),)
        found += [(at, gone) for at in np.delete(np.arange(batch.rows.num_rows), positions).tolist()]
        if not found:
            return batch.rejects
        batch = replace(batch, rows=plain_rows(batch.rows))
        found.sort(key=itemgetter(0))
        places = np.array([place for place, _ in found], dtype=np.int64)
        first = ((faults[0].code, faults[0].reason) for _, faults in found)
        made = rejects_of(batch, rows_with_originals(batch), places, first, self.keep_empty)
        rejects = [replace(reject, faults=faults) for reject, (_, faults) in zip(made, found, strict=True)]
        return tuple(sorted([*batch.rejects, *rejects], key=lambda reject: reject.row))


def build_identifications(
    identification: Identification, values: Mapping[FieldPath, pa.Array], skipped: Mapping[FieldPath, RowMask]
) -> pa.RecordBatch:
    """Build n identifications of the `values` (shape (n,) each) of every column spec, by their paths.

    `skipped` marks rows whose value at a path is left out: it is not a null that `null: unset` is for.
    """
    alike = pa.repeat(UNSET_VALUE, len(next(iter(values.values()))))
    columns: dict[FieldPath, pa.Array] = {path: values[path] for path in _FIELDS if path in values}
    columns |= {path: array for path, array in values.items() if path[0] == "groups"}
    if identification.clear_all:
        columns[_PROPERTIES, "$clearAll"] = alike
    columns |= {(_PROPERTIES, "$unset", name): alike for name in identification.unset}
    for name, spec in identification.operators.get("$set", {}).items():
        if spec.null == "unset":  # where there is no value
            absent = values[path := (_PROPERTIES, "$set", name)].is_null()
            if path in skipped:
                absent = pc.and_not(absent, pa.array(skipped[path]))
            columns[_PROPERTIES, "$unset", name] = pc.if_else(absent, UNSET_VALUE, None)
    return nested_rows(columns | {path: array for path, array in values.items() if path[0] == _PROPERTIES})


def loses_digits(values: pa.Array, *, marked: bool) -> bool:
    """Whether a value, or an element of a list, is a whole number that a browser shows with other digits.

    `marked`: texts may be marked JSON, and numbers in it count, too.
    """
    if is_list(values.type):
        return loses_digits(values.flatten(), marked=marked)
    found: list[int] = []
    if marked and pa.types.is_string(values.type):
        long = values.filter(pc.match_substring_regex(values, r"^\x00.*\(-?\d{16,}\)").fill_null(False))
        found = [int(digits) for text in long.to_pylist() if (digits := unmark_json(text))]
    elif pa.types.is_int64(values.type) or pa.types.is_uint64(values.type):
        found = [end for end in pc.min_max(values).as_py().values() if end is not None]
    return any(abs(number) > MAX_SAFE_INTEGER for number in found)
