"""What a run compares its rows with, the snapshot of its destination, and what becomes of it after the run.

Each destination has a snapshot of its own; a run to another destination leaves it alone. A run may have
finished, been given up (what was accepted stays), or be lost (what it sent is in doubt).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from .. import amplitude
from ..checkpoint import Checkpoint, Progress, SentEntries, StateDir
from ..checkpoint.in_flight_file import Flight, InFlightContents
from ..job.spec import Job, fingerprint
from ..model import RowRange
from ..reader import Source
from ..run_events import Warned
from ..snapshot import (
    BitSet,
    DeviceLinks,
    KnownIds,
    KnownIdsWriter,
    Layout,
    Snapshot,
    SnapshotHeader,
    SnapshotWriter,
    device_owners,
    layout_of,
)
from ..state_files import is_there, state_error
from ..subject import without_users
from ..tally import RangeSet
from .status import destination_folder, first_endpoint

# In place of a job's fingerprint, in the header of a snapshot that knows only which users there are.
INVALIDATED: Final = ""
# An export in which more changed, or from which more are missing, is probably broken.
USUAL_CHANGES: Final = 90.0
USUAL_ABSENT: Final = 10.0
# A share of fewer users says little, so no limit is set unless the settings do.
_MANY: Final = 1000
_MANY_ABSENT: Final = 10  # a user who is unset by mistake loses something


def increments_of(job: Job) -> list[str]:
    """The operators of a job that count twice what is sent twice."""
    return sorted(amplitude.UNREPEATABLE & set(job.identification.operators))


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
    def of(cls, job: Job, source: Source | None = None, *, plan: str | None = None) -> Self:
        """The facts of a job and of the run of a source that is about to begin."""
        return cls(
            endpoint=job.destination.endpoint,
            fingerprint=fingerprint(job),
            files=len(source.files) if source else 0,
            counts=bool(increments_of(job)),
            resent=source is not None and source.holds_rejects,
            layout=layout_of(job.identification, job.changes),
            plan=plan,
        )

    @staticmethod
    def read(plain: Mapping[str, Any]) -> JobFacts:
        """The facts of plain data, as `asdict` made it."""
        return _validator().validate_python(plain)


@cache
def _validator() -> TypeAdapter[JobFacts]:
    return TypeAdapter(JobFacts)


@dataclass(frozen=True)
class DiffBase:
    """How rows are compared, and with what.

    `layout` None: nothing is compared. `snapshot` None: there is none that fits, so every row is new.
    `full`: every row is sent all the same. `number` counts the runs of the job.
    """

    layout: Layout | None = None
    snapshot: Snapshot | None = None
    full: bool = False
    number: int = 1
    warnings: tuple[Warned, ...] = ()

    @property
    def run_id(self) -> str:
        """The run that made the snapshot; "" if there is none."""
        return self.snapshot.header.run_id if self.snapshot else ""

    @property
    def users(self) -> int:
        """How many users the snapshot knows; an estimate where some are known by user and by device."""
        return 0 if self.snapshot is None else self._users(len(self.snapshot))

    @cached_property
    def in_doubt(self) -> BitSet:
        """The entries of users in doubt: whether they changed can't be told."""
        return BitSet(0) if self.snapshot is None else self.snapshot.doubtful()

    @property
    def certain(self) -> int:
        """How many users the snapshot knows who aren't in doubt; an estimate, as `users`."""
        return 0 if self.snapshot is None else self._users(len(self.snapshot) - len(self.in_doubt))

    def _users(self, entries: int) -> int:
        return 0 if self.layout is None else entries // (2 if self.layout.paired else 1)

    def most_changes(self, job: Job, given: float | None) -> float | None:
        """The highest percentage of users that may have changed; None for any.

        Where none is `given`, few users or a changed job say nothing about the export.
        """
        if self.snapshot is None or self.full or self.snapshot.header.job == INVALIDATED:
            return None
        if given is None and self.certain >= _MANY and self.snapshot.header.job == fingerprint(job):
            return USUAL_CHANGES
        return given if given is not None and given < 100 else None

    def most_absent(self, given: float | None) -> float | None:
        """The highest percentage of users that may have left; None for any."""
        return USUAL_ABSENT if given is None and self.users >= _MANY_ABSENT else given

    def header(self, job: Job, run_id: str) -> SnapshotHeader:
        """The header of the snapshot that the run will write."""
        return SnapshotHeader(self.number, run_id, job.destination.endpoint, fingerprint(job))

    def renew(
        self,
        path: Path,
        header: SnapshotHeader,
        entries: Callable[[], Iterable[SentEntries]],
        left: int,
        unchanged: BitSet | None = None,
    ) -> dict[str, tuple[int, ...]]:
        """Write the snapshot that has these entries, too; return what changed, as in `Detailed`.

        `entries` may be called twice; those of the file number `left` are of users who left. What users of
        rows in doubt have is unknown, but for what comes later; refused rows change nothing. `unchanged` are
        the users whose values the run found to be the same. Raises StateError.
        """
        assert self.layout is not None  # noqa: S101 - nothing is renewed where nothing is compared
        links = DeviceLinks(self.snapshot)
        for entry in entries() if self.layout.paired else ():
            if entry.file != left:
                links.collect(entry.keys)
        with SnapshotWriter(path, self.layout, header, old=self.snapshot, unchanged=unchanged) as renewal:
            for entry in entries():
                if entry.end == "refused":
                    continue
                has_left = entry.file == left
                keys = entry.keys if has_left else links.resolve(entry.keys)
                if has_left:
                    # What is unset by a device is unset for its user, whose own row may have been refused.
                    renewal.empty(device_owners(keys, self.snapshot))
                if entry.end == "in_doubt":
                    # Fingerprints of users who left are of nothing.
                    renewal.invalidate(keys, entry.fingerprints[:, :0] if has_left else entry.fingerprints)
                elif has_left:
                    renewal.forget(keys[:, 0])
                else:
                    renewal.add(keys, entry.fingerprints)
            renewal.finish()
            return dict(zip(self.layout.names, map(tuple, renewal.changes.T.tolist()), strict=True))


