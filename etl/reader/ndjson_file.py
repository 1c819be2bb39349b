"""NDJSON: every line that isn't blank is a row or a reject; reject files hand out the rows in them.

What a value becomes depends on nothing but itself: pyarrow reads the blocks that it reads exactly, the others
are read line by line, and a column whose values differ in kind comes as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from etl.arrow.json_type import JSON
from etl.arrow.originals import CSV_ORIGIN
from etl.errors import SourceError
from etl.model import Format, Reject
from etl.reader.decoding import BLOCK, text_chunks
from etl.reader.json_values import (
    MisfitError,
    as_column,
    fitted_in,
    json_text,
    merged,
    resolved_type,
    type_of,
)
from etl.reader.ndjson_arrow import read_exactly
from etl.reader.ndjson_lines import (
    Block,
    Line,
    Row,
    block_of,
    not_json,
    picked,
    read_line,
    refuse_other_json,
    texts_of,
)
from etl.reader.ndjson_look import Look
from etl.reader.pieces import Piece, mingled, sound
from etl.reader.places import HEAD
from etl.reader.reject_lines import Run, is_reject, origin_of, rejected_row, run_of, runs_of
from etl.reader.spans import Spans
from etl.reader.window import Window

if TYPE_CHECKING:
    from etl.reader.formats import Input

LOOK: Final = 1 << 25


class NdjsonFile:
    """One NDJSON file. `text` is true for a reject file beginning with a row of CSV: its values are text."""

    format: Format = "ndjson"

    def __init__(self, given: Input, block: int = BLOCK, look: int = LOOK) -> None:
        self._given = given
        self._block = block
        self._look_bytes = look if given.place.repeatable else HEAD // 2
        first = self._first_object()
        self.holds_rejects = is_reject(first)
        self.text = self.holds_rejects and origin_of(first) == CSV_ORIGIN

    def names(self) -> list[str]:
        """The columns in order of first appearance, as far as the look at the file's beginning goes."""
        return list(self._look.columns)

    def schema(self) -> pa.Schema:
        """The columns in order of first appearance; a column whose values differ in type is string."""
        return self._schema

    def total_rows(self) -> int | None:
        """None: only reading tells."""
        return None

    def lacks(self, names: Sequence[str]) -> list[str]:
        """Which of the columns no row has. Reads on where the look doesn't tell, but not in a pipe."""
        left = [name for name in names if name not in self._look.columns]
        if not left or self._look.whole or not self._given.place.repeatable:
            return left
        for block in self._blocks():
            for _, line in self._lines(block):
                left = [name for name in left if name not in (line.row or {})]
            if not left:
                break
        return left

    def pieces(
        self, first: int, stop: int | None, columns: Sequence[str], *, spans: Spans | None = None
    ) -> Iterator[Piece]:
        """The blocks of lines with wanted ones; the others are only counted.

        The columns are those of `schema`, and a row with a value of another type in any of them is a reject.
        """
        wanted = spans or Spans([(first, stop)])
        return self._pieces(wanted, lambda block, row: iter([self._strict(block, row, columns)]))

    def exact_pieces(
        self, first: int, stop: int | None, columns: Sequence[str], *, spans: Spans | None = None
    ) -> Iterator[Piece]:
        """As `pieces`, but a value is what it is whatever stands in other rows and other columns.

        Columns may have any names. One with values of several kinds comes as JSON, maybe in some pieces only.
        """
        wanted = spans or Spans([(first, stop)])
        return self._pieces(wanted, lambda block, row: self._exact(block, row, columns))

    def _pieces(self, wanted: Spans, pieces: Callable[[Block, int], Iterator[Piece]]) -> Iterator[Piece]:
        row = 1
        with closing(self._blocks()) as blocks:
            while (following := wanted.next(row)) is not None:
                block = next(blocks, None)
                if block is None:
                    return
                if row + block.lines > following:
                    yield from pieces(block, row)
                row += block.lines

    def _blocks(self) -> Generator[Block, None, None]:
        row = 1
        with closing(text_chunks(self._given, "utf-8", self._block)) as chunks:
            window = Window(chunks)
            while True:
                window.grow()
                end = len(window.data) if window.final else window.data.rfind(b"\n") + 1
                if not end and window.full:
                    hint = "NDJSON has one object a line"
                    raise SourceError(f"{self._given.name}: row {row} is longer than 32 MiB", hint=hint)
                if end:
                    block = block_of(window.data[:end])
                    window.take(end)
                    yield block
                    row += block.lines
                if window.final:
                    return

    def _first_object(self) -> Row:
        for block in self._blocks():
            for text in texts_of(block):
                refuse_other_json(self._given.name, block.data)
                return read_line(text).row or {}
        return {}

    def _lines(self, block: Block) -> Iterator[tuple[bytes, Line]]:
        """Each line as it stands, and with the row that it stands for."""
        long = block.long
        if self.holds_rejects:
            return ((text, rejected_row(read_line(text, long=long))) for text in texts_of(block))
        return ((text, read_line(text, long=long)) for text in texts_of(block))

    # --- what there is -----------------------------------------------------------------------------------

    @cached_property
    def _look(self) -> Look:
        look, seen = Look(), 0
        for block in self._blocks():
            long = block.long
            for _, line in self._lines(block):
                if line.row is not None and line.plain:
                    look.add(line.row, long=long)
                elif line.row is not None:
                    look.add_names(line.row)
            seen += len(block.data)
            if seen >= self._look_bytes:
                look.whole = False
                break
        return look

    @cached_property
    def _kinds(self) -> dict[str, pa.DataType]:
        """The types as which columns can be read at full speed, no value becoming another; else JSON."""
        return {
            name: pa.string() if self.text else kinds.common_type()
            for name, kinds in self._look.columns.items()
        }

    @cached_property
    def _schema(self) -> pa.Schema:
        """What `pieces` has; objects and lists of them are looked at once more, while their keys are few."""
        kinds = {name: self._strict_kind(name) for name in self._look.columns}
        nested = [name for name, kind in kinds.items() if kind == JSON]
        kinds |= dict.fromkeys(nested, pa.null())
        seen = 0
        for block in self._blocks() if nested else ():
            for _, line in self._lines(block):
                row = line.row if line.row is not None and line.plain else {}
                for name in nested:
                    if (value := row.get(name)) is not None and kinds[name] != pa.string():
                        kinds[name] = merged(kinds[name], type_of(value))
            seen += len(block.data)
            if seen >= self._look_bytes:
                break
        return pa.schema([(name, resolved_type(kind)) for name, kind in kinds.items()])

    def _strict_kind(self, name: str) -> pa.DataType:
        """JSON stands for what has to be looked at once more."""
        nested = not self._look.columns[name].values.isdisjoint({list, dict})
        kind = self._kinds[name]
        return pa.string() if kind == JSON and not nested else kind

    # --- exactly -----------------------------------------------------------------------------------------

    def _exact(self, block: Block, row: int, columns: Sequence[str]) -> Iterator[Piece]:
        if self.holds_rejects:
            for run in runs_of(self._lines(block), columns):
                piece = self._of_rejects(run, row, columns)
                yield piece
                row = piece.stop
            return
        kinds = {name: self._kinds.get(name, pa.string()) for name in columns}
        if JSON not in kinds.values():
            rows = read_exactly(block, pa.schema(list(kinds.items())), others="ignore")
            if rows is not None:
                yield replace(sound(row, rows), originals=block.originals())
                return
        yield self._line_by_line(
            self._lines(block), row, lambda line: picked(line, columns), kinds, as_column
        )

    def _of_rejects(self, run: Run, row: int, columns: Sequence[str]) -> Piece:
        """Rows that are read alike."""
        looks = (self._look if run.typed is None else run.look).columns
        kinds = {name: looks[name].common_type() if name in looks else pa.string() for name in columns}
        if run.text:
            kinds = dict.fromkeys(kinds, pa.string())
        values_of = partial(_texts if run.text else picked, columns=columns)
        piece = self._line_by_line(run.lines, row, values_of, kinds, as_column, run.typed or {})
        return replace(piece, text=run.text)

    # --- strictly ----------------------------------------------------------------------------------------

    def _strict(self, block: Block, row: int, columns: Sequence[str]) -> Piece:
        rows = None if self.holds_rejects else read_exactly(block, self._schema, others="error")
        if rows is not None:
            return replace(sound(row, rows.select(list(columns))), originals=block.originals())
        kinds = {name: self._schema.field(name).type for name in columns}
        return self._line_by_line(
            self._lines(block), row, lambda line: self._fitting(line, columns), kinds, pa.array
        )

    def _fitting(self, line: Line, columns: Sequence[str]) -> list[object]:
        """The line's values of these columns; MisfitError if any value of the line doesn't fit its column."""
        if not line.plain:
            raise MisfitError(not_json(line.text))
        values = picked(line, self._schema.names)
        fields = zip(self._schema, values, strict=True)
        found = {field.name: fitted_in(field.name, value, field.type) for field, value in fields}
        return [found[name] for name in columns]

    # --- line by line ------------------------------------------------------------------------------------

    def _line_by_line(
        self,
        lines: Iterable[tuple[bytes, Line]],
        row: int,
        values_of: Callable[[Line], list[object]],
        kinds: dict[str, pa.DataType],
        column_of: Callable[[list[Any], pa.DataType], pa.Array],
        typed: Mapping[str, pa.Array] = MappingProxyType({}),
    ) -> Piece:
        """`typed` are columns of which the values are known, one for each of the lines."""
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
                rejects.append(self._reject(number, text, reason))
                continue
            good.append(values)
            places.append(number - row)
            texts.append(line.text)
            runs.append(run_of(text) if self.holds_rejects else -1)
        arrays = [
            typed[name].take(pa.array(places, pa.int64()))
            if name in typed
            else column_of([values[place] for values in good], kind)
            for place, (name, kind) in enumerate(kinds.items())
        ]
        rows = (
            pa.RecordBatch.from_arrays(arrays, names=list(kinds)) if arrays else _without_columns(len(good))
        )
        piece = replace(mingled(row, rows, rejects), originals=pa.array(texts, pa.binary()))
        return replace(piece, runs=np.array(runs, dtype=np.int64)) if self.holds_rejects else piece

    def _reject(self, row: int, line: bytes, reason: str) -> Reject:
        values = json_text({"line": line.decode(errors="backslashreplace")})
        return Reject(self._given.name, row, "bad_line", reason, values)


def _texts(line: Line, columns: Sequence[str]) -> list[object]:
    """The line's values of these columns as text; MisfitError where one can't be used."""
    values = picked(line, columns)
    return [fitted_in(name, value, pa.string()) for name, value in zip(columns, values, strict=True)]


def _without_columns(count: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(count)], names=["x"]).select([])
