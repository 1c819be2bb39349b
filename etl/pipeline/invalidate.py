"""The snapshot and the ids after a run: finished, given up (what was accepted stays), or lost (in doubt)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from ..arrow.hashing import without_users
from ..checkpoint import Checkpoint, Progress, StateDir
from ..checkpoint.in_flight_file import Flight, InFlightContents
from ..checkpoint.sent_file import SentEntries
from ..job import Job, fingerprint
from ..model import RowRange
from ..ranges import RangeSet
from ..reader import Source
from ..snapshot import (
    BitSet,
    FieldGroup,
    KnownIds,
    Layout,
    Snapshot,
    SnapshotHeader,
    SnapshotWriter,
    layout_of,
)
from ..state_files import is_there, state_error
from .destination_folder import destination_folder
from .diff_base import INVALIDATED, DiffBase, renewed_ids
from .precheck import increments_of


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """What a checkpoint keeps of its job, so that its run can be ended when the job file is another one.

    `files` is how many the source has; behind them come the users who left. `counts`: it has increments.
    `resent`: its source are rejects. `layout` None: nothing is compared. `plan`: the digest of the plan
    that it keeps to.
    """

    endpoint: str
    fingerprint: str
    files: int
    counts: bool
    resent: bool
    layout: Layout | None
    plan: str | None = None

    @classmethod
    def of(cls, job: Job, source: Source) -> Self:
        """The facts of a run that is about to begin."""
        return cls(
            endpoint=job.destination.endpoint,
            fingerprint=fingerprint(job),
            files=len(source.files),
            counts=bool(increments_of(job)),
            resent=source.holds_rejects,
            layout=layout_of(job.identification, job.changes),
        )

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """The facts of plain data, as `asdict` made it."""
        layout = plain["layout"]
        if layout is not None:
            paths = [tuple(map(tuple, bundle["paths"])) for bundle in layout["bundles"]]
            pairs = zip(layout["bundles"], paths, strict=True)
            bundles = tuple(FieldGroup(**{**bundle, "paths": found}) for bundle, found in pairs)
            layout = Layout(layout["mode"], bundles, layout["paired"])
        return cls(**{**plain, "layout": layout})

    def header(self, number: int, run_id: str) -> SnapshotHeader:
        """The header of a snapshot that the run number `number` leaves."""
        return SnapshotHeader(number, run_id, self.endpoint, self.fingerprint)


def restarted_id(run_id: str) -> str:
    """The id in the header of a snapshot that has what was accepted of a run that will not be resumed."""
    return f"{run_id}-restarted"


def base_id(folder: StateDir, facts: JobFacts) -> str:
    """The run that made the snapshot with which a run compares; "" if there is none that fits."""
    with _fitting_snapshot(folder, facts) as found:
        return "" if found is None else found.header.run_id


def uncommitted_flights(
    left: InFlightContents | None, progress: Progress, found: Checkpoint
) -> tuple[Flight, ...] | None:
    """The users in flight when the last process of a run ended; None if they are unknown."""
    if left is None or left.mark.run_id != progress.run_id:
        # The file is made before anything is sent, and the run's first transaction comes after that.
        return () if progress.commits == 0 else None
    if left.mark.unknown:
        return None
    ranges = RangeSet(found.committed(), found.held())
    flights = []
    for flight in left.flights:
        gaps = ranges.gaps(flight.file)
        if any(one.first < flight.stop and (one.stop is None or one.stop > flight.first) for one in gaps):
            if ranges.held(RowRange(flight.file, flight.first, flight.stop)) is not None:
                # Users who were committed while others of the chunk were held.
                sent = found.sent((flight.file, flight.first), (flight.file, flight.first + 1))
                gone = [flight.keys[:0, 0], *(entries.keys[:, 0] for entries in sent)]
                flight = replace(flight, keys=without_users(flight.keys, np.concatenate(gone)))
            flights.append(flight)
    return tuple(flight for flight in flights if len(flight.keys))


def keep_accepted(folder: StateDir, found: Checkpoint, flights: Sequence[Flight] | None) -> None:
    """Write what was accepted of an unfinished run to the snapshot; users in flight are in doubt.

    If the users in flight are unknown (`flights` None), or the snapshot isn't the one that the run compares
    with, all users are in doubt. Doing it twice changes nothing. Raises StateError, StaleCheckpointError.
    """
    progress = found.progress()
    facts = JobFacts.read(progress.about)
    if facts.layout is None:
        return
    own = destination_folder(folder, facts.endpoint)
    header = facts.header(progress.number, restarted_id(progress.run_id))
    with _fitting_snapshot(folder, facts) as old:
        old_id = "" if old is None else old.header.run_id
        if old_id == header.run_id:
            return
        if flights is None or progress.base != old_id:
            _invalidate(own, facts.layout, old, header, (entries.keys for entries in found.sent()))
            return

        def entries() -> Iterator[SentEntries]:
            yield from found.sent()
            # A chunk is committed after all earlier ones that share a user with it: these came last.
            for flight in flights:
                nothing = np.empty((len(flight.keys), 0), np.uint64)
                yield SentEntries(flight.file, flight.first, flight.keys, nothing, "in_doubt")

        diff_base = DiffBase(facts.layout, old)
        diff_base.renew(own.snapshot, header, entries, facts.files, _unchanged(found, old))


def write_snapshot(folder: StateDir, found: Checkpoint) -> dict[str, tuple[int, ...]] | None:
    """Write the snapshot of a run of which nothing else is left to do; forget the ids of removed users.

    Returns what changed, as in `Detailed`; None if that is unknown. Doing it twice changes nothing. Raises
    StateError, StaleCheckpointError.
    """
    progress, changes = found.progress(), None
    facts = JobFacts.read(progress.about)
    if facts.layout is None:
        return None
    own, header = destination_folder(folder, facts.endpoint), facts.header(progress.number, progress.run_id)
    with _fitting_snapshot(folder, facts) as old:
        if old is None or old.header.run_id != progress.run_id:
            diff_base, unchanged = DiffBase(facts.layout, old), _unchanged(found, old)
            changes = diff_base.renew(own.snapshot, header, found.sent, facts.files, unchanged)
    if is_there(own.ids):
        with renewed_ids(own, header) as ids:
            for entries in found.sent((facts.files, 0)):
                if entries.end == "accepted":
                    ids.forget(entries.keys[:, 0])
            ids.finish()
    return changes


def invalidate_lost(folder: StateDir, left: InFlightContents | None, job: Job) -> None:
    """Put all users in doubt whom a run with a lost checkpoint may have sent something. Raises StateError."""
    if left is not None and left.finished:
        return
    layout = layout_of(job.identification, job.changes)
    endpoints = {job.destination.endpoint, *([left.mark.endpoint] if left else [])}
    for endpoint in sorted(endpoints):
        own = destination_folder(folder, endpoint)
        invalidate_all(own, layout, endpoint, left.mark.number if left else 1)


def invalidate_all(folder: StateDir, layout: Layout | None, endpoint: str, number: int) -> None:
    """Keep the users of the snapshot, so that it is known who left, but none of their values.

    For the run `number`, of which nothing is known any more. Raises StateError, StaleCheckpointError.
    """
    with Snapshot.open(folder.snapshot) or nullcontext() as old:
        if old is not None and (layout is None or old.mode != layout.mode):
            remove_snapshot(folder)
        elif layout is not None and (old is not None or is_there(folder.ids)):
            header = old.header if old else SnapshotHeader(number, "", endpoint, INVALIDATED)
            _invalidate(folder, layout, old, replace(header, run_id=uuid4().hex), ())


def remove_snapshot(folder: StateDir) -> None:
    """Keep no snapshot: what is sent from now on isn't recorded. Raises StateError."""
    try:
        folder.snapshot.unlink(missing_ok=True)
    except OSError as error:
        raise state_error(folder.snapshot, error) from error


