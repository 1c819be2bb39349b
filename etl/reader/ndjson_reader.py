"""NDJSON: which columns a file has, and each line that isn't blank as a row or a reject.

What a value becomes depends on nothing but itself: pyarrow reads the blocks that it reads exactly, the others
are read line by line, and a column whose values differ in kind comes as JSON. The rows of reject files are
read again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ..arrow.json_text import EXACT_FLOAT, JSON, json_column
from ..arrow.originals import CSV_ORIGIN
from ..model import Batch, Reject
from . import decoding
from .decoding import BLOCK, text_chunks
from .file_reader import FileReader, ReadOptions, RowSpans
from .files import HEAD, InputFile
from .ndjson_lines import (
    INT64,
    JsonLine,
    LineBlock,
    LineGroup,
    MisfitError,
    block_of,
    checked_json,
    fit_value,
    group_rejects,
    is_reject,
    line_values,
    not_json,
    origin_of,
    read_exactly,
    read_line,
    refuse_other_json,
    rejected_row,
)

SCALARS: Final[Mapping[frozenset[type], pa.DataType]] = {
    frozenset(): pa.string(),
    frozenset({str}): pa.string(),
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
}
_DEPTH: Final = 50
_MOST_FIELDS: Final = 64  # of an object, beyond which its keys are taken for data
_KNOWN_SHAPES: Final = 10_000
_MOST_COLUMNS: Final = 20_000


class NdjsonReader(FileReader):
    """Reads one NDJSON file. `text` is true for a reject file that begins with a row of CSV.

    The columns are found in the first `scanned` bytes.
    """

    format = "ndjson"
    endings = ("ndjson", "jsonl", "json")
    open_columns = True
    gives_json = True

    def __init__(
        self, input_file: InputFile, options: ReadOptions, block: int = BLOCK, scanned: int = 1 << 25
    ) -> None:
        super().__init__(input_file, options)
        self._block = block
        self._scanned_bytes = scanned if input_file.repeatable else HEAD // 2
        self._scanned_partly = False
        head = next((block.data for block in self._blocks() if block.size), b"").lstrip()
        refuse_other_json(self.name, head)
        first = read_line(head.partition(b"\n")[0]).row or {}
        self.holds_rejects = is_reject(first)
        self.text = self.holds_rejects and origin_of(first) == CSV_ORIGIN

    def names(self) -> list[str]:
        """Return the columns of the scanned part in order of first appearance."""
        return list(self._scan.columns)

    def schema(self) -> pa.Schema:
        """Return the columns in order of first appearance; a column whose values differ in type is string."""
        return self._schema

    def lacks(self, names: Sequence[str]) -> list[str]:
        """Return those of `names` that no row has. Reads beyond the scanned part, but not in a pipe."""
        left = [name for name in names if name not in self._scan.columns]
        if not left or not (self._scanned_partly or self._scan.incomplete) or not self.input_file.repeatable:
            return left
        for block in self._blocks():
            for line in self._lines(block):
                left = [name for name in left if name not in (line.row or {})]
            if not left:
                break
        return left

    def batches(self, spans: RowSpans, columns: Sequence[str], *, exact: bool = False) -> Iterator[Batch]:
        """Yield the blocks of lines with wanted ones; the others are only counted.

        Not `exact`, a row with a value of another type than that of `schema`, in any column, is a reject.
        `exact`: a column with values of several kinds comes as JSON, maybe not in all batches.
        """
        types = self._types if exact else {field.name: field.type for field in self._schema}
        kinds = {name: types.get(name, pa.string()) for name in (columns if exact else types)}
        schema = pa.schema({} if self.holds_rejects or JSON in kinds.values() else kinds)
        for block, row in self._wanted(spans):
            rows = read_exactly(block, schema, strict=not exact)
            if rows is not None:
                batch = self.batch(row, rows.select(list(columns)))
                yield replace(batch, originals=block.originals())
            elif not exact:
                batch = self._line_by_line(LineGroup(self._lines(block, strict=True), fit=True), row, kinds)
                yield replace(batch, rows=batch.rows.select(list(columns)))
            elif not self.holds_rejects:
                yield self._line_by_line(LineGroup(self._lines(block)), row, kinds)
            else:
                for group in group_rejects(self._lines(block), columns):
                    texts = dict.fromkeys(columns, pa.string()) if group.fit else kinds
                    batch = self._line_by_line(group, row, texts)
                    yield replace(batch, text=group.fit)
                    row = batch.stop

    def _wanted(self, spans: RowSpans) -> Iterator[tuple[LineBlock, int]]:
        """The blocks that have wanted rows, each with the number of its first row."""
        row = 1
        with closing(self._blocks()) as blocks:
            while (following := spans.next(row)) is not None:
                block = next(blocks, None)
                if block is None:
                    return
                if row + block.size > following:
                    yield block, row
                row += block.size

    def _blocks(self) -> Generator[LineBlock, None, None]:
        rows, position = 0, [0]
        with closing(text_chunks(self.input_file, "utf-8", self._block, position)) as chunks:
            for data in chunks:
                if len(data) > decoding.MAX_RECORD and not data.endswith(b"\n"):
                    what = f": row {rows + 1} is longer than 32 MiB"
                    raise self.input_file.error(what, "NDJSON has one object a line")
                block = block_of(data)
                rows += block.size
                self.note_read(rows, position[0])
                yield block

    def _lines(self, block: LineBlock, *, strict: bool = False) -> Iterator[JsonLine]:
        """The row in each line, in a reject file as it was rejected; `strict`: if it is plain."""
        large = block.has_large_numbers
        for text in block.lines():
            line = read_line(text, large=large)
            line = rejected_row(line) if self.holds_rejects else line
            bad = strict and not line.plain
            yield line._replace(row=None, reason=not_json(line.text)) if bad else line

    # --- the columns -------------------------------------------------------------------------------------

    def _scanned(self) -> Iterator[tuple[JsonLine, bool]]:
        """The lines with objects to scan, and whether their blocks may have large numbers."""
        left = self._scanned_bytes
        for block in self._blocks():
            large = block.has_large_numbers
            yield from ((line, large) for line in self._lines(block) if line.row is not None)
            left -= len(block.data)
            if left <= 0:
                self._scanned_partly = True
                return

    @cached_property
    def _scan(self) -> _ColumnScan:
        scan = _ColumnScan()
        for line, large in self._scanned():
            scan.add(line.row or {}, large=large, plain=line.plain)
        return scan

    @cached_property
    def _types(self) -> dict[str, pa.DataType]:
        """The types as which columns can be read at full speed without changing any value; else JSON."""
        return {name: types.common_type() for name, types in self._scan.columns.items()}

    @cached_property
    def _schema(self) -> pa.Schema:
        """The columns of `batches`; objects and lists are scanned once more, while they have few keys."""
        kinds, nested = dict(self._types), list[str]()
        for name, kind in kinds.items():
            if self.text or (kind == JSON and self._scan.columns[name].values.isdisjoint({list, dict})):
                kinds[name] = pa.string()
            elif kind == JSON:
                nested.append(name)
                kinds[name] = pa.null()
        for line, _ in self._scanned() if nested else ():
            for name in nested if line.plain else ():
                kinds[name] = merge_types(kinds[name], type_of((line.row or {}).get(name)))
        return pa.schema([(name, resolved_type(kind)) for name, kind in kinds.items()])

    # --- the rows ----------------------------------------------------------------------------------------

    def _line_by_line(self, group: LineGroup, row: int, kinds: Mapping[str, pa.DataType]) -> Batch:
        """The rows of lines, with these columns, and a reject for each misfit."""
        rejects, good = list[Reject](), list[tuple[int, bytes, int, list[Any]]]()
        for place, line in enumerate(group.lines):
            try:
                good.append((place, line.text, line.run, line_values(line, kinds, fit=group.fit)))
            except MisfitError as misfit:
                text = (line.rejected or line.text).decode(errors="backslashreplace")
                shown = checked_json({"line": text})
                rejects.append(Reject(self.name, row + place, "bad_line", str(misfit), shown))
        places = pa.array([place for place, _, _, _ in good], pa.int64())
        arrays = [
            group.typed[name].take(places)
            if name in group.typed
            else as_column([values[at] for _, _, _, values in good], kind)
            for at, (name, kind) in enumerate(kinds.items())
        ]
        # A batch without columns has rows, too.
        rows = pa.RecordBatch.from_arrays([*arrays, pa.nulls(len(good))], names=[*kinds, "\x00rows"])
        return replace(
            self.batch(row, rows.select(list(range(len(arrays)))), rejects),
            originals=pa.array([text for _, text, _, _ in good], pa.binary()),
            runs=np.array([run for _, _, run, _ in good], np.int64) if self.holds_rejects else None,
        )


# --- the type that values have in common -----------------------------------------------------------------


class _ColumnScan:
    """The columns of the rows that were scanned. `incomplete`: it has not all of them, as there are too many.

    What a value becomes doesn't depend on it. It shows which columns can be read at full speed, and whether
    whole numbers among others are written with a point.
    """

    def __init__(self) -> None:
        self.columns: dict[str, _ValueTypes] = {}
        self.incomplete = False
        # Which columns of rows of one shape have lists, whose elements have to be checked in each row.
        self._lists: dict[tuple[object, ...], tuple[str, ...]] = {}

    def add(self, row: Mapping[str, Any], *, large: bool, plain: bool = True) -> None:
        """Scan a row; `large`: it may have numbers that no float holds. Not `plain`: scan only names."""
        if not plain:
            for name in row:
                with suppress(UnicodeEncodeError):
                    name.encode()
                    self._note(name, None, large=False)
            return
        shape = (*row, *map(type, row.values()))
        lists = self._lists.get(shape)
        if lists is None or large:
            if len(self._lists) >= _KNOWN_SHAPES:
                self._lists.clear()
            lists = self._lists[shape] = tuple(name for name, value in row.items() if isinstance(value, list))
            for name, value in row.items():
                self._note(name, value, large=large)
        for name in lists:
            if name in self.columns:
                self.columns[name].elements.update(map(type, row[name]))

    def _note(self, name: str, value: object, *, large: bool) -> None:
        """Add a value to its column, unless there are too many columns."""
        types = self.columns.get(name)
        if types is None:
            if len(self.columns) >= _MOST_COLUMNS:
                self.incomplete = True
                return
            types = self.columns[name] = _ValueTypes()
        if value is None:
            return
        types.values.add(type(value))
        if large:
            numbers = value if isinstance(value, list) else [value]
            types.large |= any(isinstance(number, int) and abs(number) > EXACT_FLOAT for number in numbers)


@dataclass(slots=True)
class _ValueTypes:
    """The Python types of a column's values, and of the elements of its lists.

    `large`: there are whole numbers that a float doesn't hold.
    """

    values: set[type] = field(default_factory=set)
    elements: set[type] = field(default_factory=set)
    large: bool = False

    def common_type(self) -> pa.DataType:
        """Return the type that can be read at full speed without changing any value, or JSON."""
        lists = self.values == {list}
        types = self.elements - {type(None)} if lists else self.values
        scalar = None if self.large and float in types else SCALARS.get(frozenset(types))
        if scalar is None:
            return JSON
        return pa.list_(scalar) if lists else scalar


def type_of(value: object, depth: int = 0) -> pa.DataType:
    """Return the narrowest type of one value, as orjson loads it."""
    if isinstance(value, list) and depth < _DEPTH:
        return pa.list_(reduce(merge_types, (type_of(one, depth + 1) for one in value), pa.null()))
    if isinstance(value, dict) and depth < _DEPTH and len(value) <= _MOST_FIELDS:
        return pa.struct([(name, type_of(inner, depth + 1)) for name, inner in value.items()])
    if value is None:
        return pa.null()
    kind = SCALARS.get(frozenset({type(value)}), pa.string())
    return pa.string() if type(value) is int and value not in INT64 else kind


def merge_types(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """Return the narrowest type that values of both types fit.

    At the top is string: values that agree on nothing else are kept as their JSON text.
    """
    if left == right or pa.types.is_null(right):
        return left
    if pa.types.is_null(left):
        return right
    if {left, right} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if isinstance(left, pa.ListType) and isinstance(right, pa.ListType):
        return pa.list_(merge_types(left.value_type, right.value_type))
    if isinstance(left, pa.StructType) and isinstance(right, pa.StructType):
        fields = {field.name: field.type for field in left}
        for field in right:
            fields[field.name] = merge_types(fields.get(field.name, pa.null()), field.type)
        return pa.struct(list(fields.items())) if len(fields) <= _MOST_FIELDS else pa.string()
    return pa.string()


def resolved_type(kind: pa.DataType) -> pa.DataType:
    """Return the type with string in place of null, which is what was null in every row."""
    if isinstance(kind, pa.ListType):
        return pa.list_(resolved_type(kind.value_type))
    if isinstance(kind, pa.StructType):
        return pa.struct([(field.name, resolved_type(field.type)) for field in kind])
    return pa.string() if pa.types.is_null(kind) else kind


def as_column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Make a column of this type or, if one of the values isn't of it, a JSON column of all of them.

    Among floats, whole numbers are floats if a float holds them, so that a number is written alike in both
    columns. Raises MisfitError for a value that is nested too deep to be written.
    """
    if kind != JSON:
        with suppress(MisfitError):
            return pa.array([fit_value(value, kind, exact=True) for value in values], kind)
    texts = [None if value is None else checked_json(_as_floats(value, kind)) for value in values]
    return json_column(texts)


def _as_floats(value: object, kind: pa.DataType) -> object:
    if isinstance(kind, pa.ListType) and isinstance(value, list):
        return [_as_floats(item, kind.value_type) for item in value]
    whole = type(value) is int and abs(value) <= EXACT_FLOAT
    return float(value) if whole and pa.types.is_floating(kind) else value  # type: ignore[arg-type]
