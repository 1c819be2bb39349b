"""NDJSON: every line that isn't blank is a row or a reject; reject files hand out the rows in them.

What a value becomes depends on nothing but itself: pyarrow reads the blocks that it reads exactly, the others
are read line by line, and a column whose values differ in kind comes as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from etl.arrow.exact_json import dump
from etl.arrow.json_type import JSON
from etl.errors import SourceError
from etl.model import Format, Reject
from etl.reader.decoding import BLOCK, text_chunks
from etl.reader.formats import format_named
from etl.reader.json_values import (
    MisfitError,
    as_column,
    fitted_in,
    json_text,
    merged,
    settled,
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
from etl.reader.pieces import Piece, mingled, shown, sound
from etl.reader.places import HEAD
from etl.reader.window import Window

if TYPE_CHECKING:
    from etl.reader.formats import Input

LOOK: Final = 1 << 25
_REJECT_KEYS: Final = {"source", "row", "code", "reason", "values"}


class NdjsonFile:
    """One NDJSON file. `text` is true for a reject file of CSV rows: its values are CSV's text."""

    format: Format = "ndjson"

    def __init__(self, given: Input, block: int = BLOCK, look: int = LOOK) -> None:
        self._given = given
        self._block = block
        self._look_bytes = look if given.place.repeatable else HEAD // 2
        first = self._first_object()
        self.holds_rejects = first.keys() - {"run"} == _REJECT_KEYS
        self.text = self.holds_rejects and format_named(str(first["source"])) == "csv"

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

    def pieces(self, first: int, stop: int | None, columns: Sequence[str]) -> Iterator[Piece]:
        """All lines before `stop`; those before `first` are only counted.

        The columns are those of `schema`, and a row with a value of another type in any of them is a reject.
        """
        return self._pieces(first, stop, lambda block, row: self._strict(block, row, columns))

    def exact_pieces(self, first: int, stop: int | None, columns: Sequence[str]) -> Iterator[Piece]:
        """As `pieces`, but a value is what it is whatever stands in other rows and other columns.

        Columns may have any names. One with values of several kinds comes as JSON, maybe in some pieces only.
        """
        return self._pieces(first, stop, lambda block, row: self._exact(block, row, columns))

    def _pieces(self, first: int, stop: int | None, piece: Callable[[Block, int], Piece]) -> Iterator[Piece]:
        row = 1
        for block in self._blocks():
            if row + block.lines > first:
                yield piece(block, row)
            row += block.lines
            if stop is not None and row >= stop:
                return

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
            return ((text, self._rejected(read_line(text, long=long))) for text in texts_of(block))
        return ((text, read_line(text, long=long)) for text in texts_of(block))

    def _rejected(self, line: Line) -> Line:
        """The row in a line of a reject file, as that had been turned away."""
        values = (line.row or {}).get("values")
        if isinstance(values, dict):
            return Line(dump(values).encode("utf-8", "surrogateescape"), values, plain=line.plain)
        text = shown(line.text.decode(errors="backslashreplace"))
        return line._replace(row=None, reason=f"{text} holds no rejected row")

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
        return pa.schema([(name, settled(kind)) for name, kind in kinds.items()])

    def _strict_kind(self, name: str) -> pa.DataType:
        """JSON stands for what has to be looked at once more."""
        nested = not self._look.columns[name].values.isdisjoint({list, dict})
        kind = self._kinds[name]
        return pa.string() if kind == JSON and not nested else kind

    # --- exactly -----------------------------------------------------------------------------------------

    def _exact(self, block: Block, row: int, columns: Sequence[str]) -> Piece:
        kinds = {name: self._kinds.get(name, pa.string()) for name in columns}
        if not self.holds_rejects and JSON not in kinds.values():
            rows = read_exactly(block, pa.schema(list(kinds.items())), others="ignore")
            if rows is not None:
                return replace(sound(row, rows), originals=block.originals())
        return self._line_by_line(block, row, lambda line: self._picked(line, columns), kinds, as_column)

    def _picked(self, line: Line, columns: Sequence[str]) -> list[object]:
        """The line's values of these columns; MisfitError where one can't be used."""
        values = picked(line, columns)
        if not self.text:
            return values
        return [fitted_in(name, value, pa.string()) for name, value in zip(columns, values, strict=True)]

    # --- strictly ----------------------------------------------------------------------------------------

    def _strict(self, block: Block, row: int, columns: Sequence[str]) -> Piece:
        rows = None if self.holds_rejects else read_exactly(block, self._schema, others="error")
        if rows is not None:
            return replace(sound(row, rows.select(list(columns))), originals=block.originals())
        kinds = {name: self._schema.field(name).type for name in columns}
        return self._line_by_line(block, row, lambda line: self._fitting(line, columns), kinds, pa.array)

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
        block: Block,
        row: int,
        values_of: Callable[[Line], list[object]],
        kinds: dict[str, pa.DataType],
        column_of: Callable[[list[Any], pa.DataType], pa.Array],
    ) -> Piece:
        rejects: list[Reject] = []
        good: list[list[object]] = []
        texts: list[bytes] = []
        runs: list[int] = []
        for number, (text, line) in enumerate(self._lines(block), start=row):
            reason = line.reason
            try:
                values = None if line.row is None else values_of(line)
            except MisfitError as misfit:
                values, reason = None, str(misfit)
            if values is None:
                rejects.append(self._reject(number, text, reason))
                continue
            good.append(values)
            texts.append(line.text)
            runs.append(_run(text) if self.holds_rejects else -1)
        arrays = [
            column_of([values[place] for values in good], kind) for place, kind in enumerate(kinds.values())
        ]
        rows = (
            pa.RecordBatch.from_arrays(arrays, names=list(kinds)) if arrays else _without_columns(len(good))
        )
        piece = replace(mingled(row, rows, rejects), originals=pa.array(texts, pa.binary()))
        return replace(piece, runs=np.array(runs, dtype=np.int64)) if self.holds_rejects else piece

    def _reject(self, row: int, line: bytes, reason: str) -> Reject:
        values = json_text({"line": line.decode(errors="backslashreplace")})
        return Reject(self._given.name, row, "bad_line", reason, values)


def _run(line: bytes) -> int:
    """The number of the run that rejected the row of this line; -1 where it isn't told."""
    run = (read_line(line).row or {}).get("run")
    return run if isinstance(run, int) and 0 <= run < 1 << 32 else -1


def _without_columns(count: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(count)], names=["x"]).select([])