@contextmanager
def _fitting_snapshot(folder: StateDir, facts: JobFacts) -> Iterator[Snapshot | None]:
    """The snapshot of a run's destination; None if the run can't compare with it."""
    if facts.layout is None:
        yield None
        return
    with Snapshot.open(destination_folder(folder, facts.endpoint).snapshot) or nullcontext() as found:
        fits = found and found.header.endpoint == facts.endpoint and found.mode == facts.layout.mode
        yield found if fits else None


def _unchanged(found: Checkpoint, old: Snapshot | None) -> BitSet | None:
    """The entries of the old snapshot whose values the run found to be the same; None if that is unknown."""
    data = found.unchanged()
    if data is None or old is None or old.header.run_id != found.progress().base:
        return None
    return BitSet.read(len(old), data)


def _invalidate(
    folder: StateDir,
    layout: Layout,
    old: Snapshot | None,
    header: SnapshotHeader,
    sent: Iterable[NDArray[np.uint64]],
) -> None:
    """Keep the users of the old snapshot, and those who were or may have been `sent` something, in doubt."""
    with (
        SnapshotWriter(folder.snapshot, layout, replace(header, job=INVALIDATED), old=old) as renewal,
        KnownIds.open(folder.ids) or nullcontext() as ids,
    ):
        # The ids were written before a run sends anything.
        files = [file for file in (old, ids) if file is not None]
        for keys in chain((part.keys for file in files for part in file.pieces()), sent):
            renewal.invalidate(keys.reshape(len(keys), -1), np.empty((len(keys), 0), dtype=layout.dtype))
        renewal.finish()
