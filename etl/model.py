"""The words of the project as frozen types, and the events that a listener hears.

Row numbers count from 1, the first row after a header. A range is half open: `first` belongs to it and
`stop` doesn't.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    # Fingerprints of rows: one column for each property (32 bit), or one for all of a row (64 bit).
    Fingerprints: TypeAlias = NDArray[np.unsignedinteger[Any]]

Format: TypeAlias = Literal["csv", "parquet", "ndjson", "arrow"]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source, as it was when the source was opened.

    `name` is what places and rejects show; `sample` is a hex digest over the Parquet footer, or over the
    first and last range of any other file, so that a changed file is noticed. `size` is in bytes and
    `modified` in nanoseconds since the epoch; both are None where there is no such thing (stdin, a table).
    """

    name: str
    format: Format
    size: int | None
    modified: int | None
    sample: str


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows `first` to `stop - 1` of file number `file` (0-based); `stop` None means to the file's end."""

    file: int
    first: int = 1
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that can't be sent. `values` is the JSON text of an object: the row as it stood in the source.

    `swallowed` lines after it would have been a part of it, had its quotes been taken at their word. They are
    read as rows of their own, and count as doubtful where rejects are limited. `origin` says as what the
    values are read when they are sent again: "csv", "json", or typed values (`arrow.originals`); "" for what
    the name of the source says.
    """

    source: str
    row: int
    code: str
    reason: str
    values: str
    swallowed: int = 0
    origin: str = ""


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
    """Values of a column that didn't fit and were left out by the job's wish, all for one reason.

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
    """How many values each has, without those that have none."""
    return tuple((some.column, some.reason, len(some.rows)) for some in skipped if len(some.rows))


