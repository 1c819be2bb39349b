"""What every reader of a format can do, which rows it is asked for, and the batches that it yields.

The batches tile a file: every row is in exactly one batch, good or rejected, and splitting keeps it so.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from ..arrow.originals import take_rows
from ..arrow.plain_arrays import plain_array
from ..errors import SourceError
from ..job.sections import CsvOptions, ExcelOptions
from ..model import Batch, Reject
from ..run_events import Warned
from .files import UnpackedFile, ends_digest

EXCERPT: Final = 60
# Of a batch's values: 16,384 rows of 1 kB. Wider rows come in batches of fewer.
BATCH_BYTES: Final = 1 << 24
_BYTES: Final = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}

RowSpan = tuple[int, int | None]  # the first row, and the one after the last; None: to the file's end


class RowSpans:
    """Ascending spans of wanted rows that don't overlap; only the last one may be open."""

    def __init__(self, spans: Sequence[RowSpan]) -> None:
        self._spans = [span for span in spans if span[1] is None or span[0] < span[1]]
        self._firsts = [first for first, _ in self._spans]

    def __iter__(self) -> Iterator[RowSpan]:
        return iter(self._spans)

    def next(self, row: int) -> int | None:
        """Return the first wanted row from `row` on; None if there is none."""
        return next((max(row, first) for first, _ in self.within(row, None)), None)

    def within(self, first: int, stop: int | None) -> Iterator[RowSpan]:
        """Yield the parts of spans that lie in rows `first` to `stop - 1`."""
        for low, high in self._spans[max(0, bisect_right(self._firsts, first) - 1) :]:
            if stop is not None and low >= stop:
                return
            if high is None or high > first:
                ends = [end for end in (high, stop) if end is not None]
                yield max(low, first), min(ends) if ends else None


def merge_spans(spans: Sequence[RowSpan]) -> list[RowSpan]:
    """Merge ascending spans that overlap."""
    found = list[RowSpan]()
    for first, stop in spans:
        if found and (found[-1][1] is None or first < found[-1][1]):
            before, end = found[-1]
            found[-1] = before, None if end is None or stop is None else max(end, stop)
        else:
            found.append((first, stop))
    return found


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How files are read: `batch_rows` is the most rows of a batch."""

    csv: CsvOptions = CsvOptions()
    excel: ExcelOptions = ExcelOptions()
    batch_rows: int = 16384


class FileReader:
    """Reads one file of a format. A new format is a subclass, and an entry in `etl.reader.formats.READERS`.

    `format` is the key of that entry, and `endings` are the ends of names of its files. `text`: the values
    are untyped text in which an empty field means null. `open_columns`: each row has columns of its own.
    `holds_rejects`: it is a reject file. `repeated` are names of several columns, with the places (from 1) of
    these columns. `repeatable` is false for a stream in memory. `warnings` say what isn't read of a file.
    `read_so_far` are rows, and the bytes of the file that they take, as far as it was read.
    """

    format: ClassVar[str]
    endings: ClassVar[Sequence[str]] = ()
    open_columns: ClassVar[bool] = False
    repeatable: bool = True
    text: bool = False
    holds_rejects: bool = False
    repeated: Mapping[str, list[int]] = {}
    warnings: Sequence[Warned] = ()
    read_so_far: tuple[int, int] = (0, 0)

    def __init__(self, given: UnpackedFile, options: ReadOptions) -> None:
        self.given = given
        self.name = given.name
        self.options = options

    @classmethod
    def claims(cls, head: bytes) -> bool:
        """Whether a file that begins so (4 KiB, uncompressed) is of this format, whatever its name."""
        return False

    @classmethod
    def may_read(cls, head: bytes) -> bool:
        """Whether a file with one of the endings may be of this format if it begins so."""
        return True

    def schema(self) -> pa.Schema:
        """Return the columns that `batches` may be asked for."""
        raise NotImplementedError

    def batches(self, spans: RowSpans, columns: Sequence[str]) -> Iterator[Batch]:
        """Yield ascending batches with at least the wanted rows, of these columns in this order.

        The file is read once for all spans. `source` and `file` of the batches don't matter.
        """
        raise NotImplementedError

    def exact_batches(self, spans: RowSpans, columns: Sequence[str]) -> Iterator[Batch]:
        """As `batches`; with `open_columns` columns may have any names, and no value depends on others."""
        return self.batches(spans, columns)

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

    def remark(self) -> str | None:
        """Return what is odd about the header; it is shown if a column isn't in it."""
        return None

    def data_in_header(self, names: Collection[str]) -> str | None:
        """Return why one of these columns' names, as the header has them, may be a value of a first row."""
        return None

    def note_read(self, rows: int, share: float, position: Sequence[int]) -> None:
        """Note that the first `rows` rows are this share of the bytes up to `position`."""
        self.read_so_far = max(self.read_so_far, (rows, round(share * position[0])))

    def sample(self) -> str:
        """Return a hex digest over a part of the content."""
        return ends_digest(self.given.file)

    def batch(self, first: int, rows: pa.RecordBatch, rejects: Sequence[Reject] = ()) -> Batch:
        """Make a batch that begins with row `first`; the rejects stood between the good rows."""
        return replace(batch_of(self.name, first, rows, rejects), text=self.text)


