"""Users who left: the snapshot has them, and the export doesn't. With `absent: unset` they are unset.

A snapshot has only keys of users, so their ids are kept in a file beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from .. import amplitude
from ..checkpoint import Checkpoint, StateDir
from ..errors import TooManyChangesError
from ..model import Batch, Chunk, Mapped, RowRange
from ..run_events import Warned
from ..snapshot import BitSet, DiffedBatch, KnownIds, KnownIdsWriter, SeenUsers, add_unchanged
from ..subject import Subject, user_keys
from .diff_base import renewed_ids
from .prefetch import prefetched
from .row_pipeline import HeldOf, RowPipeline

# In place of a file's name, since these rows are in no file.
SOURCE: Final = "users who left"
# Gives the ids of the users who left, in batches of the same rows each time.
ReadAbsent: TypeAlias = Callable[[], Iterator[pa.RecordBatch]]


class RemovedUsers:
    """The users who left, in the order of the snapshot; each counts as a row behind the last file.

    There are `count` of them. `unread` rows of the export name no readable user, so those could be among the
    users who left. `spared` users would have left if the export named anybody at all; it doesn't. They are
    `sought` if the job unsets them and the source can show who left.
    """

    def __init__(
        self, pipeline: RowPipeline, absent: ReadAbsent | None = None, *, named: int = 0, unread: int = 0
    ) -> None:
        self.sought = absent is not None
        self._pipeline, self._absent = pipeline, absent or (lambda: iter(()))
        found: int = sum(ids.num_rows for ids in self._absent())
        self.count, self.spared, self.unread = (found, 0, unread) if named else (0, found, unread)

    def check(self, most: float | None) -> None:
        """Raise TooManyChangesError if more than `most` percent of the known users left."""
        # The number of users is an estimate where there are devices, too.
        count, known = self.count, max(self.count, self._pipeline.diff_base.users)
        if most is not None and count * 100 > most * known:
            raise TooManyChangesError(
                f"{count:,} of {known:,} known users aren't in the export, and --max-absent is {most:g}%; "
                "nothing was sent",
                hint="is the export whole? If these users left, run with --max-absent 100%",
            )

    def warnings(self) -> Iterator[Warned]:
        """What a user should know before properties are unset."""
        if self.spared:
            text = f"the export names nobody, so nobody is unset; {self.spared:,} users are known"
            yield Warned("nobody", text)
        if self.count:
            yield Warned("absent", f"{self.count:,} users aren't in the export: their properties are unset")
        if self.count and self.unread:
            text = f"{self.unread:,} rows name no readable user; such a user counts as one who left"
            yield Warned("unread", text)

    def chunks(self, ranges: Iterable[RowRange], held: HeldOf = lambda _: None) -> Iterator[list[Chunk]]:
        """The requests that unset the job's properties for the users in these ranges."""
        for row_range in ranges:
            yield from self._pipeline.encoded(row_range, self._mapped(row_range), held(row_range))

    def _mapped(self, row_range: RowRange) -> Iterator[Mapped]:
        row = 1
        for absent in self._absent() if self.count else ():
            stop = row + absent.num_rows
            low, high = max(row, row_range.first), min(stop, row_range.stop or stop)
            if low < high:
                yield self._unsetting(absent.slice(low - row, high - low), row_range.file, low)
            row = stop

    def _unsetting(self, ids: pa.RecordBatch, file: int, first: int) -> Mapped:
        """Rows that unset all properties of the job: `{"$unset": {property: "-", ...}}`."""
        identification, layout = self._pipeline.job.identification, self._pipeline.diff_base.layout
        assert layout is not None  # noqa: S101 - nobody leaves where nothing is compared
        n = ids.num_rows
        batch = Batch(SOURCE, file, first, first + n, np.arange(first, first + n, dtype=np.int64), ids)
        own = ids.select(Subject.of(identification.fields).fields)
        names = [name for properties in identification.operators.values() for name in properties]
        unset = pa.StructArray.from_arrays([pa.repeat(amplitude.UNSET_VALUE, n)] * len(names), names=names)
        operators = pa.StructArray.from_arrays([unset], names=["$unset"])
        identifications = own.append_column("user_properties", operators)
        fingerprints = np.zeros((n, len(layout.names)), dtype=layout.dtype)
        return Mapped(batch, np.arange(n), identifications, (), fingerprints=fingerprints)


@contextmanager
def find_removed_users(pipeline: RowPipeline, folder: StateDir, *, record: bool) -> Iterator[RemovedUsers]:
    """The users who left; nobody if the job keeps them, or if the source can't have all users.

    `record`: ids are kept, so that users who leave later are known by id.
    """
    source, snapshot = pipeline.source, pipeline.diff_base.snapshot
    everybody = not source.holds_rejects
    if pipeline.job.changes.absent == "keep" or not source.repeatable or not (record or everybody):
        yield RemovedUsers(pipeline)
        return
    seen = SeenUsers(snapshot) if snapshot is not None and everybody else None
    named = unread = 0
    header = pipeline.diff_base.header(pipeline.job, pipeline.run_id)
    with (
        renewed_ids(folder, header) if record else nullcontext() as renewal,
        closing(prefetched(pipeline.rows.read_all())) as batches,
    ):
        for batch in batches:
            ids = pipeline.rows.mapper.ids(batch)
            named += ids.num_rows
            unread += batch.stop - batch.first - ids.num_rows
            if renewal is not None:
                renewal.add(ids)
            if seen is not None:
                seen.see(user_keys(ids))
        if renewal is not None:
            renewal.finish()
    with KnownIds.open(folder.ids) or nullcontext() as known:
        absent = None if seen is None or known is None else partial(seen.absent, known)
        yield RemovedUsers(pipeline, absent, named=named, unread=unread)


@dataclass(frozen=True, slots=True)
class StreamNotes:
    """What is noted of a source that can be read only once, while its rows are sent.

    These are the entries found `unchanged`, and with `absent: unset` all `ids`. Of other sources nothing is
    noted.
    """

    unchanged: BitSet | None
    ids: KnownIdsWriter | None

    def add(self, compared: DiffedBatch) -> None:
        """Note a batch."""
        if self.unchanged is not None and compared.seen is not None:
            add_unchanged(self.unchanged, compared.seen)
        if self.ids is not None:
            self.ids.add(compared.mapped.identifications if compared.ids is None else compared.ids)

    def keep(self, checkpoint: Checkpoint) -> None:
        """Write the notes, after the last batch. Raises StateError."""
        if self.unchanged is not None:
            checkpoint.keep_unchanged(bytes(self.unchanged))
        if self.ids is not None:
            self.ids.finish()


@contextmanager
def open_notes(pipeline: RowPipeline, folder: StateDir) -> Iterator[StreamNotes]:
    """The notes of a run on its source, as long as they can be written."""
    diff_base, once = pipeline.diff_base, not pipeline.source.repeatable
    snapshot = diff_base.snapshot if once and not diff_base.full else None
    header = diff_base.header(pipeline.job, pipeline.run_id)
    keeps_ids = once and pipeline.job.changes.absent == "unset"
    with renewed_ids(folder, header) if keeps_ids else nullcontext() as ids:
        yield StreamNotes(None if snapshot is None else BitSet(len(snapshot)), ids)
