"""Stages 1 and 2, READ and MAP, for one job; and the time that each stage takes."""

from __future__ import annotations

import math
import mmap
import threading
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from time import perf_counter
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from ..arrow.json_text import Splice, json_lines, load_json, splice_json
from ..arrow.originals import original_rows, rows_with_originals
from ..job.problems import check_columns, check_repeated, lacking, missing_columns
from ..job.spec import Job
from ..mapper import Mapper, framed, frames, load_transform, within
from ..model import Batch, Mapped
from ..reader import Source
from ..run_events import Timing
from ..tally import RowRange
from .prefetch import prefetched

_T = TypeVar("_T")
Stage: TypeAlias = Literal["source", "map", "diff", "encode", "idle"]

_STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
# How often the number of rows is estimated anew: with many files that takes a moment.
_EXPECTED_SECONDS: Final = 0.25


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
        with closing(rest) if isinstance(rest, Generator) else nullcontext():
            while True:
                with self.stage(stage):
                    item = next(rest, None)
                if item is None:
                    return
                yield item

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
        self._expected = np.frombuffer(mmap.mmap(-1, 8), np.int64)
        self._expected_due = -math.inf if source.total_rows() is None else math.inf

    @property
    def expected_rows(self) -> int | None:
        """An estimate of the number of rows, by what was read so far; None if it is unknown or exact."""
        return int(self._expected[0]) or None

    @property
    def splice(self) -> Splice | None:
        """The function that puts raw JSON values into JSON lines; None if there are none."""
        return splice_json if self.mapper.has_raw_json or self.source.gives_json else None

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
        self, row_range: RowRange, batches: Iterable[Batch] | None = None, *, coded: bool = False
    ) -> Iterator[Mapped]:
        """The batches of a range, mapped; `batches` are those that were read of it."""
        ahead = closing(prefetched(self.read(row_range, coded=coded))) if batches is None else None
        with ahead or nullcontext(batches or ()) as read:
            for batch in self.times.each("idle", read):
                if perf_counter() >= self._expected_due:
                    self._expected[0] = self.source.expected_rows() or 0
                    self._expected_due = perf_counter() + _EXPECTED_SECONDS
                with self.times.stage("map"):
                    mapped = within(self.mapper.map(batch), row_range)
                yield mapped

    def decoded(self, identifications: pa.RecordBatch) -> list[dict[str, Any]]:
        """Identifications as they are sent."""
        return list(map(orjson.loads, json_lines(identifications, splice=self.splice).splitlines()))

    def mapped_all(self, *, coded: bool = False) -> Iterator[Mapped]:
        """The batches of all files, mapped."""
        return chain.from_iterable(self.mapped(one, coded=coded) for one in self.files())


def original_values_of(
    mapped: Mapped, positions: NDArray[np.int64], columns: Collection[str]
) -> list[dict[str, Any]]:
    """The rows at these positions of a batch as the source has them; others than `columns` may be missing."""
    batch, keep = mapped.batch, mapped.keep_empty
    rows = rows_with_originals(batch)
    if used := [name for name in rows.schema.names if name in columns]:  # one that isn't may be hard to write
        rows = rows.select(used)
    found = original_rows(rows, positions, source=batch.source, text=batch.text, keep_empty=keep)
    return [load_json(row.values) for row in found]


def _with_all_columns(job: Job, source: Source, *, strict: bool) -> Source:
    """The source with every column that the job names in every file, null where a file may lack it.

    `strict`: a missing column is an error; otherwise the job's transform may still make it.
    """
    names = [source.names(file) for file in range(len(source.files))]
    # An empty file lacks no column.
    files = [file for file, own in enumerate(names) if own or not source.is_empty(file)]
    known = list(dict.fromkeys(name for file in files for name in names[file]))
    if files and strict and not source.holds_rejects:
        for file in files:
            check_repeated(job, source.files[file].name, source.repeated(file))
        wanted = late = lacking(job, known)
        for file in range(len(source.files)):  # in NDJSON a column may come late
            if late and source.has_open_columns(file):
                late = source.lacks(file, late)
        there = [*known, *(name for name in wanted if name not in late)]
        check_columns(job, there, "; ".join(source.remarks()) if lacking(job, there) else "")
    for file in files:
        in_rows = source.has_open_columns(file)
        missing = [name for name in lacking(job, names[file]) if name in known]
        if strict and in_rows:
            continue  # what a row lacks is null in it, and it may yet have what none had so far
        if missing and (job.missing == "null" or in_rows or not names[file]):
            source = source.with_columns(file, missing)
        elif missing and strict:
            raise missing_columns(source.files[file].name, missing, names[file])
    return source
