"""NDJSON: every line that isn't blank is a row or a reject; reject files hand out the rows in them.

The columns and their types are those of the first 64 MiB, so that a block's rows come out the same whatever
stands in the blocks around it. pyarrow reads the blocks that it can read; the others are read line by line.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
from pyarrow import json

from etl.errors import SourceError
from etl.model import Format, Reject
from etl.reader.decoding import BLOCK, text_chunks
from etl.reader.formats import format_named
from etl.reader.json_values import (
    MisfitError,
    common_type,
    fitted,
    json_text,
    merged,
    settled,
    taken_literally,
)
from etl.reader.pieces import Piece, mingled, shown, sound
from etl.reader.places import HEAD
from etl.reader.window import Window

if TYPE_CHECKING:
    from etl.reader.formats import Input

LOOK: Final = 1 << 26
_REJECT_KEYS: Final = {"source", "row", "code", "reason", "values"}
_NO_JSON: Final = re.compile(rb"[:\[,]\s*-?(?:NaN|Inf)")
Row = dict[str, Any]


class _Block(NamedTuple):
    """Whole lines. `lines` counts those that aren't blank; `neat` says that each begins with a brace."""

    data: bytes
    lines: int
    neat: bool


class NdjsonFile:
    """One NDJSON file. `text` is true for a reject file of CSV rows: its values are CSV's text."""

    format: Format = "ndjson"

    def __init__(self, given: Input, block: int = BLOCK, look: int = LOOK) -> None:
        self._given = given
        self._block = block
        self._look = look if given.place.repeatable else HEAD // 2
        first = self._first_object()
        self.holds_rejects = first.keys() - {"run"} == _REJECT_KEYS
        self.text = self.holds_rejects and format_named(str(first["source"])) == "csv"

    @cached_property
    def _schema(self) -> pa.Schema:
        kinds: dict[str, pa.DataType] = {}
        seen = 0
        for block in self._blocks():
            for name, kind in self._kinds(block).items():
                kinds[name] = merged(kinds.get(name, pa.null()), kind)
            seen += len(block.data)
            if seen >= self._look:
                break
        return pa.schema(
            [(name, pa.string() if self.text else settled(kind)) for name, kind in kinds.items()]
        )

    def schema(self) -> pa.Schema:
        """The columns in order of first appearance; a column whose values differ in type is string."""
        return self._schema

    def total_rows(self) -> int | None:
        """None: only reading tells."""
        return None

    def pieces(self, first: int, stop: int | None, columns: Sequence[str]) -> Iterator[Piece]:
        """All lines before `stop`; those before `first` are only counted."""
        row = 1
        for block in self._blocks():
            if row + block.lines > first:
                yield self._piece(block, row, columns)
            row += block.lines
            if stop is not None and row >= stop:
                return

    def _blocks(self) -> Generator[_Block, None, None]:
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
                    block = _block(window.data[:end])
                    window.take(end)
                    yield block
                    row += block.lines
                if window.final:
                    return

    def _first_object(self) -> Row:
        for block in self._blocks():
            for line in _lines(block):
                return _object(line) or {}
        return {}

    def _kinds(self, block: _Block) -> dict[str, pa.DataType]:
        """What types the values of a block have, by column."""
        table = None if self.holds_rejects else _quickly(block, None)
        if table is not None:
            return {field.name: taken_literally(field.type) for field in table.schema}
        values: dict[str, list[object]] = {}
        for line in _lines(block):
            for name, value in (self._row(line) or {}).items():
                values.setdefault(name, []).append(value)
        return {name: common_type(found) for name, found in values.items()}

    def _piece(self, block: _Block, row: int, columns: Sequence[str]) -> Piece:
        rows = None if self.holds_rejects else _quickly(block, self._schema)
        if rows is not None:
            return sound(row, rows.select(list(columns)))
        return self._line_by_line(block, row, columns)

    def _line_by_line(self, block: _Block, row: int, columns: Sequence[str]) -> Piece:
        rejects: list[Reject] = []
        values: dict[str, list[object]] = {name: [] for name in columns}
        runs: list[int] = []
        for number, line in enumerate(_lines(block), start=row):
            try:
                fitting = self._fitting(line, columns)
            except MisfitError as misfit:
                rejects.append(self._reject(number, line, str(misfit)))
                continue
            runs.append(_run(line) if self.holds_rejects else -1)
            for name, value in fitting.items():
                values[name].append(value)
        schema = pa.schema([self._schema.field(name) for name in columns])
        arrays = [pa.array(found, self._schema.field(name).type) for name, found in values.items()]
        rows = pa.RecordBatch.from_arrays(arrays, schema=schema) if arrays else _without_columns(len(runs))
        piece = mingled(row, rows, rejects)
        return replace(piece, runs=np.array(runs, dtype=np.int64)) if self.holds_rejects else piece

    def _fitting(self, line: bytes, columns: Sequence[str]) -> Row:
        """The line's values of these columns; MisfitError if any value of the line doesn't fit its column."""
        row = self._row(line)
        if row is None:
            lack = "holds no rejected row" if self.holds_rejects else "is not a JSON object"
            raise MisfitError(f"{shown(line.decode(errors='backslashreplace'))} {lack}")
        found: Row = {}
        for field in self._schema:
            try:
                found[field.name] = fitted(row.get(field.name), field.type)
            except MisfitError as misfit:
                raise MisfitError(f"column {field.name}: {misfit}") from None
        return {name: found[name] for name in columns}

    def _row(self, line: bytes) -> Row | None:
        found = _object(line)
        if found is None or not self.holds_rejects:
            return found
        values = found.get("values")
        return values if isinstance(values, dict) else None

    def _reject(self, row: int, line: bytes, reason: str) -> Reject:
        values = json_text({"line": line.decode(errors="backslashreplace")})
        return Reject(self._given.name, row, "bad_line", reason, values)


