"""The base class of all readers of a format, the spans of rows they are asked for, and their batches.

The batches tile a file: every row is in exactly one batch, good or rejected, and splitting keeps it so.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..arrow.json_text import json_column
from ..arrow.layout import plain_array, plain_schema
from ..arrow.originals import (
    origin_by_name,
    original_rows,
    plain_text,
    python_value,
    take_rows,
    take_values,
    to_json,
)
from ..errors import SourceError
from ..job.sections import CsvOptions, ExcelOptions
from ..model import Batch, Reject
from ..run_events import Warned
from .files import HEAD, InputFile, ends_digest, first_line, source_errors

# Of a batch's values: 16,384 rows of 1 kB. Wider rows come in batches of fewer.
BATCH_BYTES: Final = 1 << 24

OPEN: Final = 1 << 62  # the stop of what goes to the file's end; no file has so many rows


class RowSpans:
    """Spans of wanted rows, rows `first` to `stop - 1` each, given in ascending order.

    Those that overlap are one. A stop that is None becomes OPEN.
    """

    def __init__(self, spans: Iterable[tuple[int, int | None]]) -> None:
        found = self._spans = list[tuple[int, int]]()
        for first, stop in ((first, OPEN if stop is None else stop) for first, stop in spans):
            if found and first < found[-1][1]:
                found[-1] = found[-1][0], max(found[-1][1], stop)
            elif first < stop:
                found.append((first, stop))

    def next(self, row: int) -> int | None:
        """Return the first wanted row from `row` on; None if there is none."""
        return next((first for first, _ in self.within(row, OPEN)), None)

    def within(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of spans that lie in rows `first` to `stop - 1`."""
        for low, high in self._spans[max(0, bisect_right(self._spans, (first, OPEN)) - 1) :]:
            if low >= stop:
                return
            if high > first:
                yield max(low, first), min(high, stop)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How files are read: `batch_rows` is the most rows of a batch."""

    csv: CsvOptions = CsvOptions()
    excel: ExcelOptions = ExcelOptions()
    batch_rows: int = 16384


class FileReader:
    """Reads one file of a format. A new format is a subclass, and an entry in `etl.reader.discovery.READERS`.

    `format` is the key of that entry, and `endings` are the ends of names of its files. Uncompressed, a file
    that begins as `claims` is of the format, whatever its name; one with its ending must begin as `may_be`.
    `text`: the values are untyped text in which an empty field means null. `open_columns`: each row has
    columns of its own. `gives_json`: a column may come as JSON. `holds_rejects`: it is a reject file.
    `repeated` are names of several columns, with the places (from 1) of these columns. `warnings` say what
    isn't read of a file. `nbytes` is the size of what is in memory. `read_so_far` are rows, and the bytes of
    the file that they take, as far as they were read.
    """

    format: ClassVar[str]
    endings: ClassVar[Sequence[str]] = ()
    claims: ClassVar[re.Pattern[bytes]] = re.compile(rb"(?!)")
    may_be: ClassVar[re.Pattern[bytes]] = re.compile(rb"")
    open_columns: ClassVar[bool] = False
    gives_json: ClassVar[bool] = False
    text: bool = False
    holds_rejects: bool = False
    repeated: Mapping[str, list[int]] = {}
    warnings: Sequence[Warned] = ()
    read_so_far: tuple[int, int] = (0, 0)
    nbytes: int | None = None

    def __init__(self, input_file: InputFile, options: ReadOptions) -> None:
        self.input_file = input_file
        self.name = input_file.name
        self.options = options

    def schema(self) -> pa.Schema:
        """Return the columns that `batches` may be asked for."""
        raise NotImplementedError

    def batches(self, spans: RowSpans, columns: Sequence[str], *, exact: bool = False) -> Iterator[Batch]:
        """Yield ascending batches with at least the wanted rows, of these columns in this order.

        The file is read once for all spans. `source` and `file` of the batches don't matter. `exact`, which
        only matters with `open_columns`: columns may have any names, and no value depends on others.
        """
        raise NotImplementedError

    def coded(self) -> FileReader:
        """A reader of the same file that gives columns of few texts as dictionaries, if it can."""
        return self

    def names(self) -> list[str]:
        """Return the columns, as far as they are known without reading everything."""
        return list(self.schema().names)

    def lacks(self, names: Sequence[str]) -> list[str]:
        """Return those of `names`, which aren't in `names()`, that no row has, as far as it is known."""
        return list(names)

    def total_rows(self) -> int | None:
        """Return the number of rows if it is known without reading them."""
        return None

    def remark(self, names: Collection[str] = ()) -> str | None:
        """Return what is odd about the header, which is shown if a column isn't in it.

        With names of columns that are in it: why one of these may be a value of a first row.
        """
        return None

    def note_read(self, rows: int, stored: float) -> None:
        """Note that the first `rows` rows take so many bytes as they are stored."""
        self.read_so_far = max(self.read_so_far, (rows, round(stored)))

    def sample(self) -> str:
        """Return a hex digest over a part of the content."""
        return ends_digest(self.input_file)

    def content(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes that are all of the content; not for what can be read only once."""
        with source_errors(self.name), closing(self.input_file.open()) as stream:
            yield from iter(lambda: stream.read(HEAD), b"")

    def batch(self, first: int, rows: pa.RecordBatch, rejects: Sequence[Reject] = ()) -> Batch:
        """Make a batch that begins with row `first`; the rejects stood between the good rows."""
        stop = first + rows.num_rows + len(rejects)
        numbers = np.arange(first, stop, dtype=np.int64)
        if rejects:
            numbers = np.delete(numbers, [reject.row - first for reject in rejects])
        return Batch(self.name, 0, first, stop, numbers, rows, tuple(rejects), text=self.text)

    def plain_batches(self, first: int, batches: Iterable[pa.RecordBatch]) -> Iterator[Batch]:
        """Make consecutive batches of Arrow data from outside plain; the first one begins with row `first`.

        A row with bytes that are not text becomes a reject. SourceError for data that is damaged in another
        way, and for a column of a type that can't be read.
        """
        for given in batches:
            has_bad = _has_bad_text(self.name, first, given)
            columns = []
            for column, values in zip(given.schema.names, given.columns, strict=True):
                try:
                    columns.append(plain_array(values))
                except (pa.ArrowException, ArithmeticError, LookupError, TypeError, ValueError) as error:
                    what = f"column {column} is of the type {values.type}, which can't be read"
                    hint = "cast the column to a plain type such as string, or leave it out"
                    raise SourceError(f"{self.name}: {what}: {first_line(error)}", hint=hint) from error
            rows = pa.RecordBatch.from_arrays(columns, names=given.schema.names) if columns else given
            batch = self.batch(first, rows)
            yield reject_rows(batch, _rejects(self.name, first, rows) if has_bad else [])
            first = batch.stop


class TableReader(FileReader):
    """Reads a table that is in memory, which a subclass gives it."""

    table: pa.Table

    def schema(self) -> pa.Schema:
        """Return the table's columns as they will be read."""
        return plain_schema(self.table.schema)

    def total_rows(self) -> int | None:
        """Return the number of rows."""
        return int(self.table.num_rows)

    def batches(self, spans: RowSpans, columns: Sequence[str], *, exact: bool = False) -> Iterator[Batch]:
        """Yield the wanted rows."""
        table = self.table.select(list(columns))
        for first, stop in spans.within(1, table.num_rows + 1):
            rows = table.slice(first - 1, stop - first)
            yield from self.plain_batches(first, rows.to_batches(max_chunksize=self.options.batch_rows))


def reject_rows(batch: Batch, rejects: Sequence[Reject]) -> Batch:
    """Turn some of a batch's good rows into rejects (given in ascending order)."""
    if not rejects:
        return batch
    keep = ~np.isin(batch.numbers, np.array([reject.row for reject in rejects], dtype=np.int64))
    rejects = sorted((*batch.rejects, *rejects), key=lambda reject: reject.row)
    return replace(some_rows(batch, np.flatnonzero(keep)), rejects=tuple(rejects))


def some_rows(batch: Batch, places: NDArray[np.int64]) -> Batch:
    """Return a batch of the same range and rejects, but only with the good rows at these ascending places."""
    originals = batch.originals
    return replace(
        batch,
        numbers=batch.numbers[places],
        rows=take_rows(batch.rows, places),
        runs=None if batch.runs is None else batch.runs[places],
        originals=None if originals is None else originals.take(pa.array(places)),
    )


def split_batches(batches: Iterable[Batch], spans: RowSpans, limit: int) -> Iterator[Batch]:
    """Yield the wanted rows of ascending batches, in batches of one span and at most `limit` rows.

    A batch of wide rows has fewer rows, about as many as `BATCH_BYTES` hold.
    """
    for batch in batches:
        step = min(limit, rows_of_batch(batch.rows.nbytes, batch.stop - batch.first))
        for low, high in spans.within(batch.first, batch.stop):
            for start in range(low, high, step):
                yield batch.between(start, min(start + step, high))
        if spans.next(batch.stop) is None:
            return


def rows_of_batch(size: int, rows: int) -> int:
    """Return about how many of `rows` rows with `size` bytes together have BATCH_BYTES; at least one."""
    return max(1, rows * BATCH_BYTES // max(size, 1))


def reject_of(
    source: str, row: int, code: str, reason: str, values: str, origin: str, swallowed: int = 0
) -> Reject:
    """Make a reject of a JSON object of values, read from `origin`; it has none that the name implies."""
    origin = "" if origin_by_name(source) == origin else origin
    return Reject(source, row, code, reason, values, swallowed, origin=origin)


def excerpt(value: str) -> str:
    """Quote the value, at most 60 characters of it, for a reject's reason."""
    short = value if len(value) <= 60 else value[:59] + "…"
    return f'"{short}"'


def _has_bad_text(name: str, first: int, values: pa.RecordBatch | pa.Array) -> bool:
    """Whether there is text that isn't UTF-8. SourceError for data that is damaged in another way."""
    try:
        values.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error).upper().replace("-", ""):
            return True
        place = f"rows {first} to {first + len(values) - 1}"
        raise SourceError(f"{name}: {place} are damaged", hint="copy or export it again") from error
    return False


def _rejects(name: str, first: int, rows: pa.RecordBatch) -> list[Reject]:
    """The rows that have bad text, whose bytes are shown as digits.

    There may be none: a dictionary may have texts that are in no row.
    """
    bad = dict[int, tuple[int, ...]]()  # columns, by row
    for place, column in enumerate(rows.columns):
        for row in _bad_texts(name, first, column):
            bad[row] = (*bad.get(row, ()), place)
    alike = defaultdict[tuple[int, ...], list[int]](list)
    for row, places in bad.items():
        alike[places].append(row)
    found = list[Reject]()
    for places, numbers in alike.items():
        some = take_rows(rows, [row - first for row in numbers])
        named, values = some.schema.names[places[0]], list(map(python_value, some.column(places[0])))
        for place in places:  # JSON, as a reject's origin can't have bad text
            texts = list(map(to_json, map(python_value, some.column(place))))
            some = some.set_column(place, some.schema.names[place], json_column(texts))
        shown = original_rows(some, range(len(numbers)), source=name)
        for row, value, one in zip(numbers, values, shown, strict=True):
            reason = f"column {named}: {excerpt(plain_text(value))} is not UTF-8 text"
            found.append(Reject(name, row, "bad_encoding", reason, one.values, origin=one.origin))
    return sorted(found, key=lambda reject: reject.row)


def _bad_texts(name: str, first: int, values: pa.Array) -> list[int]:
    """Numbers of the rows with bad text, found by halving, so that good values are validated once."""
    if pa.types.is_nested(values.type):  # with a slice of lists the texts of all lists would be validated
        values = take_values(values, range(len(values)))
    if not _has_bad_text(name, first, values):
        return []
    half = len(values) // 2
    if not half:
        return [first]
    return _bad_texts(name, first, values[:half]) + _bad_texts(name, first + half, values[half:])
