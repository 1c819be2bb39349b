"""Stages 1 to 4: READ, MAP, DIFF, ENCODE. Rows of a source become chunks, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import numpy as np

from etl.checkpoint import Entries
from etl.encoder import Encoder, Encoding, EventEncoding, FormEncoding, Limits, pieces
from etl.errors import SourceError
from etl.job import Job, check_columns, check_repeated, lacking, missing_columns
from etl.json_lines import Splice
from etl.mapper import Mapper, framed, frames, load_transform, splice_json, within
from etl.model import Batch, Chunk, HeldRows, Mapped, RowRange
from etl.pipeline.ahead import read_ahead
from etl.pipeline.diff_base import NOTHING, DiffBase
from etl.pipeline.links import Links
from etl.pipeline.one_pass import OnePass
from etl.reader import Source
from etl.reader.spans import joined
from etl.sender.parts import only
from etl.snapshot import Compared, Differ, FinalChanges

Place = tuple[int, int]
# What earlier chunks had accepted that begin at one place or after it, and before another.
Sent = Callable[[Place, Place], Iterable[Entries]]
# The rows that are held of a range.
HeldOf = Callable[[RowRange], HeldRows | None]
Watch = Callable[[Compared], None]


def _nothing(since: Place, before: Place) -> Iterable[Entries]:
    """A run that was just begun."""
    return ()


def held_of_none(gap: RowRange) -> HeldRows | None:
    """Nothing is held."""
    return None


def left_of(chunks: Iterable[Chunk], held: HeldRows | None) -> list[Chunk]:
    """What is left of the chunks of a gap: all, or the rows that were held when the rest was committed.

    They are encoded as they were in the chunk. Raises SourceError where there are no such rows any more.
    """
    if held is None:
        return list(chunks)
    return [_held_rows(chunk, held) for chunk in chunks]


def _held_rows(chunk: Chunk, held: HeldRows) -> Chunk:
    row_range = RowRange(chunk.file, chunk.first, chunk.stop)
    chosen = np.unique(chunk.owners[np.isin(chunk.numbers, held.rows)])
    left = only(chunk, chosen)
    if row_range != held.row_range or not np.array_equal(left.numbers, held.rows):
        raise SourceError(
            f"{chunk.source} has other rows than before from {held.row_range.first:,} on",
            hint="the source changed after the run began; run with --restart to begin a new one",
        )
    return replace(left, again=True)


# As long as a run's id, and of no run.
NO_RUN: Final = "0" * 32


@dataclass(frozen=True, slots=True)
class Production:
    """Makes chunks of a source, as a job says; `source` has the columns that the job needs.

    `run_id` goes into the insert_ids of events. `final` is what differs in the end, where that is known.
    """

    job: Job
    source: Source
    mapper: Mapper
    limits: Limits
    diff_base: DiffBase = NOTHING
    run_id: str = NO_RUN
    final: FinalChanges | None = None

    @classmethod
    def of(cls, job: Job, source: Source, limits: Limits) -> Production:
        """Check every file's columns and load the job's transform. Raises EtlError."""
        transform = load_transform(job.transform, job.folder) if job.transform else None
        source = _complete(job, source, strict=transform is None)
        return cls(job, source, Mapper(job.identification, transform=transform), limits)

    def on(self, diff_base: DiffBase) -> Production:
        """The same, comparing with what a snapshot knows."""
        return replace(self, diff_base=diff_base)

    def knowing(self, final: FinalChanges) -> Production:
        """The same, with what a look at the whole source has shown."""
        return replace(self, final=final)

    def within(self, run_id: str) -> Production:
        """The same, for a run."""
        return replace(self, run_id=run_id)

    def files(self) -> Iterator[RowRange]:
        """Each file as a whole."""
        return (RowRange(file) for file in range(len(self.source.files)))

    def chunks(
        self,
        gaps: Iterable[RowRange],
        sent: Sent = _nothing,
        held: HeldOf = held_of_none,
        watch: Watch | None = None,
    ) -> Iterator[list[Chunk]]:
        """Read these ranges in order; yield the chunks of each piece of a batch as a list.

        Of a chunk of which rows are `held`, only these are left. `watch` is told of every batch.
        """
        differ, links = self.differ(), Links()
        done = (0, 0)
        for gap, batches in self._passes(gaps):
            if differ is not None:
                for entries in sent(done, (gap.file, gap.first)):
                    differ.mark(entries.keys)
                    links.learn(entries.keys)
            done = (gap.file, gap.first)
            encoder = self.encoder(gap.first)
            for mapped in self._left(gap, batches, differ, watch, links):
                for piece in pieces(mapped):
                    yield list(links.on(left_of(encoder.feed(piece), held(gap))))
            yield list(links.on(left_of(encoder.finish(), held(gap))))

    def _passes(self, gaps: Iterable[RowRange]) -> Iterator[tuple[RowRange, Iterator[Batch]]]:
        """Each gap with the batches that have rows of it; a file is gone through once for all of its gaps."""
        for _, group in groupby(gaps, lambda gap: gap.file):
            of_file = list(group)
            with closing(read_ahead(self._read_all(of_file))) as batches:
                one_pass = OnePass(batches)
                for gap in of_file:
                    yield gap, one_pass.of(gap)

    def read(self, gap: RowRange) -> Iterator[Batch]:
        """What the mapper is given for a range; for a transform all of the frames that have rows of it."""
        return self._read_all([gap])

    def _read_all(self, gaps: Sequence[RowRange]) -> Iterator[Batch]:
        """As `read`, of several gaps of one file, in one pass."""
        file = gaps[0].file
        if self.mapper.has_transform:
            whole = [(one.first, one.stop) for one in map(framed, gaps)]
            return frames(self.source.read_spans(file, joined(whole)))
        if len(gaps) == 1:
            return self.source.read(gaps[0], used=self.mapper.columns)
        spans = [(gap.first, gap.stop) for gap in gaps]
        return self.source.read_spans(file, spans, used=self.mapper.columns)

    def mapped(self, gap: RowRange) -> Iterator[Mapped]:
        """The batches of a range, mapped."""
        with closing(read_ahead(self.read(gap))) as batches:
            yield from self._mapped(gap, batches)

    def _mapped(self, gap: RowRange, batches: Iterable[Batch]) -> Iterator[Mapped]:
        for batch in batches:
            yield within(self.mapper.map(batch), gap)

    def compared(self, gap: RowRange, differ: Differ | None) -> Generator[Compared, None, None]:
        """The batches of a range, mapped and compared; without a differ, all of each is left."""
        yield from _compared(self.mapped(gap), differ)

    def encoder(self, first: int) -> Encoder:
        """What makes chunks of the rows of one file, from the row `first` on."""
        return Encoder(first=first, limits=self.limits, encoding=self._encoding)

    def differ(self) -> Differ | None:
        """What compares rows with the snapshot, in source order; None where nothing is compared."""
        diff_base = self.diff_base
        if diff_base.layout is None:
            return None
        return Differ(
            diff_base.layout, diff_base.snapshot, full=diff_base.full, final=self.final, splice=self.splice
        )

    def _left(
        self,
        gap: RowRange,
        batches: Iterable[Batch],
        differ: Differ | None,
        watch: Watch | None,
        links: Links,
    ) -> Iterator[Mapped]:
        """What is left to send of each batch; rows that aren't sent say whose a device is, too."""
        for compared in _compared(self._mapped(gap, batches), differ):
            if compared.seen is not None:
                links.learn(compared.seen.keys)
            if watch is not None:
                watch(compared)
            yield compared.mapped

    @property
    def _encoding(self) -> Encoding:
        if self.job.destination.transport == "batch":
            return EventEncoding(self.run_id, self.splice)
        return FormEncoding(self.splice)

    @property
    def splice(self) -> Splice | None:
        """What puts raw JSON values into JSON lines; None where there are none."""
        raw = self.mapper.has_raw_json or any(file.format == "ndjson" for file in self.source.files)
        return splice_json if raw else None


