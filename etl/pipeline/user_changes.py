"""Which users of an export are new, changed or gone, compared with the snapshot of its destination.

A plan counts new and changed users, by property and in bounded memory. With `absent: unset` the properties of
users who left are unset. The snapshot has only their keys, so a file beside it keeps their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial, reduce
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .. import amplitude
from ..arrow.layout import valid_mask, value_columns
from ..checkpoint import Checkpoint, StateDir
from ..errors import TooManyChangesError
from ..model import Batch, Chunk, Mapped
from ..run_events import Warned
from ..snapshot import (
    BitSet,
    DiffedBatch,
    DistinctUsers,
    FieldGroup,
    KnownIds,
    KnownIdsWriter,
    SeenUsers,
    add_unchanged,
)
from ..subject import Subject, user_keys
from ..tally import RowRange
from ..text import counted
from .diff_base import DiffBase, open_ids_writer
from .job_source import JobSource
from .prefetch import prefetched
from .row_pipeline import HeldOf, RowPipeline

_USER_EXAMPLES: Final = 3  # of users whose value of a property changes


# --- users who are new or changed -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Example:
    """A user and the value to be sent. The value sent before is unknown, only that it was another."""

    user: str
    new: object
    old: str = "unknown"


@dataclass(slots=True)
class Change:
    """How many users would get another value of a property (or family, or group).

    `changed`: known users for whom it differs. `new`: new users who have it.
    """

    changed: int = 0
    new: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True)
class Changed:
    """Users of an export, each counted once: `new` ones, known ones who `changed`, and all others.

    A user of whom only an increment is sent has not changed.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    by_property: dict[str, Change] = field(default_factory=dict)


@dataclass(slots=True)
class _GroupCount:
    group: FieldGroup
    known: BitSet  # the entries of users for whom it differs
    examples: list[Example] = field(default_factory=list)


class UserCount:
    """Counts the users of batches as they are compared: those of rows that describe an update.

    Enter `fresh`, the users whom the snapshot doesn't know, before the first batch. What doesn't fit in
    memory is written beside `path`.
    """

    def __init__(self, diff_base: DiffBase, path: Path, source: JobSource) -> None:
        layout, n = diff_base.layout, 0 if diff_base.snapshot is None else len(diff_base.snapshot)
        self._snapshot, self._source = diff_base.snapshot, source
        self._compares = layout is not None
        self._counted = layout.counted if layout else np.zeros(0, np.bool_)
        groups = layout.compared if layout and layout.mode == "property" else ()
        self._groups = [_GroupCount(group, BitSet(n)) for group in groups]
        self.fresh = DistinctUsers(path, len(groups))
        self._seen, self._changed = BitSet(n), BitSet(n)

    def add(self, compared: DiffedBatch) -> None:
        """Count a batch. Rows that a later run has overtaken are rejects."""
        seen = compared.seen
        if seen is None:
            keys = user_keys(compared.mapped.identifications)[:, 0]
            nowhere = np.full(len(keys), -1, dtype=np.int64)
            positions = nowhere if self._snapshot is None else self._snapshot.find(keys)
            there = changed = np.ones(len(keys), dtype=np.bool_)
        else:
            keys, positions = seen.keys[:, 0], seen.positions[:, 0]
            there, changed = ~seen.overtaken, seen.changed(self._counted)
        self._seen.add(positions[there])
        self._changed.add(positions[there & changed])
        left = np.arange(len(keys)) if compared.rows is None else compared.rows
        fresh, users = positions[left] < 0, positions[left]
        given = np.zeros((len(left), len(self._groups)), np.bool_)
        columns = dict(value_columns(compared.mapped.identifications))
        for number, one in enumerate(self._groups):
            for path in columns.keys() & one.group.paths:
                given[:, number] |= valid_mask(columns[path])
        self.fresh.add(keys[left[fresh]], given[fresh])
        for one, changes in zip(self._groups, compared.changes.T, strict=False):  # no columns: none compared
            rows = np.flatnonzero(changes)
            one.known.add(users[rows])
            if len(rows) and len(one.examples) < _USER_EXAMPLES:
                self._add_examples(one, compared.mapped.identifications, rows, users[rows])

    def total(self) -> tuple[int, Changed | None]:
        """How many users there are, and how many of them are new or changed; None if nothing is compared."""
        new, new_by_group = self.fresh.count()
        seen, changed = len(self._seen), len(self._changed)
        found = Changed(new, changed, seen - changed)
        for one, fresh in zip(self._groups, new_by_group, strict=True):
            if len(one.known) or fresh:
                found.by_property[one.group.name] = Change(len(one.known), fresh, one.examples)
        return new + seen, found if self._compares else None

    def _add_examples(
        self, one: _GroupCount, sent: pa.RecordBatch, rows: NDArray[np.int64], users: NDArray[np.int64]
    ) -> None:
        """Add examples of known users of whom a group changes; the last row of a user counts.

        The group changes in `rows` (shape (k,)) of what is `sent`, which are of `users`.
        """
        last = rows[::-1][np.unique(users[::-1], return_index=True)[1]]
        for found in self._source.decoded(sent.take(pa.array(np.sort(last)[:_USER_EXAMPLES]))):
            user = str(found[Subject.of(found).lead])
            if len(one.examples) < _USER_EXAMPLES and user not in {example.user for example in one.examples}:
                one.examples.append(Example(user, _value(one.group, found)))


