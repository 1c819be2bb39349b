"""A look at the whole source before anything is sent: what changed, and what needn't be read again."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

from etl.errors import TooManyChangesError
from etl.model import CommittedRows, RowRange, SkippedCounts, Tally, counts_of
from etl.pipeline.production import Production
from etl.snapshot import Bits, Compared, Differ, FinalChanges, Layout, Snapshot


class Survey:
    """What differs from a snapshot once all rows had their say; and where nothing is to be done.

    `final` is not to be asked before the whole source was added.
    """

    def __init__(self, final: FinalChanges, layout: Layout) -> None:
        self.final = final
        self._counts = any(bundle.unrepeatable for bundle in layout.bundles)
        self._sends = False  # a row that goes whatever the others say
        self._idle: list[RowRange] = []  # in which nothing differs and nothing is handed back
        self._pending: list[RowRange] = []  # the same, but that something differs, perhaps not in the end
        self._ends: dict[int, int] = {}
        self._skipped: list[tuple[RowRange, SkippedCounts]] = []  # of batches that have some

    def add(self, gap: RowRange, compared: Compared) -> None:
        """Take a batch of a range, compared as if every difference were to be sent."""
        batch, seen, ids = compared.mapped.batch, compared.seen, compared.ids
        assert seen is not None and ids is not None  # noqa: S101, PT018 - a survey is of what is compared
        self.final.add(seen, ids)
        self._ends[gap.file] = batch.stop
        if len(compared.mapped.kept):
            self._sends |= self._counts or bool((seen.unknown & ~seen.overtaken).any())
        if not compared.mapped.rejects:
            row_range = RowRange(gap.file, batch.first, batch.stop)
            _extend(self._pending, row_range)
            if compared.mapped.skipped:
                self._skipped.append((row_range, counts_of(compared.mapped.skipped)))
            if not len(compared.mapped.kept):
                _extend(self._idle, row_range)

    def committed(self) -> list[CommittedRows]:
        """The idle ranges at the beginning and the end of each file, committed.

        Others would leave gaps, and chunks end at each of them.
        """
        idle = self._idle
        if not self._sends and self.final.changed() == 0:
            idle = self._pending
        elif self.final.reaches_back:
            idle = []
        outer = [one for one in idle if one.first == 1 or one.stop == self._ends[one.file]]
        rows = [(row_range, (row_range.stop or row_range.first) - row_range.first) for row_range in outer]
        return [
            CommittedRows(row_range, Tally(rows=n, unchanged=n), skipped=self._skipped_in(row_range))
            for row_range, n in rows
        ]

    def _skipped_in(self, whole: RowRange) -> SkippedCounts:
        """The values that were left out of the rows of a range, which is made of whole batches."""
        counts = Counter[tuple[str, str]]()
        for part, skipped in self._skipped:
            inside = part.file == whole.file and whole.first <= part.first < (whole.stop or part.stop or 0)
            for column, reason, count in skipped if inside else ():
                counts[column, reason] += count
        return tuple((column, reason, count) for (column, reason), count in counts.items())

    def check(self, most: float, known: int, doubtful: Bits | None = None) -> None:
        """Raise TooManyChangesError if more than `most` percent of the `known` users changed.

        Users in doubt are in neither number: they are sent anyway, whatever the export says of them.
        """
        changed = self.final.changed(doubtful)
        if changed * 100 > most * known:
            raise TooManyChangesError(
                f"{changed:,} of {known:,} known users changed, and --max-changes is {most:g}%; "
                "nothing was sent",
                hint="look at it with `propsync check`; if it is right, run with --max-changes 100%",
            )


def surveyed(
    production: Production, differ: Differ, snapshot: Snapshot, layout: Layout, path: Path
) -> Survey:
    """Read, map and compare the whole source; encode and send nothing.

    What memory isn't for is written beside `path`, and gone in the end.
    """
    with FinalChanges(snapshot, layout, path) as final:
        survey = Survey(final, layout)
        for file in production.files():
            with closing(production.compared(file, differ)) as batches:
                for compared in batches:
                    survey.add(file, compared)
        final.finish()
    return survey


def _extend(row_ranges: list[RowRange], row_range: RowRange) -> None:
    """Add a range, as one with the last where it comes right behind that."""
    last = row_ranges[-1] if row_ranges else None
    if last is not None and (last.file, last.stop) == (row_range.file, row_range.first):
        row_ranges[-1] = RowRange(row_range.file, last.first, row_range.stop)
    else:
        row_ranges.append(row_range)
