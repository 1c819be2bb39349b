"""What is checked before a run sends anything: rows, a repeated source, changed users. And its warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import pyarrow as pa

from .. import amplitude
from ..checkpoint import Checkpoint, PastRun, StateDir, mark_of
from ..errors import RepeatedSourceError, TooFewRowsError, TooManyChangesError, UsageError
from ..job import Job
from ..mapper import holds_bytes
from ..model import Chunk, CommittedRows, RowRange, SkippedCounts, Tally, counts_of
from ..reader import Source
from ..run_events import Warned
from ..snapshot import DiffedBatch, FinalChanges, Layout
from ..subject import Subject
from .changed_rows import ChangedRows
from .row_pipeline import RowPipeline
from .settings import RowMinimum, Settings
from .unfinished import entry_of

# After so many batches free memory is given back: what is kept of each cuts it up more and more.
_TRIMMED: Final = 64


def increments_of(job: Job) -> list[str]:
    """The operators of a job that count twice what is sent twice."""
    return sorted(amplitude.UNREPEATABLE & set(job.identification.operators))


# --- rows ------------------------------------------------------------------------------------------------


def last_rows(source: Source, endpoint: str, past: Sequence[PastRun], users: int) -> int | None:
    """How many rows the last finished run had; if that is unknown, as many as there are known `users`.

    None if there is nothing to compare with: rejects that are sent again are no export of all users.
    """
    if source.holds_rejects:
        return None
    found = [run.rows for run in past if run.endpoint == endpoint and not run.resent]
    return found[0] if found else users or None


def check_rows(source: Source, minimum: RowMinimum | None, last: int | None) -> None:
    """Raise TooFewRowsError for a source with too few rows, or with none where the last run had some.

    Raises UsageError for a stream of which more than one row is required: it can't be counted first.
    """
    needed = 1 if last else 0
    if minimum is not None:
        needed = minimum.rows(last) or 0
        if not source.repeatable and minimum.count not in {0, 1}:
            raise UsageError(
                "the rows of a stream can't be counted before they are sent, so --min-rows has no meaning",
                hint="save it to a file and name that, or leave the option out",
            )
    if needed <= 1:
        if needed and source.has_rows() is False:
            raise no_rows_error(last)
        return
    rows = source.count_rows(needed)
    if rows == 0:
        raise no_rows_error(last)
    if rows < needed:
        what = f"{minimum} of them" if minimum and minimum.percent is not None else f"{needed:,}"
        before = f"the last finished run had {last:,}, " if last is not None else ""
        raise TooFewRowsError(
            f"the source has {rows:,} rows; {before}and --min-rows is {what}; nothing was sent",
            hint="is the export whole? If it is, run with a lower --min-rows, or with --min-rows 0",
        )


def no_rows_error(last: int | None) -> TooFewRowsError:
    """The error for a source without rows."""
    before = f", and the last finished run had {last:,}" if last else ""
    return TooFewRowsError(
        f"the source has no rows{before}; nothing was sent",
        hint="is the export whole? If there is nothing to send, run with --min-rows 0",
    )


def requires_rows(settings: Settings, last: int | None) -> bool:
    """Whether a source without any row is refused."""
    return bool(last) if settings.min_rows is None else (settings.min_rows.rows(last) or 0) > 0


# --- a source that was sent before -----------------------------------------------------------------------


def check_repeat(
    job: Job, source: Source, past: Sequence[PastRun], digests: Mapping[int, str], *, again: bool
) -> tuple[Warned, ...]:
    """Raise RepeatedSourceError if the last finished run sent increments of this very source.

    If it sent only some of the files, or `again` allows it, the warnings say so.
    """
    names, endpoint = ", ".join(increments_of(job)), job.destination.endpoint
    if not names or not source.repeatable or source.has_rows() is False:
        return ()
    marks = [mark_of(entry_of(file), digests.get(number)) for number, file in enumerate(source.files)]
    found = {run.overlap(marks) for run in past if run.endpoint == endpoint and run.counted}
    if "all" in found and not again:
        raise RepeatedSourceError(
            f"the last finished run sent this very source, and {names} would count twice; nothing was sent",
            hint="wait for a new export; if these rows are to count once more, run with --again",
        )
    if found & {"all", "some"}:
        which = "these files" if "all" in found else "some of these files"
        return (Warned("again", f"{which} were sent before, and {names} count again"),)
    return ()


# --- changed users ---------------------------------------------------------------------------------------


class Precheck:
    """What differs from the snapshot after all rows of a source, and the ranges in which nothing is sent.

    `final` is complete once the whole source was added.
    """

    def __init__(self, final: FinalChanges, layout: Layout) -> None:
        self.final = final
        self._counts = any(bundle.unrepeatable for bundle in layout.bundles)
        self._must_send = False  # a row that is sent whatever the other rows have
        self._same: list[RowRange] = []  # nothing differs, and nothing is rejected
        self._overwritten: list[RowRange] = []  # the same, or what differs is overwritten by a later row
        self._ends: dict[int, int] = {}
        self._skipped: list[tuple[RowRange, SkippedCounts]] = []  # of batches that have some

    def add(self, compared: DiffedBatch) -> None:
        """Add a batch that was compared as if every difference were to be sent."""
        mapped, seen, ids = compared.mapped, compared.seen, compared.ids
        assert seen is not None and ids is not None  # noqa: S101, PT018 - there is a snapshot
        batch = mapped.batch
        self.final.add(seen, ids)
        self._ends[batch.file] = batch.stop
        if len(mapped.kept):
            self._must_send |= self._counts or bool((seen.unknown & ~seen.overtaken).any())
        if not mapped.rejects:
            row_range = RowRange(batch.file, batch.first, batch.stop)
            if mapped.skipped:
                self._skipped.append((row_range, counts_of(mapped.skipped)))
            for ranges in (self._overwritten, self._same)[: 1 if len(mapped.kept) else 2]:
                last = ranges[-1] if ranges else RowRange(-1)
                if (last.file, last.stop) == (batch.file, batch.first):
                    ranges[-1] = RowRange(batch.file, last.first, batch.stop)
                else:
                    ranges.append(row_range)

    def committed(self) -> list[CommittedRows]:
        """The ranges at the start and the end of each file in which nothing is sent, as committed.

        Other ranges would leave gaps, and chunks end at each of them.
        """
        ranges = self._same
        if not self._must_send and self.final.changed() == 0:
            ranges = self._overwritten
        elif self.final.reaches_back:
            ranges = []
        found = []
        for one in ranges:
            stop = one.stop or one.first
            if one.first == 1 or stop == self._ends[one.file]:
                skipped = Counter[tuple[str, str]]()
                for part, counts in self._skipped:  # a range is made of whole batches
                    if part.file == one.file and one.first <= part.first < stop:
                        for column, reason, count in counts:
                            skipped[column, reason] += count
                rows = Tally(rows=stop - one.first, unchanged=stop - one.first)
                flat = tuple((*named, count) for named, count in skipped.items())
                found.append(CommittedRows(one, rows, skipped=flat))
        return found

    def check(self, most: float, pipeline: RowPipeline) -> None:
        """Raise TooManyChangesError if more than `most` percent of the known users changed.

        Users in doubt count in neither number: they are sent anyway.
        """
        changed, known = self.final.changed(pipeline.diff_base.in_doubt), pipeline.diff_base.certain
        if changed * 100 > most * known:
            raise TooManyChangesError(
                f"{changed:,} of {known:,} known users changed, and --max-changes is {most:g}%; "
                "nothing was sent",
                hint="look at it with `propsync check`; if it is right, run with --max-changes 100%",
            )


def precheck(pipeline: RowPipeline, path: Path, kept: ChangedRows | None = None) -> Precheck | None:
    """Read, map and compare the whole source, and send nothing; `kept` gets the rows that may be sent.

    None if there is nothing to compare with, or the source can be read only once. What doesn't fit in memory
    is written beside `path`, and removed in the end.
    """
    diff_base, differ = pipeline.diff_base, pipeline.differ(looks=True)
    if differ is None or diff_base.layout is None or diff_base.snapshot is None or diff_base.full:
        return None
    if not pipeline.source.repeatable:
        return None
    if pipeline.rows.mapper.has_transform:
        kept = None  # it sees all rows of a frame
    with FinalChanges(diff_base.snapshot, diff_base.layout, path) as final:
        found = Precheck(final, diff_base.layout)
        for row_range in pipeline.rows.files():
            with closing(pipeline.compared(row_range, differ)) as batches:
                for number, compared in enumerate(batches, 1):
                    found.add(compared)
                    if kept is not None:
                        kept.add(compared)
                    if number % _TRIMMED == 0:
                        pa.default_memory_pool().release_unused()
        final.finish()
    if kept is not None and not final.reaches_back:
        kept.finish()
    return found


def check_changes(
    pipeline: RowPipeline,
    folder: StateDir,
    checkpoint: Checkpoint,
    settings: Settings,
    kept: ChangedRows,
    *,
    begun: bool,
) -> FinalChanges | None:
    """What differs after all rows, if that can be found out, and in `kept` these rows; the rest is committed.

    For a run that was `begun` by another process, all of the source is read again: it must decide as before.
    Raises TooManyChangesError if too many users changed, unless the run was begun.
    """
    began = settings.clock.now()
    if pipeline.diff_base.run_id == checkpoint.progress().run_id:
        return None  # everything is sent, and the snapshot written
    found = precheck(pipeline, folder.snapshot, kept)
    if found is None:
        return None
    most = pipeline.diff_base.most_changes(pipeline.job, settings.max_changes)
    if most is not None and most < 100 and not begun:
        found.check(most, pipeline)
    early = [] if begun or settings.limit is not None else found.committed()
    checkpoint.commit(early, Tally(), settings.clock.now() - began)
    checkpoint.keep_unchanged(bytes(found.final.unchanged))
    return found.final


# --- warnings ---------------------------------------------------------------------------------------------


class LargeNumbers:
    """Warns of each property with whole numbers that a browser shows with other digits, once."""

    def __init__(self, warn: Callable[[Warned], None]) -> None:
        self._warn = warn
        self._warned: frozenset[str] = frozenset()

    def look(self, chunk: Chunk) -> None:
        """Check a chunk that is to be sent."""
        for name in sorted(chunk.large - self._warned):
            text = (
                f"{name}: whole numbers above {amplitude.MAX_SAFE_INTEGER:,} are sent as they are, but "
                "browsers show them with other digits; as text (`type: string`) they keep them"
            )
            self._warn(Warned("large_numbers", text))
        self._warned |= chunk.large


def job_warnings(job: Job) -> list[Warned]:
    """Warnings about a job, before it is run."""
    found = []
    identification = job.identification
    names = ", ".join(increments_of(job))
    if names and not amplitude.TRANSPORT_RULES[job.destination.transport].counts_once:
        text = (
            f"{names}: what is sent again after a lost answer may count twice; over `transport: batch` it "
            "counts once"
        )
        found.append(Warned("unrepeatable", text))
    if Subject.of(identification.fields).link is not None:
        found.append(Warned("linked", "user_id and device_id are both mapped: Amplitude links them for good"))
    return found


def source_warnings(job: Job, source: Source) -> list[Warned]:
    """Warnings about a source, before a job is run on it."""
    found = list(source.warnings)
    found += (Warned("header", text) for text in source.remarks(job.identification.columns()))
    typed = [file for file, known in enumerate(source.files) if known.format in {"parquet", "arrow"}]
    for name in Subject.of(job.identification.fields).fields:
        spec = job.identification.fields[name]
        if spec.column is not None and not spec.transform:
            files = (file for file in typed if spec.column in source.names(file))
            if any(holds_bytes(source.schema(file).field(spec.column).type) for file in files):
                text = (
                    f"{name}: column {spec.column} holds bytes, which are sent as hexadecimal digits; "
                    "say so with `transform: [hex]`, or with `transform: [uuid]` if your other data has UUIDs"
                )
                found.append(Warned("binary_id", text))
    return found
