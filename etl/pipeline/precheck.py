"""The look before sending: what differs from the snapshot once all rows of a source are applied."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from ..checkpoint import Checkpoint, StateDir
from ..errors import TooManyChangesError
from ..model import CommittedRows, RowRange, Tally, counts_of
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
        self._ends: dict[int, int] = {}
        # Batches without rejects, and whether nothing differs in them: else a later row may overwrite it.
        self._quiet: list[tuple[CommittedRows, bool]] = []

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
            row_range, n = RowRange(batch.file, batch.first, batch.stop), batch.stop - batch.first
            rows = CommittedRows(row_range, Tally(rows=n, unchanged=n), skipped=counts_of(mapped.skipped))
            self._quiet.append((rows, len(mapped.kept) == 0))

    def committed(self) -> list[CommittedRows]:
        """The ranges at the start and the end of each file in which nothing is sent, as committed.

        Other ranges would leave gaps, and chunks end at each of them.
        """
        none = not self._must_send and self.final.changed() == 0
        if self.final.reaches_back and not none:
            return []
        found: list[CommittedRows] = []
        for rows, same in self._quiet:
            if same or none:
                last, here = found[-1].row_range if found else RowRange(-1), rows.row_range
                if (last.file, last.stop) == (here.file, here.first):
                    before = found.pop()
                    joined = replace(here, first=last.first), before.tally + rows.tally
                    rows = CommittedRows(*joined, skipped=before.skipped + rows.skipped)
                found.append(rows)
        ranges = ((rows, rows.row_range) for rows in found)
        return [rows for rows, one in ranges if one.first == 1 or one.stop == self._ends[one.file]]

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