NOTHING: Final = DiffBase()


@contextmanager
def open_diff_base(about: Job | JobFacts, folder: StateDir, *, full: bool = False) -> Iterator[DiffBase]:
    """What a run of a job compares with, while it is open. Raises StaleCheckpointError if it is unreadable.

    `folder` is the job's; see `destination_folder`.
    """
    facts = JobFacts.of(about) if isinstance(about, Job) else about
    endpoint, layout = facts.endpoint, facts.layout
    if layout is None:
        yield DiffBase(full=full)
        return
    path = destination_folder(folder, endpoint).snapshot
    with Snapshot.open(path) or nullcontext() as snapshot:
        number, problem = 1, None
        if snapshot is None:
            other = first_endpoint(folder)
            problem = other and f"is of another destination, {other}, and stays"
        else:
            number = snapshot.header.number + 1
            if snapshot.header.endpoint != endpoint:
                problem = f"is of another destination, {snapshot.header.endpoint}"
            elif snapshot.mode != layout.mode:
                problem = f"was made with `changes: {snapshot.mode}`"
        if problem:
            warning = Warned("other_snapshot", f"the snapshot {problem}: everything counts as new")
            yield DiffBase(layout, None, full, number, (warning,))
        else:
            yield DiffBase(layout, snapshot, full, number)


@contextmanager
def renewed_ids(folder: StateDir, header: SnapshotHeader) -> Iterator[KnownIdsWriter]:
    """The ids of the users at a destination, open for being written anew."""
    with (
        KnownIds.open(folder.ids) or nullcontext() as old,
        KnownIdsWriter(folder.ids, header, old=old) as renewal,
    ):
        yield renewal


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
