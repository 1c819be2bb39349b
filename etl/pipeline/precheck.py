"""The look before sending: what differs from the snapshot once all rows of a source are applied.

On most nights few rows differ. They are kept as the source has them, so that the pass that sends maps,
compares and encodes only these; the rows left out count as unchanged.
"""

from __future__ import annotations

import pickle
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

import numpy as np
import pyarrow as pa

from ..arrow.json_text import is_json
from ..arrow.layout import plain_rows, plain_schema
from ..errors import TooManyChangesError
from ..mapper import join_batches
from ..model import Batch, CommittedRows, counts_of
from ..reader.file_reader import RowSpans, some_rows
from ..snapshot import DiffedBatch, FinalChanges, Layout
from ..tally import RowRange, Tally
from .row_pipeline import DeviceOwners, RowPipeline

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
        self._same: list[CommittedRows] = []  # nothing differs, and nothing is rejected
        self._overwritten: list[CommittedRows] = []  # the same, or a later row overwrites what differs

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
            _extend(self._overwritten, rows)
            if not len(mapped.kept):
                _extend(self._same, rows)

    def committed(self) -> list[CommittedRows]:
        """The ranges at the start and the end of each file in which nothing is sent, as committed.

        Other ranges would leave gaps, and chunks end at each of them.
        """
        ranges = self._same
        if not self._must_send and self.final.changed() == 0:
            ranges = self._overwritten
        elif self.final.reaches_back:
            ranges = []
        places = ((rows, rows.row_range) for rows in ranges)
        return [rows for rows, one in places if one.first == 1 or one.stop == self._ends[one.file]]

    def check(self, most: float | None, pipeline: RowPipeline) -> None:
        """Raise TooManyChangesError if more than `most` percent of the known users changed; None for any.

        Users in doubt count in neither number: they are sent anyway.
        """
        changed, known = self.final.changed(pipeline.diff_base.in_doubt), pipeline.diff_base.certain
        if most is not None and changed * 100 > most * known:
            raise TooManyChangesError(
                f"{changed:,} of {known:,} known users changed, and --max-changes is {most:g}%; "
                "nothing was sent",
                hint="see the changes with `propsync check`; if they are right, run with --max-changes 100%",
            )


def _extend(ranges: list[CommittedRows], rows: CommittedRows) -> None:
    """Append rows; they extend the last range if they follow it directly."""
    last, here = ranges[-1].row_range if ranges else RowRange(-1), rows.row_range
    if (last.file, last.stop) == (here.file, here.first):
        before, skipped = ranges.pop(), Counter[tuple[str, str]]()
        for column, reason, count in (*before.skipped, *rows.skipped):
            skipped[column, reason] += count
        counts = tuple((*named, count) for named, count in skipped.items())
        joined = replace(here, first=last.first)
        rows = CommittedRows(joined, before.tally + rows.tally, skipped=counts)
    ranges.append(rows)


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
    mapped = pipeline.rows.mapped_all(coded=True)
    with (
        FinalChanges(diff_base.snapshot, diff_base.layout, path) as final,
        closing(pipeline.compared(mapped, differ)) as batches,
    ):
        found = Precheck(final, diff_base.layout)
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


# --- the rows that may be sent ----------------------------------------------------------------------------

# Kept rows of several batches are joined up to this size, as mapping a batch has a fixed cost.
_TOGETHER_ROWS: Final = 16_384
_TOGETHER_BYTES: Final = 4 << 20
_MOST_BYTES: Final = 256 << 20


class ChangedRows(AbstractContextManager["ChangedRows"]):
    """Takes all batches of a source, compared in source order as if every difference were to be sent.

    Use it as a context manager. `complete` says whether it has all rows that may be sent. It has none where
    they take more than 256 MB, where a file beside `path` can't be written, and where other rows matter, too.
    They are in a file without a name, which is gone with the process.
    """

    def __init__(self, path: Path) -> None:
        self.complete = False
        self._path = path
        self._keeps = True
        self._together: list[Batch] = []
        self._rows = self._bytes = 0  # of `_together`
        self._schema: pa.Schema | None = None  # of the rows that these were taken from
        self._file: IO[bytes] | None = None
        self._places: list[tuple[int, int]] = []  # of each piece: the source's file, the place in `_file`
        self._owners = DeviceOwners()  # by rows that are left out

    def __exit__(self, *_: object) -> None:
        self.drop()

    @property
    def size(self) -> int:
        """About how many bytes the kept rows take, once all were taken."""
        return 0 if self._file is None else self._file.tell()

    def drop(self) -> None:
        """Keep nothing: the source has to be read again."""
        self.complete = self._keeps = False
        self._together, self._owners = [], DeviceOwners()
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def add(self, compared: DiffedBatch) -> None:
        """Take the next batch; of its rows those are kept that are sent, rejected or lack a skipped value."""
        mapped, seen, places = compared.mapped, compared.seen, compared.mapped.kept
        batch = mapped.batch
        if not self._keeps or seen is None or compared.rows is None:
            return
        if paired := seen.keys.shape[1] == 2:
            self._owners.learn(np.delete(seen.keys, compared.rows, axis=0))
        linked = self._owners.users(seen.keys[compared.rows]) is not None
        # What type such columns have depends on which of their values come together.
        typeless = batch.originals is None and any(map(is_json, batch.rows.schema.types))
        if linked or typeless:
            self.drop()
            return
        if mapped.rejects or mapped.skipped:
            rows = [np.array([reject.row for reject in mapped.rejects], np.int64), batch.numbers[places]]
            rows += [some.rows for some in mapped.skipped]
            places = np.flatnonzero(np.isin(batch.numbers, np.concatenate(rows)))
        last, schema = self._together[-1] if self._together else None, plain_schema(batch.rows.schema)
        other = last is not None and (last.file, self._schema) != (batch.file, schema)
        if other or (last is not None and paired and len(places)):
            self._write()  # the users of devices are learned batch by batch
        elif last is not None and not len(places) and not batch.rejects:
            self._together[-1] = replace(last, stop=batch.stop)
            return
        kept = some_rows(batch, places)
        self._schema, kept = schema, replace(kept, rows=plain_rows(kept.rows))
        self._together.append(kept)
        self._rows += len(places) + len(kept.rejects)
        self._bytes += kept.rows.nbytes
        if self._rows >= _TOGETHER_ROWS or self._bytes >= _TOGETHER_BYTES:
            self._write()

    def finish(self) -> None:
        """All batches were taken."""
        self._owners = DeviceOwners()
        if self._together:
            self._write()
        self.complete = self._keeps

    def batches(self, ranges: Sequence[RowRange]) -> Iterator[Batch]:
        """What is kept of ascending ranges of one file, in batches that tile them."""
        spans = RowSpans([(one.first, one.stop) for one in ranges])
        for file, place in self._places:
            if file == ranges[0].file and self._file is not None:
                self._file.seek(place)
                piece: Batch = pickle.load(self._file)  # noqa: S301 - nobody else can open the file
                for low, high in spans.within(piece.first, piece.stop):
                    yield piece.between(low, high)

    def _write(self) -> None:
        """Write what was gathered as one piece."""
        piece, self._together = join_batches(self._together), []
        self._rows = self._bytes = 0
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115 - closed on exit
            self._places.append((piece.file, self._file.tell()))
            pickle.dump(piece, self._file, protocol=5)
            self._file.flush()  # a worker process has the file, but not what waits for it
            if self._file.tell() > _MOST_BYTES:
                self.drop()
        except OSError:
            self.drop()