def _value(group: FieldGroup, found: Any) -> object:
    """The value of a group in an identification; a dict if it has several fields, or "unset"."""
    values: dict[str, Any] = {}
    for path in group.paths:
        if path[1:2] != ("$unset",):
            values[path[-1]] = reduce(lambda part, name: (part or {}).get(name), path, found)
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return "unset"
    return given if len(values) > 1 else next(iter(given.values()))


# --- users who left ---------------------------------------------------------------------------------------

# In place of a file's name, since the rows of users who left are in no file.
_SOURCE: Final = "users who left"


class RemovedUsers:
    """The users who left, in the order of the snapshot; each counts as a row behind the last file.

    `absent` gives their ids, in batches of the same rows each time; there are `count` of them. `unread` rows
    of the export name no readable user, so those could be among the users who left. `spared` users would have
    left if the export named anybody at all; it doesn't. They are `sought` if the job unsets them and the
    source can show who left.
    """

    def __init__(
        self,
        pipeline: RowPipeline,
        absent: Callable[[], Iterator[pa.RecordBatch]] | None = None,
        *,
        named: int = 0,
        unread: int = 0,
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
        """The warnings before properties are unset."""
        if self.spared:
            known = counted(self.spared, "user is", "users are")
            yield Warned("nobody", f"the export names no user, so nobody is unset; {known} known")
        if self.count:
            absent = counted(self.count, "user isn't", "users aren't")
            yield Warned("absent", f"{absent} in the export: their properties are unset")
        if self.count and self.unread:
            unread = counted(self.unread, "row names", "rows name")
            yield Warned("unread", f"{unread} no readable user; such a user counts as one who left")

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
        batch = Batch(_SOURCE, file, first, first + n, np.arange(first, first + n, dtype=np.int64), ids)
        own = ids.select(Subject.of(identification.fields).fields)
        names = [name for properties in identification.operators.values() for name in properties]
        unset = pa.StructArray.from_arrays([pa.repeat(amplitude.UNSET_VALUE, n)] * len(names), names=names)
        operators = pa.StructArray.from_arrays([unset], names=["$unset"])
        identifications = own.append_column("user_properties", operators)
        fingerprints = np.zeros((n, len(layout.names)), dtype=layout.dtype)
        return Mapped(batch, np.arange(n), identifications, (), fingerprints=fingerprints)


@contextmanager
def find_removed_users(pipeline: RowPipeline, folder: StateDir, *, record: bool) -> Iterator[RemovedUsers]:
    """Find the users who left; none if the job keeps them, or if the source can't have all users.

    `record`: the ids of the export are kept, for when these users leave.
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
        open_ids_writer(folder, header) if record else nullcontext() as writer,
        closing(prefetched(pipeline.rows.read_all())) as batches,
    ):
        for batch in batches:
            ids = pipeline.rows.mapper.ids(batch)
            named += ids.num_rows
            unread += batch.stop - batch.first - ids.num_rows
            if writer is not None:
                writer.add(ids)
            if seen is not None:
                seen.see(user_keys(ids))
        if writer is not None:
            writer.finish()
    with KnownIds.open(folder.ids) or nullcontext() as known:
        absent = None if seen is None or known is None else partial(seen.absent, known)
        yield RemovedUsers(pipeline, absent, named=named, unread=unread)


# --- notes of a source that can be read only once ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamNotes:
    """Notes taken while a source that can be read only once is sent: both None for other sources.

    They are the entries found `unchanged`, and with `absent: unset` all `ids`.
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
    """Open the notes of a run."""
    diff_base, once = pipeline.diff_base, not pipeline.source.repeatable
    snapshot = diff_base.snapshot if once and not diff_base.full else None
    header = diff_base.header(pipeline.job, pipeline.run_id)
    keeps_ids = once and pipeline.job.changes.absent == "unset"
    with open_ids_writer(folder, header) if keeps_ids else nullcontext() as ids:
        yield StreamNotes(None if snapshot is None else BitSet(len(snapshot)), ids)
