"""NDJSON: every line that isn't blank is a row or a reject; the rows of reject files are read again.

What a value becomes depends on nothing but itself: pyarrow reads the blocks that it reads exactly, the others
are read line by line, and a column whose values differ in kind comes as JSON.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from ..arrow.json_text import JSON
from ..arrow.originals import CSV_ORIGIN
from ..model import Batch, Reject
from . import decoding
from .decoding import BLOCK, text_chunks
from .file_reader import FileReader, ReadOptions, RowSpans
from .files import HEAD, InputFile
from .json_types import (
    ColumnScan,
    MisfitError,
    as_column,
    checked_json,
    merge_types,
    resolved_type,
    type_of,
)
from .ndjson_lines import (
    JsonLine,
    LineBlock,
    LineGroup,
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
)


class NdjsonReader(FileReader):
    """Reads one NDJSON file. `text` is true for a reject file that begins with a row of CSV.

    The columns are found in the first `scanned` bytes.
    """

    format = "ndjson"
    endings = ("ndjson", "jsonl", "json")
    open_columns = True

    def __init__(
        self, given: InputFile, options: ReadOptions, block: int = BLOCK, scanned: int = 1 << 25
    ) -> None:
        super().__init__(given, options)
        self._block = block
        self._scanned_bytes = scanned if given.repeatable else HEAD // 2
        self._partly = False  # scanned
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
        if not left or not (self._partly or self._scan.forgotten) or not self.given.repeatable:
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
        with closing(text_chunks(self.given, "utf-8", self._block, position)) as chunks:
            for data in chunks:
                if len(data) > decoding.MAX_RECORD and not data.endswith(b"\n"):
                    what = f": row {rows + 1} is longer than 32 MiB"
                    raise self.given.error(what, "NDJSON has one object a line")
                block = block_of(data)
                rows += block.size
                self.note_read(rows, position[0])
                yield block

    def _lines(self, block: LineBlock, *, strict: bool = False) -> Iterator[JsonLine]:
        """The row in each line, in a reject file as it was rejected; `strict`: if it is plain."""
        long = block.long
        for text in block.lines():
            line = read_line(text, long=long)
            line = rejected_row(line) if self.holds_rejects else line
            bad = strict and not line.plain
            yield line._replace(row=None, reason=not_json(line.text)) if bad else line

    # --- the columns -------------------------------------------------------------------------------------

    def _scanned(self) -> Iterator[tuple[JsonLine, bool]]:
        """The lines with objects to scan, and whether their blocks are `long`; there may be others."""
        left = self._scanned_bytes
        for block in self._blocks():
            long = block.long
            yield from ((line, long) for line in self._lines(block) if line.row is not None)
            left -= len(block.data)
            if left <= 0:
                self._partly = True
                return

    @cached_property
    def _scan(self) -> ColumnScan:
        scan = ColumnScan()
        for line, long in self._scanned():
            scan.add(line.row or {}, long=long, plain=line.plain)
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
