"""Stages 1 to 4, READ, MAP, DIFF and ENCODE: rows of a source become chunks, batch by batch.

A row that names only a device waits for the rows of the device's user, if an earlier row linked the two
(`DeviceOwners`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from ..checkpoint import SentEntries
from ..encoder import Encoder, FormEncoding, Limits, pieces
from ..errors import SourceError
from ..job.spec import Job
from ..model import Batch, Chunk, Mapped
from ..reader import Source
from ..sender.parts import selected
from ..sender.transports import TRANSPORTS
from ..snapshot import DiffedBatch, Differ, FinalChanges
from ..subject import Keys, device_keys, names_device_alone
from ..tally import HeldRows, RowRange
from .diff_base import NOTHING, DiffBase
from .job_source import JobSource
from .prefetch import prefetched
from .settings import Settings

if TYPE_CHECKING:
    from .precheck import ChangedRows

# The held rows of a range; None where the whole range is left.
HeldOf: TypeAlias = Callable[[RowRange], HeldRows | None]
# In place of a run's id, and as long.
_NO_RUN: Final = "0" * 32


class RowPipeline:
    """Makes the chunks of a source for one run of a job; needs neither a checkpoint nor a sender.

    `diff_base` is what rows are compared with, `run_id` goes into the insert_ids of events, and `limits` are
    those of a request (None: the usual ones of the job's transport). With `sizes_only`, bodies for the
    Identify API are as long as they would be, but have only zeros in them. Raises EtlError for a source that
    the job doesn't fit.
    """

    def __init__(
        self,
        job: Job,
        source: Source | JobSource,
        diff_base: DiffBase = NOTHING,
        run_id: str = _NO_RUN,
        *,
        limits: Limits | None = None,
        sizes_only: bool = False,
    ) -> None:
        self.rows = source if isinstance(source, JobSource) else JobSource(job, source)
        self.job = job
        self.diff_base = diff_base
        self.run_id = run_id
        self.sizes_only = sizes_only
        self.limits = limits or Settings().limits(job.destination.transport)

    @property
    def source(self) -> Source:
        """The source, with every column that the job needs."""
        return self.rows.source

    def chunks(
        self,
        ranges: Iterable[RowRange],
        *,
        final: FinalChanges | None = None,
        changed: ChangedRows | None = None,
        sent: Callable[[tuple[int, int], tuple[int, int]], Iterable[SentEntries]] | None = None,
        held: HeldOf = lambda _: None,
        watch: Callable[[DiffedBatch], None] = lambda _: None,
    ) -> Iterator[list[Chunk]]:
        """Read the ranges in order; yield the chunks of each piece of a batch as a list.

        `final` is what a look at the whole source showed, and `changed` has the rows that it kept, if it
        could. `sent` gives the entries of chunks accepted before that begin at or after one place (file,
        row), and before another. `held` gives the held rows of a range, to which its chunks are then cut
        down. `watch` is called with every batch as it is compared.
        """
        differ, owners, done = self.differ(final), DeviceOwners(), (0, 0)

        def left(compared: DiffedBatch) -> Mapped:
            if compared.seen is not None:
                owners.learn(compared.seen.keys)  # rows that aren't sent link devices, too
            watch(compared)
            return compared.mapped

        for _, group in groupby(ranges, attrgetter("file")):
            of_file = list(group)
            kept = changed.batches(of_file) if changed is not None and changed.complete else None
            with closing(prefetched(self.rows.read(*of_file))) if kept is None else nullcontext(kept) as read:
                for row_range, pairs in groupby(_with_ranges(read, of_file), itemgetter(0)):
                    place = (row_range.file, row_range.first)
                    if differ is not None and sent is not None:
                        for entries in sent(done, place):
                            differ.mark(entries.keys)
                            owners.learn(entries.keys)
                    done = place
                    mapped = self.rows.mapped(row_range, (batch for _, batch in pairs))
                    going = map(left, self.diffed(differ, mapped))
                    for chunks in self.encoded(row_range, going, held(row_range)):
                        yield list(owners.add_owners(chunks))

    def planned(
        self, final: FinalChanges | None, look: Callable[[Mapped], None], watch: Callable[[DiffedBatch], None]
    ) -> Iterator[list[Chunk]]:
        """As `chunks`, of the whole source, for a plan; rows are hashed only if there is a snapshot.

        Beside encoding, threads map and compare. In these `look` is called with every batch as it is mapped,
        and `watch` with every batch as it is compared.
        """
        base = self.diff_base
        differ = None if base.snapshot is None or base.full else self.differ(final)

        def looked(mapped: Mapped) -> Mapped:
            look(mapped)
            return mapped

        def left(compared: Iterable[DiffedBatch]) -> Iterator[Mapped]:
            for some in compared:
                watch(some)
                yield some.mapped

        for row_range in self.rows.files():
            mapped = map(looked, self.rows.mapped(row_range))
            with closing(prefetched(left(self.compared(mapped, differ)))) as ahead:
                yield from self.encoded(row_range, ahead)

    def compared(self, mapped: Iterable[Mapped], differ: Differ | None) -> Generator[DiffedBatch, None, None]:
        """Batches, compared; without a differ, all rows are left. With one, they are mapped in a thread."""
        if differ is None:
            yield from self.diffed(None, mapped)
            return
        times = self.rows.times
        with closing(prefetched(times.each("map", map(differ.hashed, mapped)))) as ahead:
            yield from self.diffed(differ, times.each("idle", ahead))

    def diffed(self, differ: Differ | None, mapped: Iterable[Mapped]) -> Iterator[DiffedBatch]:
        """Batches, compared in this thread; without a differ, all rows are left."""
        if differ is not None:
            yield from self.rows.times.each("diff", differ.each(mapped))
            return
        for some in mapped:
            yield DiffedBatch(some, np.zeros((len(some.kept), 0), np.bool_))

    def encoded(
        self, row_range: RowRange, batches: Iterable[Mapped], held: HeldRows | None = None
    ) -> Iterator[list[Chunk]]:
        """The chunks of a range, a list for each piece of a batch; only the `held` rows of each, if given."""
        transport, stage = TRANSPORTS[self.job.destination.transport], self.rows.times.stage
        encoding = transport.encoding(self.run_id, self.rows.splice)
        if self.sizes_only and isinstance(encoding, FormEncoding):
            encoding = replace(encoding, sizes_only=True)
        encoder = Encoder(first=row_range.first, limits=self.limits, encoding=encoding)
        for piece in chain.from_iterable(map(pieces, batches)):
            with stage("encode"):
                chunks = _only_held(encoder.feed(piece), held)
            yield chunks
        with stage("encode"):
            chunks = _only_held(encoder.finish(), held)
        yield chunks

    def differ(self, final: FinalChanges | None = None, *, looks: bool = False) -> Differ | None:
        """What compares rows with the snapshot, in source order; None if nothing is compared."""
        base, splice = self.diff_base, self.rows.splice
        if base.layout is None:
            return None
        snapshot = None if base.full else base.snapshot
        return Differ(base.layout, snapshot, looks=looks, final=final, splice=splice)


def _with_ranges(batches: Iterable[Batch], ranges: Iterable[RowRange]) -> Iterator[tuple[RowRange, Batch]]:
    """Each batch with every range that it has rows of; both ascend."""
    left = deque(ranges)
    for batch in batches:
        while left and left[0].stop is not None and left[0].stop <= batch.first:
            left.popleft()
        for row_range in left:
            if row_range.first >= batch.stop:
                break
            yield row_range, batch


def _only_held(chunks: Iterable[Chunk], held: HeldRows | None) -> list[Chunk]:
    """The chunks; if rows of their range are `held`, only these, encoded as they were in the whole chunk.

    Raises SourceError if the source has no such rows any more.
    """
    if held is None:
        return list(chunks)
    found = []
    for chunk in chunks:
        part = selected(chunk, np.unique(chunk.owners[np.isin(chunk.numbers, held.rows)]))
        row_range = RowRange(chunk.file, chunk.first, chunk.stop)
        if row_range != held.row_range or not np.array_equal(part.numbers, held.rows):
            raise SourceError(
                f"{chunk.source} has other rows than before from {held.row_range.first:,} on",
                hint="the source changed after the run began; run with --restart to begin a new one",
            )
        found.append(replace(part, again=True))
    return found


# --- the users of devices ---------------------------------------------------------------------------------

# New pairs are sorted once there are so many, or for a look-up.
_UNSORTED: Final = 1 << 16


class DeviceOwners:
    """The user of each device, by the rows of this run: later rows that name only the device are that user's.

    The last user of a device counts. Pairs of keys, 16 bytes for each device, are kept in sorted runs,
    each more than twice as long as the one after it.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[Keys, Keys]] = []
        self._new: list[Keys] = []

    def learn(self, keys: Keys) -> None:
        """Add the keys of rows in source order; shape (n, w). Nothing is learned where w is 1."""
        if keys.shape[1] == 2:
            self._new.append(keys[device_keys(keys) != keys[:, 0]])  # rows that name both
            if sum(map(len, self._new)) >= _UNSORTED:
                self._sort()

    def add_owners(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The same chunks, with the users of devices that are named alone; learns from their rows, too."""
        for chunk in chunks:
            self.learn(chunk.keys)
            linked = self.users(chunk.keys)
            yield chunk if linked is None else replace(chunk, linked=linked)

    def users(self, keys: Keys) -> Keys | None:
        """The key of the user of each identification, shape (k,); None if these are the first of `keys`."""
        alone = np.flatnonzero(names_device_alone(keys))
        if not len(alone):
            return None
        self._sort()
        found = keys[:, 0].copy()
        for devices, users in self._runs:  # from the oldest on
            places = np.searchsorted(devices, keys[alone, 1]).clip(max=len(devices) - 1)
            known = devices[places] == keys[alone, 1]
            found[alone[known]] = users[places[known]]
        return None if np.array_equal(found, keys[:, 0]) else found

    def _sort(self) -> None:
        pairs = np.concatenate([np.empty((0, 2), np.uint64), *self._new])
        self._new = []
        if not len(pairs):
            return
        users, devices = pairs.T
        while True:
            devices, last = np.unique(devices[::-1], return_index=True)  # of equal ones the last stays
            users = users[::-1][last]
            if not self._runs or len(self._runs[-1][0]) > 2 * len(devices):
                break
            older = self._runs.pop()
            devices, users = np.concatenate([older[0], devices]), np.concatenate([older[1], users])
        self._runs.append((devices, users))
