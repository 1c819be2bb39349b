"""The terms of the project as frozen types: batches, chunks, rejects, and what is sent and committed.

Row numbers count from 1, the first row after a header. A range is half open: `first` is part of it and
`stop` isn't. Counts of rows and the types of ranges are in `tally`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from .tally import RowRange, Tally

    # Fingerprints of rows: one column for each property (32 bit), or one for all of a row (64 bit).
    Fingerprints: TypeAlias = NDArray[np.unsignedinteger[Any]]

# The first columns of a list of rejects for a spreadsheet; behind them come those of the export.
LISTED: Final = ("source", "row", "code", "reason", "faults")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source, as it was when the source was opened.

    `name` is what places and rejects show; `format` is a key of `etl.reader.discovery.READERS`, or "arrow"
    for what is in memory; `sample` is a hex digest over the Parquet footer, or over the first and last range
    of any other file, so that a changed file is noticed. `size` is in bytes and `modified` in nanoseconds
    since the epoch; both are None where there is no such thing (stdin, a table).
    """

    name: str
    format: str
    size: int | None
    modified: int | None
    sample: str


@dataclass(frozen=True, slots=True)
class RowFault:
    """One thing that is wrong with a row, in the source column `column` ("": in none alone).

    `value` is quoted as in `reason`, or "" where there is none.
    """

    column: str
    code: str
    reason: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that can't be sent. `values` is the JSON text of an object: the row as it stood in the source.

    `swallowed` lines after it would have been part of it, if its quotes were taken literally. They are read
    as rows of their own, and count against the limit of rejects. `origin` is the format in which the values
    are read when they are sent again: "csv", "json", or typed values (`arrow.originals`); "" for the format
    of the source's name. `faults` are all that the mapper found (up to 100), `code` and `reason` those of the
    first; it is empty for rows that never came to it.
    """

    source: str
    row: int
    code: str
    reason: str
    values: str
    swallowed: int = 0
    origin: str = ""
    faults: tuple[RowFault, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Batch:
    """A range of source rows as the reader hands it over: shape (n,) good rows, and the unreadable ones.

    `numbers` (int64, shape (n,), ascending) are the row numbers of `rows`. n + len(rejects) == stop - first.
    `text` says that values are untyped text in which an empty field means null (CSV). `runs` (int64, shape
    (n,)) is given for rows of a reject file: the number of the run that rejected each, or -1. `originals`
    (shape (n,)) has the rows as they stand in the source, JSON text of an object each, where `rows` have only
    the columns that are used.
    """

    source: str
    file: int
    first: int
    stop: int
    numbers: NDArray[np.int64]
    rows: pa.RecordBatch
    rejects: tuple[Reject, ...] = ()
    text: bool = False
    runs: NDArray[np.int64] | None = None
    originals: pa.BinaryArray | None = None

    def between(self, first: int, stop: int) -> Batch:
        """Rows `first` to `stop - 1` of it; nothing is copied."""
        if (first, stop) == (self.first, self.stop):
            return self
        low, high = self.numbers.searchsorted((first, stop))
        return replace(
            self,
            first=first,
            stop=stop,
            numbers=self.numbers[low:high],
            rows=self.rows.slice(low, high - low),
            rejects=tuple(reject for reject in self.rejects if first <= reject.row < stop),
            runs=None if self.runs is None else self.runs[low:high],
            originals=None if self.originals is None else self.originals.slice(low, high - low),
        )


@dataclass(frozen=True, slots=True)
class Skipped:
    """Values of a column that didn't fit and were left out as the job asks, all for one reason.

    `rows` (int64, shape (k,), ascending) are the numbers of the rows that go without them.
    """

    column: str
    reason: str
    rows: NDArray[np.int64]

    def between(self, first: int, stop: int) -> Skipped:
        """Those of rows `first` to `stop - 1`."""
        low, high = self.rows.searchsorted((first, stop))
        return replace(self, rows=self.rows[low:high])


# How many values of a column were left out for which reason: (column, reason, count).
SkippedCounts: TypeAlias = tuple[tuple[str, str, int], ...]


def counts_of(skipped: Iterable[Skipped]) -> SkippedCounts:
    """How many values of each column were left out for each reason, where there are any."""
    counts = Counter[tuple[str, str]]()
    for some in skipped:
        counts[some.column, some.reason] += len(some.rows)
    return tuple((column, reason, count) for (column, reason), count in counts.items() if count)


@dataclass(frozen=True, slots=True)
class Mapped:
    """A batch after mapping.

    `kept` (int64, shape (k,), ascending) are positions in `batch.rows`; row i of `identifications` was made
    of `batch.rows[kept[i]]`. `rejects` has those of the batch too, ascending by row. Rows in neither
    describe no update at all (every mapped value is null) and count as unchanged. `keep_empty` names the
    columns of a text source in which an empty field is a value. `fingerprints` (shape (k, p)) are the
    fingerprints that the snapshot is to have of each row once it is accepted; 0 leaves what it has. `large`
    names the properties with whole numbers that a browser doesn't show as they are. `skipped` are values of
    rows that are not rejects.
    """

    batch: Batch
    kept: NDArray[np.int64]
    identifications: pa.RecordBatch
    rejects: tuple[Reject, ...]
    keep_empty: frozenset[str] = frozenset()
    fingerprints: Fingerprints | None = None
    large: frozenset[str] = frozenset()
    skipped: tuple[Skipped, ...] = ()

    def between(self, first: int, stop: int) -> Mapped:
        """The same for rows `first` to `stop - 1` of the batch; nothing is copied."""
        batch = self.batch.between(first, stop)
        if batch is self.batch:
            return self
        start, end = self.batch.numbers.searchsorted((first, stop))
        low, high = self.kept.searchsorted((start, end))
        return replace(
            self,
            batch=batch,
            kept=self.kept[low:high] - start,
            identifications=self.identifications.slice(low, high - low),
            rejects=tuple(reject for reject in self.rejects if first <= reject.row < stop),
            fingerprints=None if self.fingerprints is None else self.fingerprints[low:high],
            skipped=tuple(some.between(first, stop) for some in self.skipped),
        )


# Bytes, or a view of bytes that stand in a larger buffer.
Piece: TypeAlias = bytes | memoryview
# Bytes in pieces, which are only put together where that is needed.
Body: TypeAlias = tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A range of source rows and the request body made of it; the unit of sending and of committing.

    `body` is the JSON array of k identifications, in pieces, escaped as the transport wants it: number i
    stands at `[1 + ends[i - 1] : ends[i]]` (`ends` int64, shape (k,)), before a comma or the last bracket.
    `keys` (uint64, shape (k, w)) hash each one's ids. `owners` (int64, shape (m,)) names for each of the m
    sent rows (`numbers`, `rows`) its identification, so m - k rows were merged into others. Rows of the range
    = m + unchanged + len(rejects) + those held. `fingerprints` (shape (m, p)) are the rows' fingerprints;
    `large` is as in `Mapped`, `skipped` counts the values that were left out of the range's rows. `unsent`
    are those of `rejects` that differ from the snapshot and were too big. `held` (int64, shape (h,)) are the
    numbers of rows that are committed later, as parts of their own. `again`: the range is committed already,
    but for held rows. `linked` (uint64, shape (k,)) are the keys of the users to whom earlier rows link each
    one's device.
    """

    source: str
    file: int
    first: int
    stop: int
    body: Body
    ends: NDArray[np.int64]
    keys: NDArray[np.uint64]
    numbers: NDArray[np.int64]
    owners: NDArray[np.int64]
    rows: pa.RecordBatch
    text: bool = False
    keep_empty: frozenset[str] = frozenset()
    rejects: tuple[Reject, ...] = ()
    fingerprints: Fingerprints | None = None
    large: frozenset[str] = frozenset()
    unsent: tuple[Sent, ...] = ()
    held: NDArray[np.int64] | None = None
    again: bool = False
    linked: NDArray[np.uint64] | None = None
    skipped: SkippedCounts = ()

    @property
    def users(self) -> int:
        """How many identifications the body holds."""
        return len(self.ends)

    @property
    def unchanged(self) -> int:
        """How many rows of the range describe no update; none are left where it is committed already."""
        if self.again:
            return 0
        held = 0 if self.held is None else len(self.held)
        return self.stop - self.first - len(self.numbers) - len(self.rejects) - held


# The outcome of rows that were to be sent; whether those in doubt arrived is unknown.
End: TypeAlias = Literal["accepted", "in_doubt", "refused", "unsent"]


@dataclass(frozen=True, slots=True)
class Sent:
    """Rows that were sent, for the snapshot: their `numbers`, `keys` (m, w) and `fingerprints` (m, p).

    `numbers` ascend.
    """

    numbers: NDArray[np.int64]
    keys: NDArray[np.uint64]
    fingerprints: Fingerprints
    end: End = "accepted"


@dataclass(frozen=True, slots=True)
class CommittedRows:
    """Rows of a chunk that are committed: what they add to the tally, their rejects, what was sent of them.

    The rows of `sent` may come in several pieces, in any order. All rows of the range are committed but those
    with the numbers `held`. `again`: the range was committed before, with more rows held than now.
    """

    row_range: RowRange
    tally: Tally
    rejects: tuple[Reject, ...] = ()
    sent: tuple[Sent, ...] = ()
    skipped: SkippedCounts = ()
    held: NDArray[np.int64] | None = None
    again: bool = False
