"""Stages 1 to 4, READ, MAP, DIFF and ENCODE: rows of a source become chunks, batch by batch."""

from __future__ import annotations

import math
import mmap
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from itertools import chain, groupby
from time import perf_counter
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

import numpy as np

from ..arrow.json_lines import Splice
from ..checkpoint.sent_file import SentEntries
from ..encoder import Encoder, FormEncoding, Limits, pieces
from ..errors import SourceError
from ..job import Job, check_columns, check_repeated, lacking, missing_columns
from ..mapper import Mapper, framed, frames, load_transform, splice_json, within
from ..model import Batch, Chunk, HeldRows, Mapped, RowRange
from ..reader import Source
from ..run_events import Timing
from ..sender.parts import only
from ..sender.transports import TRANSPORTS
from ..snapshot import DiffedBatch, Differ, FinalChanges
from .device_owners import DeviceOwners
from .diff_base import NOTHING, DiffBase
from .prefetch import prefetched
from .settings import Settings

if TYPE_CHECKING:
    from .precheck import ChangedRows

_T = TypeVar("_T")
# The entries of chunks accepted earlier that begin at or after one place, and before another.
SentBetween: TypeAlias = Callable[[tuple[int, int], tuple[int, int]], Iterable[SentEntries]]
# The held rows of a range; None where the whole range is left.
HeldOf: TypeAlias = Callable[[RowRange], HeldRows | None]
Stage: TypeAlias = Literal["source", "map", "diff", "encode", "idle"]

_STAGES: Final[tuple[Stage, ...]] = ("source", "map", "diff", "encode", "idle")
# How often the number of rows is estimated anew: with many files that takes a moment.
_EXPECTED_SECONDS: Final = 0.25
# In place of a run's id, and as long.
NO_RUN: Final = "0" * 32


class _Nested(threading.local):
    seconds = 0.0


class StageTimes:
    """The busy seconds of each stage, in memory that a worker process shares with its parent.

    A stage that waits for the one before it is not busy: time inside an inner `stage` belongs to that alone.
    """

    def __init__(self) -> None:
        self._seconds = np.frombuffer(mmap.mmap(-1, 8 * len(_STAGES)), np.float64)
        self._nested = _Nested()

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Measure the block."""
        outer, self._nested.seconds, began = self._nested.seconds, 0.0, perf_counter()
        try:
            yield
        finally:
            seconds = perf_counter() - began
            self._seconds[_STAGES.index(stage)] += seconds - self._nested.seconds
            self._nested.seconds = outer + seconds

    def each(self, stage: Stage, items: Iterable[_T]) -> Generator[_T, None, None]:
        """Yield the items; what it takes to get each one is measured."""
        rest = iter(items)
        try:
            while True:
                with self.stage(stage):
                    item = next(rest, None)
                if item is None:
                    return
                yield item
        finally:
            if isinstance(rest, Generator):
                rest.close()

    def add_to(self, timing: Timing) -> Timing:
        """The timing with the seconds so far of the stages."""
        source, mapping, diff, encode, _ = self._seconds.tolist()
        return replace(timing, source=source, map=mapping, diff=diff, encode=encode)


class JobSource:
    """A source as a job reads it: columns are checked, the transform is loaded. Raises EtlError."""

    def __init__(self, job: Job, source: Source) -> None:
        transform = load_transform(job.transform, job.folder) if job.transform else None
        self.job = job
        self.source = _with_all_columns(job, source, strict=transform is None)
        self.mapper = Mapper(job.identification, transform=transform)
        self.times = StageTimes()
        # A worker process shares it with its parent.
        self._expected, self._expected_due = np.frombuffer(mmap.mmap(-1, 8), np.int64), -math.inf

    @property
    def expected_rows(self) -> int | None:
        """About how many rows the source has, by what was read of it; None if that can't be known."""
        return int(self._expected[0]) or None

    @property
    def splice(self) -> Splice | None:
        """The function that puts raw JSON values into JSON lines; None if there are none."""
        formats = {file.format for file in self.source.files}
        return splice_json if self.mapper.has_raw_json or formats & {"ndjson", "excel"} else None

    def files(self) -> Iterator[RowRange]:
        """Each file as one range."""
        return (RowRange(file) for file in range(len(self.source.files)))

    def read(self, *ranges: RowRange, coded: bool = False) -> Iterator[Batch]:
        """The batches of ranges of one file, in one pass; for a transform, whole frames that overlap them.

        `coded`: columns of few texts may be dictionaries, and so may what is mapped of them.
        """
        if self.mapper.has_transform:
            batches = frames(self.source.read(*map(framed, ranges)))
        else:
            batches = self.source.read(*ranges, used=self.mapper.columns, coded=coded)
        return self.times.each("source", batches)

    def read_all(self) -> Iterator[Batch]:
        """The batches of all files."""
        return chain.from_iterable(map(self.read, self.files()))

    def mapped(
        self,
        row_range: RowRange,
        batches: Iterable[Batch] | None = None,
        look: Callable[[Mapped], None] | None = None,
        *,
        coded: bool = False,
    ) -> Iterator[Mapped]:
        """The batches of a range, mapped; `batches` are those that were read of it. `look` sees each."""
        ahead = closing(prefetched(self.read(row_range, coded=coded))) if batches is None else None
        with ahead or nullcontext(batches or ()) as read:
            for batch in self.times.each("idle", read):
                if perf_counter() >= self._expected_due:
                    self._expected[0] = self.source.expected_rows() or 0
                    self._expected_due = perf_counter() + _EXPECTED_SECONDS
                with self.times.stage("map"):
                    mapped = within(self.mapper.map(batch), row_range)
                if look is not None:
                    look(mapped)
                yield mapped

    def mapped_all(self, *, coded: bool = False) -> Iterator[Mapped]:
        """The batches of all files, mapped."""
        return chain.from_iterable(self.mapped(one, coded=coded) for one in self.files())


