"""Users who left: the snapshot knows them, and the export doesn't. With `absent: unset` they are unset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etl import amplitude
from etl.checkpoint import StateFolder
from etl.errors import TooManyChangesError
from etl.job import Job
from etl.keys import user_keys
from etl.model import Batch, Chunk, Mapped, RowRange, Warned
from etl.pipeline.ahead import read_ahead
from etl.pipeline.production import HeldOf, Production, held_of_none, left_of
from etl.snapshot import Absent, IdsRenewal, KnownIds, Presence

# What stands in place of a file's name, since these rows are in none.
SOURCE: Final = "users who left"


@dataclass(frozen=True, slots=True)
class Leavers:
    """The users who left, in the order of the snapshot; each counts as a row behind the last file.

    There are `count` of them. `unread` rows of the export name no user that can be read, so those could be
    among the leavers. `spared` users would have left if the export named anybody at all; it doesn't.
    """

    production: Production
    presence: Presence | None
    ids: KnownIds | None
    unread: int
    count: int
    spared: int = 0

    def check(self, most: float | None) -> None:
        """Raise TooManyChangesError if more than `most` percent of the known users left."""
        # How many users there are is only about known where there are devices, too.
        count, known = self.count, max(self.count, self.production.diff_base.users)
        if most is not None and count * 100 > most * known:
            raise TooManyChangesError(
                f"{count:,} of {known:,} known users aren't in the export, and --max-absent is {most:g}%; "
                "nothing was sent",
                hint="is the export whole? If these users left, run with --max-absent 100%",
            )

    def warnings(self) -> Iterator[Warned]:
        """What a user should know before their properties are unset."""
        if self.spared:
            words = f"the export names nobody, so nobody is unset; {self.spared:,} users are known"
            yield Warned("nobody", words)
        if self.count:
            yield Warned("absent", f"{self.count:,} users aren't in the export: their properties are unset")
        if self.count and self.unread:
            words = f"{self.unread:,} rows name no readable user; whoever is meant counts as one who left"
            yield Warned("unread", words)

    def chunks(self, gaps: Iterable[RowRange], held: HeldOf = held_of_none) -> Iterator[list[Chunk]]:
        """The requests that unset the job's properties for the leavers in these ranges."""
        for gap in gaps:
            encoder = self.production.encoder(gap.first)
            for mapped in self._mapped(gap):
                yield left_of(encoder.feed(mapped), held(gap))
            yield left_of(encoder.finish(), held(gap))

    def _mapped(self, gap: RowRange) -> Iterator[Mapped]:
        row = 1
        for absent in _absent(self.presence, self.ids):
            stop = row + len(absent.keys)
            low, high = max(row, gap.first), min(stop, gap.stop or stop)
            if low < high:
                yield self._unsetting(absent.ids.slice(low - row, high - low), gap.file, low)
            row = stop

    def _unsetting(self, ids: pa.RecordBatch, file: int, first: int) -> Mapped:
        job, layout = self.production.job, self.production.diff_base.layout
        assert layout is not None  # noqa: S101 - nobody leaves where nothing is compared
        numbers = np.arange(first, first + ids.num_rows, dtype=np.int64)
        batch = Batch(SOURCE, file, first, first + ids.num_rows, numbers, ids)
        own = ids.select([name for name in amplitude.ID_FIELDS if name in job.identification.fields])
        columns = [*own.columns, _unset(job, ids.num_rows)]
        identifications = pa.RecordBatch.from_arrays(columns, names=[*own.schema.names, "user_properties"])
        fingerprints = np.zeros((ids.num_rows, len(layout.names)), dtype=layout.dtype)
        return Mapped(batch, np.arange(ids.num_rows), identifications, (), fingerprints=fingerprints)


def _absent(presence: Presence | None, ids: KnownIds | None) -> Iterator[Absent]:
    if presence is not None and ids is not None:
        yield from presence.absent(ids)


def _unset(job: Job, n: int) -> pa.Array:
    """`{"$unset": {property: "-", ...}}` for all properties of the job, n times."""
    names = [name for properties in job.identification.operators.values() for name in properties]
    value = pa.array([amplitude.UNSET_VALUE] * n, pa.string())
    unset = pa.StructArray.from_arrays([value] * len(names), names=names)
    return pa.StructArray.from_arrays([unset], names=["$unset"])


@contextmanager
def roll_call(production: Production, folder: StateFolder, *, record: bool) -> Iterator[Leavers]:
    """Look who is in the export; `record` their ids, as a snapshot can't tell whom a key belongs to."""
    snapshot = production.diff_base.snapshot
    presence = Presence(snapshot) if snapshot is not None else None
    with KnownIds.open(folder.ids) or nullcontext() as old:
        stamp = production.diff_base.stamp(production.job, production.run_id)
        with IdsRenewal(folder.ids, stamp, old=old) if record else nullcontext() as renewal:
            named, unread = _call(production, presence, renewal)
    with KnownIds.open(folder.ids) or nullcontext() as ids:
        count = sum(len(absent.keys) for absent in _absent(presence, ids))
        if named:
            yield Leavers(production, presence, ids, unread, count)
        else:
            yield Leavers(production, None, None, unread, 0, spared=count)


def keep_ids(production: Production, folder: StateFolder) -> None:
    """Keep the ids of a source that is not all of the users, so that these can be told when they leave."""
    stamp = production.diff_base.stamp(production.job, production.run_id)
    with KnownIds.open(folder.ids) or nullcontext() as old, IdsRenewal(folder.ids, stamp, old=old) as renewal:
        _call(production, None, renewal)


def _call(production: Production, presence: Presence | None, renewal: IdsRenewal | None) -> tuple[int, int]:
    """Go through the whole source for its ids; how many rows have one, and how many none that can be read."""
    named = unread = 0
    for file in production.files():
        with closing(read_ahead(production.read(file))) as batches:
            for batch in batches:
                ids = production.mapper.ids(batch)
                named += ids.num_rows
                unread += batch.stop - batch.first - ids.num_rows
                if renewal is not None:
                    renewal.add(ids)
                if presence is not None:
                    presence.see(user_keys(ids))
    if renewal is not None:
        renewal.finish()
    return named, unread


def forget_ids(production: Production, folder: StateFolder, keys: Iterable[NDArray[np.uint64]]) -> None:
    """Keep no ids of users who left, now that nothing is to be unset for them."""
    stamp = production.diff_base.stamp(production.job, production.run_id)
    with KnownIds.open(folder.ids) or nullcontext() as old, IdsRenewal(folder.ids, stamp, old=old) as renewal:
        for some in keys:
            renewal.forget(some)
        renewal.finish()


__all__ = ["Leavers", "forget_ids", "keep_ids", "roll_call"]