@dataclass(frozen=True, slots=True)
class Mapped:
    """What the mapper made of a batch.

    `kept` (int64, shape (k,), ascending) are positions in `batch.rows`; row i of `identifications` was made
    of `batch.rows[kept[i]]`. `rejects` has those of the batch too, ascending by row. Rows in neither
    describe no update at all (every mapped value is null) and count as unchanged. `keep_empty` names the
    columns of a text source in which an empty field is a value. `fingerprints` (shape (k, p)) are the
    fingerprints that the snapshot is to have of each row once it is accepted; 0 leaves what it has. `large`
    names the properties with whole numbers that a browser doesn't show as they are. `skipped` are values of
    rows that are no rejects.
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
        """What was made of rows `first` to `stop - 1` of the batch; nothing is copied."""
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
    `keys` (uint64, shape (k, w)) hash each one's ids. `owners` (int64, shape (m,)) names for each of the
    m sent rows (`numbers`, `rows`) its identification, so m - k rows were merged into others.
    Rows of the range = m + unchanged + len(rejects) + those held. `fingerprints` (shape (m, p)) are the rows'
    fingerprints; `large` is as in `Mapped`, `skipped` counts the values that were left out of the range's
    rows. `unsent` are those of `rejects` that differ from the snapshot and were too big. `held` (int64, shape
    (h,)) are the numbers of rows that are committed later, as parts of their own. `again`: the range is
    committed already, but for held rows. `linked` (uint64, shape (k,)) are the keys of the users to whom
    earlier rows link each one's device.
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


@dataclass(frozen=True, slots=True)
class Tally:
    """Where the rows went, and what it took. The law: rows = accepted + unchanged + merged + rejected.

    `bytes` are those on the wire; `uncounted` is how many more events were sent than the server says it took;
    `swallowed` is the sum of the rejects'.
    """

    rows: int = 0
    accepted: int = 0
    unchanged: int = 0
    merged: int = 0
    rejected: int = 0
    requests: int = 0
    retries: int = 0
    throttled: int = 0
    bytes: int = 0
    in_doubt: int = 0
    uncounted: int = 0
    swallowed: int = 0

    def __add__(self, other: Tally) -> Tally:
        # Written out: this runs several times for each request.
        return Tally(
            self.rows + other.rows,
            self.accepted + other.accepted,
            self.unchanged + other.unchanged,
            self.merged + other.merged,
            self.rejected + other.rejected,
            self.requests + other.requests,
            self.retries + other.retries,
            self.throttled + other.throttled,
            self.bytes + other.bytes,
            self.in_doubt + other.in_doubt,
            self.uncounted + other.uncounted,
            self.swallowed + other.swallowed,
        )


# What became of rows that were to be sent; of those in doubt nobody knows whether they arrived.
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
    """Rows of a chunk that have their end: what they add to the tally, their rejects, what was sent of them.

    The rows of `sent` may come in several pieces, in any order. All rows of the range have their end but
    those with the numbers `held`. `again`: the range was committed before, with more rows held than now.
    """

    row_range: RowRange
    tally: Tally
    rejects: tuple[Reject, ...] = ()
    sent: tuple[Sent, ...] = ()
    skipped: SkippedCounts = ()
    held: NDArray[np.int64] | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class HeldRows:
    """The `rows` (numbers, int64, shape (h,), ascending) of a chunk that have no end yet; all others have."""

    row_range: RowRange
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of one process of a run went, in seconds.

    `source`, `map`, `diff` and `encode` are what each stage that makes chunks was busy. Sending has `slots`
    requests at once, and each slot is at each moment in one state, so the sum of the next six is `slots`
    times the duration: `idle` (no chunk is ready), `user` (an earlier chunk with the same user is not
    committed yet), `rate` (the rate limit), `pause` (the destination slows the run down, or is away),
    `request` (an answer is awaited) and `commit` (the checkpoint is written). `latency` has the 50th, 95th
    and 99th percentile of the time to an answer; it is empty if no request was answered.
    """

    source: float = 0.0
    map: float = 0.0
    diff: float = 0.0
    encode: float = 0.0
    slots: int = 0
    idle: float = 0.0
    user: float = 0.0
    rate: float = 0.0
    pause: float = 0.0
    request: float = 0.0
    commit: float = 0.0
    latency: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run says at its end; the counts are those of the whole job since its checkpoint began.

    `exit_code`, `reason` and `hint` (None where the code is 0) are decided by `etl.ending`. `skipped_values`
    counts values that were left out by the job's wish, by column and reason. `timing` is of the last process,
    None if it never began to send.
    """

    job: str
    tally: Tally
    seconds: float
    resumed_rows: int
    status: Literal["finished", "stopped", "interrupted"]
    rejects_by_code: dict[str, int] = field(default_factory=dict)
    exit_code: int = 0
    reason: str | None = None
    hint: str | None = None
    skipped_values: dict[str, dict[str, int]] = field(default_factory=dict)
    timing: Timing | None = None


# --- events: what a listener hears -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """A run begins. `total_rows` is None where the source can't tell without reading it."""

    job: str
    endpoint: str
    files: int
    total_rows: int | None
    total_bytes: int | None
    resumed: Tally


@dataclass(frozen=True, slots=True)
class Progressed:
    """Chunks were committed: the whole job's tally so far. Told at most a few times a second."""

    tally: Tally


@dataclass(frozen=True, slots=True)
class Paused:
    """The destination slows us down or is away: `seconds` until the next try.

    `attempt` counts the tries that failed in a row (0: nobody counts them), `status` is that of the answer
    (None: there was none), and `seconds_left` how long the run goes on if nothing gets through.
    """

    reason: str
    seconds: float
    outage_seconds: float
    attempt: int = 0
    status: int | None = None
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Recovered:
    """The destination takes requests again after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Warned:
    """Something a user should know, that doesn't stop the run. `code` is stable, `message` is for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that happened as it should, for those who wonder. As `Warned` otherwise."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A run is over, whichever way; also one that could not begin, for which nothing was `Started`."""

    summary: Summary


Event: TypeAlias = Started | Progressed | Paused | Recovered | Warned | Noted | Ended
Listener: TypeAlias = Callable[[Event], None]