class RowPipeline:
    """Makes the chunks of a source for one run of a job; needs neither a checkpoint nor a sender.

    `diff_base` is what rows are compared with, `run_id` goes into the insert_ids of events, and `limits` are
    those of a request (None: the usual ones of the job's transport). With `sizes_only`, bodies for the
    Identify API are as long as they would be, but have only zeros in them. Raises EtlError for a source that
    the job doesn't fit.
    """

    def __init__(
        self,
        job: Job,
        source: Source | JobSource,
        diff_base: DiffBase = NOTHING,
        run_id: str = NO_RUN,
        *,
        limits: Limits | None = None,
        sizes_only: bool = False,
    ) -> None:
        self.rows = source if isinstance(source, JobSource) else JobSource(job, source)
        self.job = job
        self.diff_base = diff_base
        self.run_id = run_id
        self.sizes_only = sizes_only
        self.limits = limits or Settings().limits(job.destination.transport)

    @property
    def source(self) -> Source:
        """The source, with every column that the job needs."""
        return self.rows.source

    def chunks(
        self,
        ranges: Iterable[RowRange],
        *,
        final: FinalChanges | None = None,
        changed: ChangedRows | None = None,
        sent: SentBetween | None = None,
        held: HeldOf = lambda _: None,
        watch: Callable[[DiffedBatch], None] = lambda _: None,
    ) -> Iterator[list[Chunk]]:
        """Read the ranges in order; yield the chunks of each piece of a batch as a list.

        `final` is what a look at the whole source showed, and `changed` has the rows that it kept, if it
        could. `sent` gives what the run sent before, `held` the held rows of a range, to which its chunks are
        then cut down. `watch` is called with every batch as it is compared.
        """
        differ, owners, done = self.differ(final), DeviceOwners(), (0, 0)

        def left(compared: DiffedBatch) -> Mapped:
            if compared.seen is not None:
                owners.learn(compared.seen.keys)  # rows that aren't sent show whose a device is, too
            watch(compared)
            return compared.mapped

        for _, group in groupby(ranges, lambda one: one.file):
            of_file = list(group)
            kept = changed.batches(of_file) if changed is not None and changed.complete else None
            with closing(prefetched(self.rows.read(*of_file))) if kept is None else nullcontext(kept) as read:
                for row_range, batches in _by_range(read, of_file):
                    place = (row_range.file, row_range.first)
                    if differ is not None and sent is not None:
                        for entries in sent(done, place):
                            differ.mark(entries.keys)
                            owners.learn(entries.keys)
                    done = place
                    mapped = map(left, self._diffed(differ, self.rows.mapped(row_range, batches)))
                    for chunks in self.encoded(row_range, mapped, held(row_range)):
                        yield list(owners.on(chunks))

    def planned(
        self,
        final: FinalChanges | None,
        look: Callable[[Mapped], None],
        watch: Callable[[DiffedBatch], None],
    ) -> Iterator[list[Chunk]]:
        """As `chunks`, of the whole source, for a plan; rows are hashed only if there is a snapshot.

        Beside encoding, threads map and compare. In these `look` is called with every batch as it is mapped,
        and `watch` with every batch as it is compared.
        """
        base = self.diff_base
        differ = None if base.snapshot is None or base.full else self.differ(final)

        def left(compared: Iterable[DiffedBatch]) -> Iterator[Mapped]:
            for some in compared:
                watch(some)
                yield some.mapped

        for row_range in self.rows.files():
            mapped = left(self.compared(row_range, differ, look=look))
            with closing(prefetched(mapped)) as ahead:
                yield from self.encoded(row_range, ahead)

    def compared(
        self,
        row_range: RowRange,
        differ: Differ | None,
        look: Callable[[Mapped], None] | None = None,
    ) -> Generator[DiffedBatch, None, None]:
        """The batches of a range, mapped and compared; without a differ, all rows are left.

        They are read in a thread, and mapped in another one, which calls `look` with each.
        """
        looks = differ is not None and differ.looks
        mapped, times = self.rows.mapped(row_range, look=look, coded=looks), self.rows.times
        if differ is None:
            yield from self._diffed(None, mapped)
            return
        hashed = times.each("map", map(differ.hashed, mapped))
        with closing(prefetched(hashed)) as ahead:
            yield from self._diffed(differ, times.each("idle", ahead))

    def _diffed(self, differ: Differ | None, mapped: Iterable[Mapped]) -> Iterator[DiffedBatch]:
        if differ is not None:
            yield from self.rows.times.each("diff", differ.each(mapped))
            return
        for some in mapped:
            yield DiffedBatch(some, np.zeros((len(some.kept), 0), np.bool_))

    def encoded(
        self, row_range: RowRange, batches: Iterable[Mapped], held: HeldRows | None = None
    ) -> Iterator[list[Chunk]]:
        """The chunks of a range, a list for each piece of a batch; only the `held` rows of each, if given."""
        transport, stage = TRANSPORTS[self.job.destination.transport], self.rows.times.stage
        encoding = transport.encoding(self.run_id, self.rows.splice)
        if self.sizes_only and isinstance(encoding, FormEncoding):
            encoding = replace(encoding, sizes_only=True)
        encoder = Encoder(first=row_range.first, limits=self.limits, encoding=encoding)
        for piece in chain.from_iterable(map(pieces, batches)):
            with stage("encode"):
                chunks = _only_held(encoder.feed(piece), held)
            yield chunks
        with stage("encode"):
            chunks = _only_held(encoder.finish(), held)
        yield chunks

    def differ(self, final: FinalChanges | None = None, *, looks: bool = False) -> Differ | None:
        """What compares rows with the snapshot, in source order; None if nothing is compared."""
        base, splice = self.diff_base, self.rows.splice
        if base.layout is None:
            return None
        snapshot = None if base.full else base.snapshot
        return Differ(base.layout, snapshot, looks=looks, final=final, splice=splice)


