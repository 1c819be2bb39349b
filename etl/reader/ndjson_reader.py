"""NDJSON: every line that isn't blank is a row or a reject; the rows of reject files are read again.

What a value becomes depends on nothing but itself: pyarrow reads the blocks that it reads exactly, the others
are read line by line, and a column whose values differ in kind comes as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ..arrow.exact_json import JSON
from ..arrow.originals import CSV_ORIGIN
from ..errors import SourceError
from ..model import Batch, Reject
from .decoding import BLOCK, ReadBuffer, text_chunks
from .file_reader import FileReader, ReadOptions, RowSpans
from .files import HEAD, UnpackedFile
from .json_types import (
    ColumnScan,
    MisfitError,
    as_column,
    checked_json,
    fit_column,
    merge_types,
    resolved_type,
    type_of,
)
from .ndjson_lines import (
    JsonLine,
    LineBlock,
    RejectGroup,
    Row,
    block_of,
    group_rejects,
    is_reject,
    line_values,
    not_json,
    origin_of,
    read_exactly,
    read_line,
    refuse_other_json,
    rejected_row,
    run_of,
)

SCANNED: Final = 1 << 25


class NdjsonReader(FileReader):
    """Reads one NDJSON file. `text` is true for a reject file that begins with a row of CSV.

    The columns are found in the first `scanned` bytes.
    """

    format = "ndjson"
    endings = ("ndjson", "jsonl", "json")
    open_columns = True

    def __init__(
        self, given: UnpackedFile, options: ReadOptions, block: int = BLOCK, scanned: int = SCANNED
    ) -> None:
        super().__init__(given, options)
        self._block = block
        self._scanned_bytes = scanned if given.file.repeatable else HEAD // 2
        first: Row = {}
        block_read = next((one for one in self._blocks() if one.size), None)
        if block_read is not None:
            refuse_other_json(self.name, block_read.data)
            first = read_line(next(block_read.lines())).row or {}
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
        if not left or self._scan.whole or not self.given.file.repeatable:
            return left
        for block in self._blocks():
            for _, line in self._lines(block):
                left = [name for name in left if name not in (line.row or {})]
            if not left:
                break
        return left

    def batches(self, spans: RowSpans, columns: Sequence[str]) -> Iterator[Batch]:
        """Yield the blocks of lines with wanted ones; the others are only counted.

        The columns are those of `schema`, and a row with a value of another type in any of them is a reject.
        """

        def values_of(line: JsonLine) -> list[object]:
            """The values of these columns; MisfitError if any value of the line doesn't fit its column."""
            if not line.plain:
                raise MisfitError(not_json(line.text))
            values = line_values(line, self._schema.names)
            found = {
                field.name: fit_column(field.name, value, field.type)
                for field, value in zip(self._schema, values, strict=True)
            }
            return [found[name] for name in columns]

        for block, row in self._wanted(spans):
            rows = None if self.holds_rejects else read_exactly(block, self._schema, others="error")
            if rows is not None:
                batch = self.batch(row, rows.select(list(columns)))
                yield replace(batch, originals=block.originals())
            else:
                kinds = {name: self._schema.field(name).type for name in columns}
                yield self._line_by_line(self._lines(block), row, values_of, kinds, pa.array)

    def exact_batches(self, spans: RowSpans, columns: Sequence[str]) -> Iterator[Batch]:
        """As `batches`, but a value doesn't depend on other rows and other columns.

        Columns may have any names. One with values of several kinds comes as JSON, maybe not in all batches.
        """
        kinds = {name: self._types.get(name, pa.string()) for name in columns}
        schema = None if JSON in kinds.values() else pa.schema(list(kinds.items()))
        for block, row in self._wanted(spans):
            if self.holds_rejects:
                for group in group_rejects(self._lines(block), columns):
                    yield self._rejects_read_again(group, row, columns)
                    row += len(group.lines)
                continue
            rows = None if schema is None else read_exactly(block, schema, others="ignore")
            if rows is not None:
                yield replace(self.batch(row, rows), originals=block.originals())
            else:
                lines = self._lines(block)
                yield self._line_by_line(
                    lines, row, lambda line: line_values(line, columns), kinds, as_column
                )

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
        row, position = 1, [0]
        with closing(text_chunks(self.given, "utf-8", self._block, position)) as chunks:
            buffer = ReadBuffer(chunks)
            while not buffer.final:
                buffer.grow()
                end = len(buffer.data) if buffer.final else buffer.data.rfind(b"\n") + 1
                if not end and buffer.full:
                    hint = "NDJSON has one object a line"
                    raise SourceError(f"{self.name}: row {row} is longer than 32 MiB", hint=hint)
                if end:
                    block = block_of(buffer.data[:end])
                    buffer.take(end)
                    row += block.size
                    self.note_read(row - 1, buffer.taken / (buffer.taken + len(buffer.data)), position)
                    yield block

    def _lines(self, block: LineBlock) -> Iterator[tuple[bytes, JsonLine]]:
        """Each line, and the row in it; in a reject file the row that was rejected."""
        long = block.long
        for text in block.lines():
            line = read_line(text, long=long)
            yield text, rejected_row(line) if self.holds_rejects else line

    # --- the columns -------------------------------------------------------------------------------------

    def _scanned(self) -> Iterator[LineBlock]:
        """The blocks to scan; after `_scanned_bytes` there may be others."""
        seen = 0
        for block in self._blocks():
            seen += len(block.data)
            yield block
            if seen >= self._scanned_bytes:
                return

    @cached_property
    def _scan(self) -> ColumnScan:
        scan, seen = ColumnScan(), 0
        for block in self._scanned():
            long = block.long
            seen += len(block.data)
            for _, line in self._lines(block):
                if line.row is not None and line.plain:
                    scan.add(line.row, long=long)
                elif line.row is not None:
                    scan.add_names(line.row)
        scan.whole = scan.whole and seen < self._scanned_bytes
        return scan

    @cached_property
    def _types(self) -> dict[str, pa.DataType]:
        """The types as which columns can be read at full speed without changing any value; else JSON."""
        found = self._scan.columns.items()
        return {name: pa.string() if self.text else types.common_type() for name, types in found}

    @cached_property
    def _schema(self) -> pa.Schema:
        """The columns of `batches`; objects and lists are scanned once more, while they have few keys."""
        kinds, nested = dict(self._types), list[str]()
        for name, kind in self._types.items():
            if kind == JSON and not self._scan.columns[name].values.isdisjoint({list, dict}):
                nested.append(name)
                kinds[name] = pa.null()
            elif kind == JSON:
                kinds[name] = pa.string()
        for block in self._scanned() if nested else ():
            for _, line in self._lines(block):
                row = line.row if line.row is not None and line.plain else {}
                for name in nested:
                    if (value := row.get(name)) is not None and kinds[name] != pa.string():
                        kinds[name] = merge_types(kinds[name], type_of(value))
        return pa.schema([(name, resolved_type(kind)) for name, kind in kinds.items()])

    # --- the rows ----------------------------------------------------------------------------------------

    def _rejects_read_again(self, group: RejectGroup, row: int, columns: Sequence[str]) -> Batch:
        """The rows of a group, which are read alike."""
        known = (self._scan if group.typed is None else group.scan()).columns
        kinds = {
            name: known[name].common_type() if name in known and not group.text else pa.string()
            for name in columns
        }

        def values_of(line: JsonLine) -> list[object]:
            values = line_values(line, columns)
            if not group.text:
                return values
            return [fit_column(name, value, pa.string()) for name, value in zip(columns, values, strict=True)]

        batch = self._line_by_line(group.lines, row, values_of, kinds, as_column, group.typed or {})
        return replace(batch, text=group.text)

    def _line_by_line(
        self,
        lines: Iterable[tuple[bytes, JsonLine]],
        row: int,
        values_of: Callable[[JsonLine], list[object]],
        kinds: dict[str, pa.DataType],
        column_of: Callable[[list[Any], pa.DataType], pa.Array],
        typed: Mapping[str, pa.Array] = MappingProxyType({}),
    ) -> Batch:
        """`typed` are columns whose values are known, one for each of the lines."""
        rejects: list[Reject] = []
        good: list[list[object]] = []
        texts: list[bytes] = []
        runs: list[int] = []
        places: list[int] = []
        for number, (text, line) in enumerate(lines, start=row):
            reason = line.reason
            try:
                values = None if line.row is None else values_of(line)
            except MisfitError as misfit:
                values, reason = None, str(misfit)
            if values is None:
                shown = checked_json({"line": text.decode(errors="backslashreplace")})
                rejects.append(Reject(self.name, number, "bad_line", reason, shown))
                continue
            good.append(values)
            places.append(number - row)
            texts.append(line.text)
            if self.holds_rejects:
                runs.append(run_of(text))
        arrays = [
            typed[name].take(pa.array(places, pa.int64()))
            if name in typed
            else column_of([values[place] for values in good], kind)
            for place, (name, kind) in enumerate(kinds.items())
        ]
        # A batch without columns has rows, too.
        rows = pa.RecordBatch.from_arrays([*arrays, pa.nulls(len(good))], names=[*kinds, "\x00rows"])
        return replace(
            self.batch(row, rows.select(list(range(len(arrays)))), rejects),
            originals=pa.array(texts, pa.binary()),
            runs=np.array(runs, dtype=np.int64) if self.holds_rejects else None,
        )
