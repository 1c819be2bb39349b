"""Rows in the lines of a reject file, read as the source was read that they come from.

A reject's `origin` says what that was. Typed values come out of it as long as the line shows them as they
were; a value that was edited is one of the column's type where it can be, and else what it is in JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Final

import numpy as np
import pyarrow as pa

from etl.arrow.exact_json import dump
from etl.arrow.originals import CSV_ORIGIN, arrow_row, schema_text
from etl.reader.ndjson_lines import Line, Row, read_line
from etl.reader.ndjson_look import Look
from etl.reader.pieces import shown
from etl.values import original_values, told_origin, with_origin

TextAndLine = tuple[bytes, Line]

_KEYS: Final = frozenset({"source", "row", "code", "reason", "values"})
_OTHER_KEYS: Final = frozenset({"run", "origin"})


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive lines whose rows are read alike; `text` as CSV's text.

    `typed` has the columns whose values are known exactly, a value for each line; None: no value is typed.
    """

    lines: list[TextAndLine]
    text: bool = False
    typed: Mapping[str, pa.Array] | None = None

    @property
    def look(self) -> Look:
        """Of what kinds the values in the lines are."""
        found = Look()
        for _, line in self.lines:
            if line.row is not None:
                found.add(line.row, long=True)
        return found


def is_reject(row: Row) -> bool:
    """Whether an object is a line of a reject file."""
    return row.keys() - _OTHER_KEYS == _KEYS


def origin_of(reject: Row) -> str:
    """What the values of a reject were read from; where it isn't said, its source's name says it."""
    origin = reject.get("origin")
    return origin if isinstance(origin, str) and origin else told_origin(str(reject.get("source")))


def rejected_row(line: Line) -> Line:
    """The row in a line of a reject file, as that had been turned away."""
    reject = line.row or {}
    values = reject.get("values")
    if isinstance(values, dict):
        origin = origin_of(reject)
        text = with_origin(dump(values).encode("utf-8", "surrogateescape"), origin)
        return Line(text, values, plain=line.plain, origin=origin)
    text_shown = shown(line.text.decode(errors="backslashreplace"))
    return line._replace(row=None, reason=f"{text_shown} holds no rejected row")


def run_of(line: bytes) -> int:
    """The number of the run that rejected the row of this line; -1 where it isn't told."""
    run = (read_line(line).row or {}).get("run")
    return run if isinstance(run, int) and 0 <= run < 1 << 32 else -1


def runs_of(lines: Iterable[TextAndLine], columns: Sequence[str]) -> Iterator[Run]:
    """The lines of a block in runs, in their order; of typed values those of these columns."""
    for kind, group in groupby(lines, lambda pair: _kind(pair[1])):
        if kind in {CSV_ORIGIN, ""}:
            yield Run(list(group), text=kind == CSV_ORIGIN)
        else:
            yield from _typed_runs(list(group), columns)


def _kind(line: Line) -> str:
    """What lines of a run have in common; bad lines have no origin."""
    return line.origin if line.origin == CSV_ORIGIN else schema_text(line.origin)


def _typed_runs(lines: list[TextAndLine], columns: Sequence[str]) -> Iterator[Run]:
    for good, group in groupby(map(_decoded, lines), lambda found: found[1] is not None):
        found = list(group)
        pairs = [pair for pair, _ in found]
        if not good:
            yield Run(pairs)
            continue
        rows = pa.Table.from_batches([row for _, row in found]).combine_chunks().to_batches()[0]
        yield from _split(pairs, _typed(pairs, rows, columns))


def _decoded(pair: TextAndLine) -> tuple[TextAndLine, pa.RecordBatch | None]:
    text, line = pair
    try:
        return pair, arrow_row(line.origin)
    except ValueError as error:
        reason = f"its origin can't be used: {error}; take it out of the line to read its values as JSON"
        return (text, line._replace(row=None, reason=reason)), None


@dataclass(frozen=True, slots=True)
class _Column:
    """`values` are those of all rows; where `untyped` says so, a value isn't of the column's type."""

    values: pa.Array
    untyped: np.ndarray


def _typed(pairs: list[TextAndLine], rows: pa.RecordBatch, columns: Sequence[str]) -> dict[str, _Column]:
    texts = original_values(rows, range(rows.num_rows))
    were = [read_line(text.encode()).row or {} for text in texts]
    now = [line.row or {} for _, line in pairs]
    return {
        name: _column(rows.column(name), [was.get(name) for was in were], [row.get(name) for row in now])
        for name in columns
        if name in rows.schema.names
    }


def _column(values: pa.Array, were: list[object], now: list[object]) -> _Column:
    places, edited = np.arange(len(values)), list[pa.Array]()
    untyped = np.zeros(len(values), dtype=np.bool_)
    for place, (was, value) in enumerate(zip(were, now, strict=True)):
        if was == value:
            continue
        one = _of_type(value, values.type)
        if one is None:
            untyped[place] = True
        else:
            places[place] = len(values) + len(edited)
            edited.append(one)
    if edited:
        values = pa.concat_arrays([values, *edited]).take(pa.array(places))
    return _Column(values, untyped)


def _of_type(value: object, kind: pa.DataType) -> pa.Array | None:
    """An edited value as one of the column's type; None where it is none."""
    try:
        if value is None:
            return pa.nulls(1, kind)
        if isinstance(value, str) and pa.types.is_temporal(kind):
            return pa.array([value]).cast(kind)
        if pa.types.is_decimal(kind) and isinstance(value, int | float) and not isinstance(value, bool):
            return pa.array([Decimal(str(value))], kind)
        if isinstance(value, int) and not isinstance(value, bool) and pa.types.is_integer(kind):
            return pa.array([value], kind)
        if isinstance(value, float) and pa.types.is_floating(kind):
            return pa.array([value], kind)
    except (pa.ArrowException, ArithmeticError, ValueError, TypeError):
        return None
    return None


def _split(pairs: list[TextAndLine], columns: Mapping[str, _Column]) -> Iterator[Run]:
    """Rows in which the same columns are typed."""
    marks = [column.untyped for column in columns.values()]
    shapes = list(zip(*(mark.tolist() for mark in marks), strict=True)) if marks else [()] * len(pairs)
    first = 0
    for shape, group in groupby(shapes):
        count = len(list(group))
        typed = {
            name: column.values.slice(first, count)
            for (name, column), untyped in zip(columns.items(), shape, strict=True)
            if not untyped
        }
        yield Run(pairs[first : first + count], typed=typed)
        first += count