def _by_range(
    batches: Iterator[Batch], ranges: Sequence[RowRange]
) -> Iterator[tuple[RowRange, Iterator[Batch]]]:
    """Each range with the batches that have rows of it; both ascend, a batch may overlap several ranges."""
    kept: Batch | None = None

    def overlapping(row_range: RowRange) -> Iterator[Batch]:
        nonlocal kept
        stop = math.inf if row_range.stop is None else row_range.stop
        while (batch := kept or next(batches, None)) is not None:
            kept = batch
            if batch.first >= stop:
                return
            if batch.stop > row_range.first:
                yield batch
            if batch.stop <= stop:
                kept = None
            if batch.stop >= stop:
                return

    return ((row_range, overlapping(row_range)) for row_range in ranges)


def _only_held(chunks: Iterable[Chunk], held: HeldRows | None) -> list[Chunk]:
    """The chunks; if rows of their range are `held`, only these, encoded as they were in the whole chunk.

    Raises SourceError if the source has no such rows any more.
    """
    if held is None:
        return list(chunks)
    found = []
    for chunk in chunks:
        part = only(chunk, np.unique(chunk.owners[np.isin(chunk.numbers, held.rows)]))
        row_range = RowRange(chunk.file, chunk.first, chunk.stop)
        if row_range != held.row_range or not np.array_equal(part.numbers, held.rows):
            raise SourceError(
                f"{chunk.source} has other rows than before from {held.row_range.first:,} on",
                hint="the source changed after the run began; run with --restart to begin a new one",
            )
        found.append(replace(part, again=True))
    return found


def _with_all_columns(job: Job, source: Source, *, strict: bool) -> Source:
    """The source with every column that the job names in every file, null where a file may lack it.

    `strict`: a missing column is an error; otherwise the job's transform may still make it.
    """
    names = [source.names(file) for file in range(len(source.files))]
    # A file of nothing lacks nothing.
    files = [file for file, own in enumerate(names) if own or not source.is_empty(file)]
    known = list(dict.fromkeys(name for file in files for name in names[file]))
    if files and strict and not source.holds_rejects:
        for file in files:
            check_repeated(job, source.files[file].name, source.repeated(file))
        wanted = late = lacking(job, known)
        for file, found in enumerate(source.files):  # in NDJSON a column may come late
            if late and found.format == "ndjson":
                late = source.lacks(file, late)
        there = [*known, *(name for name in wanted if name not in late)]
        check_columns(job, there, "; ".join(source.remarks()) if lacking(job, there) else "")
    for file in files:
        in_rows = source.files[file].format == "ndjson"
        missing = [name for name in lacking(job, names[file]) if name in known]
        if strict and in_rows:
            continue  # what a row lacks is null in it, and it may yet have what none had so far
        if missing and (job.missing == "null" or in_rows or not names[file]):
            source = source.with_columns(file, missing)
        elif missing and strict:
            raise missing_columns(source.files[file].name, missing, names[file])
    return source
