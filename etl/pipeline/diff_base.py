"""What a run compares its rows with, the snapshot of its destination; and how that is written.

Each destination has a snapshot of its own; a run to another destination leaves it alone. It is written after
a run that finished, was given up (what was accepted stays) or is lost (what it sent is in doubt), and by
`baseline`, of a source that Amplitude is known to have already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Final
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import Checkpoint, SentEntries, StateDir
from ..checkpoint.in_flight_file import (
    Flight,
    InFlightContents,
    load_checkpoint,
    read_in_flight,
    uncommitted_flights,
)
from ..errors import StaleCheckpointError, UsageError
from ..job.spec import Job, fingerprint
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
    fingerprints_of,
    layout_of,
)
from ..state_files import is_there, state_error
from ..subject import user_keys
from .job_source import JobSource
from .run_inputs import JobFacts, RunInputs
from .settings import Settings
from .status import destination_folder, first_endpoint

# In place of a job's fingerprint, in the header of a snapshot that knows only which users there are.
_INVALIDATED: Final = ""
# An export in which more changed, or from which more are missing, is probably broken.
_USUAL_CHANGES: Final = 90.0
_USUAL_ABSENT: Final = 10.0
# A share of fewer users says little, so no limit is set unless the settings do.
_MANY: Final = 1000
_MANY_ABSENT: Final = 10  # a user who is unset by mistake loses something


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
        if self.snapshot is None or self.full or self.snapshot.header.job == _INVALIDATED:
            return None
        if given is None and self.certain >= _MANY and self.snapshot.header.job == fingerprint(job):
            return _USUAL_CHANGES
        return given if given is not None and given < 100 else None

    def most_absent(self, given: float | None) -> float | None:
        """The highest percentage of users that may have left; None for any."""
        return _USUAL_ABSENT if given is None and self.users >= _MANY_ABSENT else given

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
        number, problem, remedy = 1, None, ""
        if snapshot is None:
            other = first_endpoint(folder)
            problem = other and f"is of another destination, {other}, and stays"
            remedy = f"; to send to that one, add --endpoint {other}"
        else:
            number = snapshot.header.number + 1
            if snapshot.header.endpoint != endpoint:
                problem = f"is of another destination, {snapshot.header.endpoint}"
            elif snapshot.mode != layout.mode:
                problem = f"was made with `changes: {snapshot.mode}`"
        if problem:
            told = f"the snapshot {problem}: everything counts as new{remedy}"
            yield DiffBase(layout, None, full, number, (Warned("other_snapshot", told),))
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


# --- the snapshot after a run -----------------------------------------------------------------------------


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


def restarted_id(run_id: str) -> str:
    """The id in the header of a snapshot that has what was accepted of a run that will not be resumed."""
    return f"{run_id}-restarted"


def _unchanged(found: Checkpoint, base: DiffBase) -> BitSet | None:
    """The entries of the old snapshot whose values the run found to be the same; None if that is unknown."""
    data = found.unchanged()
    if data is None or base.snapshot is None or base.run_id != found.progress().base:
        return None
    return BitSet.read(len(base.snapshot), data)


# --- the snapshot where it is in doubt, or goes -----------------------------------------------------------


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
                header = old.header if old else SnapshotHeader(number, "", endpoint, _INVALIDATED)
                _invalidate(own, DiffBase(layout, old), replace(header, run_id=uuid4().hex), ())


def _invalidate(
    folder: StateDir, base: DiffBase, header: SnapshotHeader, sent: Iterable[NDArray[np.uint64]]
) -> None:
    """Keep the users of the old snapshot, and those who were or may have been `sent` something, in doubt."""
    layout, old = base.layout, base.snapshot
    assert layout is not None  # noqa: S101 - nothing is in doubt where nothing is compared
    with (
        SnapshotWriter(folder.snapshot, layout, replace(header, job=_INVALIDATED), old=old) as renewal,
        KnownIds.open(folder.ids) or nullcontext() as ids,
    ):
        # The ids were written before a run sends anything.
        files = [file for file in (old, ids) if file is not None]
        for keys in chain((part.keys for file in files for part in file.pieces()), sent):
            renewal.invalidate(keys.reshape(len(keys), -1), np.empty((len(keys), 0), dtype=layout.dtype))
        renewal.finish()


def remove_snapshot(folder: StateDir) -> None:
    """Keep no snapshot: what is sent from now on isn't recorded. Raises StateError."""
    try:
        folder.snapshot.unlink(missing_ok=True)
    except OSError as error:
        raise state_error(folder.snapshot, error) from error


# --- the snapshot of a source that Amplitude has already --------------------------------------------------


@dataclass(slots=True)
class Recorded:
    """The result of a baseline: `rows` of the source, of which `rejected` couldn't be recorded.

    `entries` is the number of users in the snapshot.
    """

    job: str
    rows: int = 0
    rejected: int = 0
    entries: int = 0
    rejects_by_code: Counter[str] = field(default_factory=Counter)


def record_baseline(job: Job, source: Source, *, settings: Settings) -> Recorded:
    """Record the whole source as sent. Raises EtlError.

    Users of an older snapshot who aren't in the source stay in it.
    """
    inputs = RunInputs.of(job, source, settings)
    job, folder, rows = inputs.job, inputs.folder, JobSource(inputs.job, source)
    folder.prepare()
    recorded = Recorded(job.name)
    with folder.hold(), open_diff_base(job, folder) as diff_base:
        own, layout = destination_folder(folder, job.destination.endpoint), diff_base.layout
        if layout is None:
            raise UsageError("`changes: off` keeps no snapshot", hint="take it out of the job file")
        left = read_in_flight(folder.in_flight)
        with load_checkpoint(folder, left) or nullcontext() as found:
            if found is not None and not found.progress().finished:
                in_flight = uncommitted_flights(left, found)
                if found.arrived() or in_flight != ():
                    raise StaleCheckpointError(
                        f"{folder.checkpoint} keeps an unfinished run, which compares with the snapshot as "
                        "it is",
                        hint="finish that run first, or drop it with `propsync run --restart`",
                    )
        header, links = diff_base.header(job, uuid4().hex), DeviceLinks(diff_base.snapshot)
        if layout.paired and source.repeatable:  # a row of a device alone may come before its user's
            for batch in rows.read_all():
                links.collect(user_keys(rows.mapper.ids(batch)))
        keeps_ids = job.changes.absent == "unset"
        with (
            SnapshotWriter(own.snapshot, layout, header, old=diff_base.snapshot) as renewal,
            renewed_ids(own, header) if keeps_ids else nullcontext() as ids,
        ):
            for mapped in rows.mapped_all(coded=True):
                recorded.rows += mapped.batch.stop - mapped.batch.first
                recorded.rejected += len(mapped.rejects)
                recorded.rejects_by_code.update(reject.code for reject in mapped.rejects)
                identifications = mapped.identifications
                fingerprints = fingerprints_of(identifications, layout, rows.splice)
                renewal.add(links.resolve(user_keys(identifications)), fingerprints)
                if ids is not None:
                    ids.add(identifications)
            # First the ids: those of users who aren't in the snapshot do nothing.
            if ids is not None:
                ids.finish()
            recorded.entries = renewal.finish()
    return recorded
