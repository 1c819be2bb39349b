"""The look before sending: what differs from the snapshot once all rows of a source are applied."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Final

import pyarrow as pa

from ..checkpoint import Checkpoint, StateDir
from ..errors import TooManyChangesError
from ..model import CommittedRows, RowRange, SkippedCounts, Tally, counts_of
from ..snapshot import DiffedBatch, FinalChanges, Layout
from .changed_rows import ChangedRows
from .row_pipeline import RowPipeline
from .settings import Settings

# After so many batches free memory is given back: what is kept of each cuts it up more and more.
_TRIMMED: Final = 64


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