def batch_of(name: str, first: int, rows: pa.RecordBatch, rejects: Sequence[Reject] = ()) -> Batch:
    """Make a batch that begins with row `first`; the rejects stood between the good rows."""
    stop = first + rows.num_rows + len(rejects)
    numbers = np.arange(first, stop, dtype=np.int64)
    if rejects:
        good = np.ones(stop - first, dtype=np.bool_)
        good[[reject.row - first for reject in rejects]] = False
        numbers = numbers[good]
    return Batch(name, 0, first, stop, numbers, rows, tuple(rejects))


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
        step = min(limit, rows_within(BATCH_BYTES, batch.rows.nbytes, batch.stop - batch.first))
        for low, high in spans.within(batch.first, batch.stop):
            end = batch.stop if high is None else high
            for start in range(low, end, step):
                yield batch.between(start, min(start + step, end))
        if spans.next(batch.stop) is None:
            return


def rows_within(most: int, size: int, rows: int) -> int:
    """Return about how many of `rows` rows with `size` bytes together have `most` bytes; at least one."""
    return max(1, rows * most // max(size, 1))


def excerpt(value: str) -> str:
    """Quote the value, at most 60 characters of it, for a reject's reason."""
    short = value if len(value) <= EXCERPT else value[: EXCERPT - 1] + "…"
    return f'"{short}"'


# --- batches of Arrow data from outside ------------------------------------------------------------------


def table_batches(
    name: str, table: pa.Table, spans: RowSpans, columns: Sequence[str], batch_rows: int
) -> Iterator[Batch]:
    """Yield the wanted rows of a table, in batches of at most so many rows."""
    table = table.select(list(columns))
    for first, stop in spans:
        rows = table.slice(first - 1, None if stop is None else max(0, stop - first))
        yield from plain_batches(name, first, rows.to_batches(max_chunksize=batch_rows))


def plain_batches(name: str, first: int, batches: Iterable[pa.RecordBatch]) -> Iterator[Batch]:
    """Make consecutive batches plain; the first one begins with row `first` of the file called `name`.

    A row with bytes that are no text becomes a reject. SourceError for data that is damaged in another way,
    and for a column of a type that can't be read.
    """
    for given in batches:
        bad = _unreadable(name, first, given)
        columns = []
        for column, values in zip(given.schema.names, given.columns, strict=True):
            try:
                columns.append(plain_array(values))
            except (pa.ArrowException, ArithmeticError, LookupError, TypeError, ValueError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
                message = (
                    f"{name}: column {column} is of the type {values.type}, which can't be read: {reason}"
                )
                hint = "cast the column to a plain type such as string, or leave it out"
                raise SourceError(message, hint=hint) from error
        rows = pa.RecordBatch.from_arrays(columns, names=given.schema.names) if columns else given
        batch = batch_of(name, first, rows)
        yield reject_rows(batch, [_reject(name, first + at, rows.slice(at, 1)) for at in bad])
        first = batch.stop


def _unreadable(name: str, first: int, rows: pa.RecordBatch, start: int = 0) -> list[int]:
    """Positions of the rows with bad text, found by halving, so that good batches are validated once."""
    try:
        rows.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error).upper().replace("-", ""):
            place = f"rows {first} to {first + rows.num_rows - 1}"
            raise SourceError(f"{name}: {place} are damaged", hint="copy or export it again") from error
        if rows.num_rows == 1:
            return [start]
        half = rows.num_rows // 2
        low = _unreadable(name, first, rows.slice(0, half), start)
        return low + _unreadable(name, first + half, rows.slice(half), start + half)
    return []


def _reject(name: str, row: int, one: pa.RecordBatch) -> Reject:
    """A row with bad text; bad bytes are shown as digits, and text inside lists and structs as null."""
    values, bad = dict[str, Any](), ""
    for column_name, column in zip(one.schema.names, one.columns, strict=True):
        try:
            column.validate(full=True)
            values[column_name] = column[0].as_py()
        except pa.ArrowInvalid:
            text = column.view(_BYTES[column.type])[0].as_py() if column.type in _BYTES else None
            values[column_name] = None if text is None else text.decode(errors="backslashreplace")
            bad = bad or column_name
    reason = f"column {bad}: {excerpt(str(values.get(bad)))} is not UTF-8 text"
    written = orjson.dumps(values, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return Reject(name, row, "bad_encoding", reason, written)
