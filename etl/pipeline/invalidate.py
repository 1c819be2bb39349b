"""The snapshot and the ids after a run: finished, given up (what was accepted stays), or lost (in doubt)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from ..arrow.hashing import without_users
from ..checkpoint import Checkpoint, Progress, StateDir
from ..checkpoint.in_flight_file import Flight, InFlightContents
from ..checkpoint.sent_file import SentEntries
from ..job.spec import Job
from ..model import RowRange
from ..ranges import RangeSet
from ..snapshot import BitSet, KnownIds, Snapshot, SnapshotHeader, SnapshotWriter, layout_of
from ..state_files import is_there, state_error
from .destination_folder import destination_folder
from .diff_base import INVALIDATED, DiffBase, JobFacts, open_diff_base, renewed_ids


def restarted_id(run_id: str) -> str:
    """The id in the header of a snapshot that has what was accepted of a run that will not be resumed."""
    return f"{run_id}-restarted"


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
    run_id = restarted_id(progress.run_id)
    header = SnapshotHeader(progress.number, run_id, facts.endpoint, facts.fingerprint)
    with open_diff_base(facts, folder) as base:
        if base.layout is None or base.run_id == header.run_id:
            return
        own = destination_folder(folder, facts.endpoint)
        if flights is None or progress.base != base.run_id:
            _invalidate(own, base, header, (entries.keys for entries in found.sent()))
            return

        def entries() -> Iterator[SentEntries]:
            yield from found.sent()
            # A chunk is committed after all earlier ones that share a user with it: these came last.
            for flight in flights:
                nothing = np.empty((len(flight.keys), 0), np.uint64)
                yield SentEntries(flight.file, flight.first, flight.keys, nothing, "in_doubt")

        base.renew(own.snapshot, header, entries, facts.files, _unchanged(found, base))


def write_snapshot(folder: StateDir, found: Checkpoint) -> dict[str, tuple[int, ...]] | None:
    """Write the snapshot of a run of which nothing else is left to do; forget the ids of removed users.

    Returns what changed, as in `Detailed`; None if that is unknown. Doing it twice changes nothing. Raises
    StateError, StaleCheckpointError.
    """
    progress, changes = found.progress(), None
    facts = JobFacts.read(progress.about)
    header = SnapshotHeader(progress.number, progress.run_id, facts.endpoint, facts.fingerprint)
    with open_diff_base(facts, folder) as base:
        if base.layout is None:
            return None
        own = destination_folder(folder, facts.endpoint)
        if base.run_id != progress.run_id:
            changes = base.renew(own.snapshot, header, found.sent, facts.files, _unchanged(found, base))
    if is_there(own.ids):
        with renewed_ids(own, header) as ids:
            for entries in found.sent((facts.files, 0)):
                if entries.end == "accepted":
                    ids.forget(entries.keys[:, 0])
            ids.finish()
    return changes


def invalidate_lost(folder: StateDir, left: InFlightContents | None, job: Job) -> None:
    """Put all users in doubt whom a run with a lost checkpoint may have sent something.

    It stays known which users there are, so that it shows who left. Raises StateError, StaleCheckpointError.
    """
    if left is not None and left.finished:
        return
    layout, number = layout_of(job.identification, job.changes), left.mark.number if left else 1
    for endpoint in sorted({job.destination.endpoint, *([left.mark.endpoint] if left else [])}):
        own = destination_folder(folder, endpoint)
        with Snapshot.open(own.snapshot) or nullcontext() as old:
            if old is not None and (layout is None or old.mode != layout.mode):
                remove_snapshot(own)
            elif layout is not None and (old is not None or is_there(own.ids)):
                header = old.header if old else SnapshotHeader(number, "", endpoint, INVALIDATED)
                _invalidate(own, DiffBase(layout, old), replace(header, run_id=uuid4().hex), ())


def remove_snapshot(folder: StateDir) -> None:
    """Keep no snapshot: what is sent from now on isn't recorded. Raises StateError."""
    try:
        folder.snapshot.unlink(missing_ok=True)
    except OSError as error:
        raise state_error(folder.snapshot, error) from error


def _unchanged(found: Checkpoint, base: DiffBase) -> BitSet | None:
    """The entries of the old snapshot whose values the run found to be the same; None if that is unknown."""
    data = found.unchanged()
    if data is None or base.snapshot is None or base.run_id != found.progress().base:
        return None
    return BitSet.read(len(base.snapshot), data)


def _invalidate(
    folder: StateDir, base: DiffBase, header: SnapshotHeader, sent: Iterable[NDArray[np.uint64]]
) -> None:
    """Keep the users of the old snapshot, and those who were or may have been `sent` something, in doubt."""
    layout, old = base.layout, base.snapshot
    assert layout is not None  # noqa: S101 - nothing is in doubt where nothing is compared
    with (
        SnapshotWriter(folder.snapshot, layout, replace(header, job=INVALIDATED), old=old) as renewal,
        KnownIds.open(folder.ids) or nullcontext() as ids,
    ):
        # The ids were written before a run sends anything.
        files = [file for file in (old, ids) if file is not None]
        for keys in chain((part.keys for file in files for part in file.pieces()), sent):
            renewal.invalidate(keys.reshape(len(keys), -1), np.empty((len(keys), 0), dtype=layout.dtype))
        renewal.finish()