def _block(data: bytes) -> _Block:
    codes = np.frombuffer(data, dtype=np.uint8)
    starts = np.concatenate(([0], np.flatnonzero(codes == ord("\n")) + 1))
    starts = starts[starts < len(codes)]
    neat = bool((codes[starts] == ord("{")).all())
    return _Block(data, len(starts) if neat else sum(1 for line in data.split(b"\n") if line.strip()), neat)


def _lines(block: _Block) -> Iterator[bytes]:
    return (line for line in block.data.split(b"\n") if line.strip())


def _object(line: bytes) -> Row | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _run(line: bytes) -> int:
    """The number of the run that rejected the row of this line; -1 where it isn't told."""
    run = (_object(line) or {}).get("run")
    return run if isinstance(run, int) and 0 <= run < 1 << 32 else -1


def _quickly(block: _Block, schema: pa.Schema | None) -> pa.RecordBatch | None:
    """The block as pyarrow reads it, or None where it can't, or where it is less strict than JSON.

    pyarrow takes NaN for a number, and doesn't mind two objects on a line or one on two.
    """
    if not block.neat or not block.lines or _holds_no_json(block.data):
        return None
    # With "error", a key that no row so far had is noticed, also inside objects.
    surprise = "infer" if schema is None else "error"
    try:
        table = json.read_json(
            pa.BufferReader(block.data),
            read_options=json.ReadOptions(use_threads=False, block_size=len(block.data) + 1),
            parse_options=json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=surprise),
        )
        table.validate(full=True)
        table.schema.names  # noqa: B018, decoded here, and perhaps no text
    except (pa.ArrowException, UnicodeError):
        return None
    batches = table.combine_chunks().to_batches()
    return batches[0] if len(batches) == 1 and table.num_rows == block.lines else None


def _holds_no_json(data: bytes) -> bool:
    return (b"NaN" in data or b"Inf" in data) and _NO_JSON.search(data) is not None


def _without_columns(count: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(count)], names=["x"]).select([])