def _compared(batches: Iterator[Mapped], differ: Differ | None) -> Iterator[Compared]:
    if differ is not None:
        yield from differ.each(batches)
        return
    for mapped in batches:
        n = len(mapped.kept)
        yield Compared(mapped, np.ones(n, np.bool_), np.zeros((n, 0), np.bool_), 0)


def _complete(job: Job, source: Source, *, strict: bool) -> Source:
    """The source with every column that the job names in every file, null where a file may lack it.

    `strict`: a column that isn't there is an error; otherwise the job's transform may still make it.
    """
    names = [source.names(file) for file in range(len(source.files))]
    # A file of nothing lacks nothing.
    files = [file for file, own in enumerate(names) if own or not source.is_empty(file)]
    known = list(dict.fromkeys(name for file in files for name in names[file]))
    if files and strict and not source.holds_rejects:
        for file in files:
            check_repeated(job, source.files[file].name, source.repeated(file))
        found = [*known, *_late(job, source, known)]
        check_columns(job, found, "; ".join(source.remarks()) if lacking(job, found) else "")
    for file in files:
        rows_say = source.files[file].format == "ndjson"
        missing = [name for name in lacking(job, names[file]) if name in known]
        if strict and rows_say:
            continue  # what a row lacks is null in it, and it may yet have what none had so far
        if missing and (job.missing == "null" or rows_say or not names[file]):
            source = source.with_columns(file, missing)
        elif missing and strict:
            raise missing_columns(source.files[file].name, missing, names[file])
    return source


def _late(job: Job, source: Source, known: Sequence[str]) -> list[str]:
    """Columns that the job names and that only turn up further on in a file of NDJSON."""
    wanted = left = lacking(job, known)
    for file, found in enumerate(source.files):
        if left and found.format == "ndjson":
            left = source.lacks(file, left)
    return [name for name in wanted if name not in left]
