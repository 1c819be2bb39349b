"""What a run compares its rows with: the last one's snapshot, if it is of the same kind and destination."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from etl.checkpoint import Entries, StateFolder
from etl.job import Job, fingerprint
from etl.model import Warned
from etl.pipeline.settings import USUAL_ABSENT, USUAL_CHANGES
from etl.snapshot import Bits, Layout, Links, Renewal, Snapshot, Stamp, layout_of, owners_of

# In place of a job's fingerprint, in the stamp of a snapshot that knows its users only by name.
DOUBTFUL: Final = ""
# Of fewer users a share says little, so nothing is refused that nobody asked to be refused.
MANY: Final = 1000
MANY_ABSENT: Final = 10  # who is unset by mistake loses something


@dataclass(frozen=True)
class DiffBase:
    """How rows are compared, and with what.

    `layout` None: not at all. `snapshot` None: there is none that fits, so every row is
    new. `full`: every row is sent all the same. `number` counts the runs of the job.
    """

    layout: Layout | None = None
    snapshot: Snapshot | None = None
    full: bool = False
    number: int = 1
    warnings: tuple[Warned, ...] = ()

    @property
    def run_id(self) -> str:
        """The run that made the snapshot; "" where there is none."""
        return self.snapshot.stamp.run_id if self.snapshot else ""

    @property
    def users(self) -> int:
        """How many users the snapshot knows; about, where some are known by user and by device."""
        if self.layout is None or self.snapshot is None:
            return 0
        return len(self.snapshot) // (2 if self.layout.paired else 1)

    @cached_property
    def doubtful(self) -> Bits | None:
        """The entries of users in doubt: what nobody knows, nobody can tell a change of."""
        return None if self.snapshot is None else self.snapshot.doubtful()

    @property
    def certain(self) -> int:
        """How many users the snapshot knows who aren't in doubt; about, as in `users`."""
        if self.layout is None or self.snapshot is None or self.doubtful is None:
            return 0
        return (len(self.snapshot) - len(self.doubtful)) // (2 if self.layout.paired else 1)

    def most_changes(self, job: Job, given: float | None) -> float | None:
        """The percentage of users that may have changed; None where any may.

        Where none is `given`, few users or a changed job say nothing about the export.
        """
        if self.snapshot is None or self.full or self.snapshot.stamp.job == DOUBTFUL:
            return None
        if given is None and self.certain >= MANY and self.snapshot.stamp.job == fingerprint(job):
            return USUAL_CHANGES
        return given

    def most_absent(self, given: float | None) -> float | None:
        """The percentage of users that may have left; None where any may."""
        return USUAL_ABSENT if given is None and self.users >= MANY_ABSENT else given

    def stamp(self, job: Job, run_id: str) -> Stamp:
        """What the snapshot of this run tells of it."""
        return Stamp(self.number, run_id, job.destination.endpoint, fingerprint(job))

    def renew(
        self,
        path: Path,
        job: Job,
        run_id: str,
        entries: Callable[[], Iterable[Entries]],
        left: int,
        unchanged: Bits | None = None,
    ) -> int:
        """Write the snapshot that has these entries, too; the number of its entries. Raises StateError.

        They may be asked for twice. Entries of the file number `left` are of users who left. Of rows in doubt
        nobody knows what their users have now, but for what comes later; refused ones change nothing.
        `unchanged` are those whom the run found as they were.
        """
        return self.renew_as(path, self.stamp(job, run_id), entries, left, unchanged)

    def renew_as(
        self,
        path: Path,
        stamp: Stamp,
        entries: Callable[[], Iterable[Entries]],
        left: int,
        unchanged: Bits | None = None,
    ) -> int:
        """The same, with a stamp of the caller's."""
        assert self.layout is not None  # noqa: S101 - nothing is renewed where nothing is compared
        links = Links(self.snapshot)
        for entry in entries() if self.layout.paired else ():
            if entry.file != left:
                links.look_at(entry.keys)
        with Renewal(path, self.layout, stamp, old=self.snapshot, unchanged=unchanged) as renewal:
            for entry in entries():
                if entry.end == "refused":
                    continue
                keys = entry.keys if entry.file == left else links.follow(entry.keys)
                if entry.file == left:
                    # What is unset by a device is unset for its user, whose own row may have been refused.
                    renewal.empty(owners_of(keys, self.snapshot))
                if entry.end == "in_doubt":
                    # Of users who left all is in doubt: their fingerprints are of nothing.
                    renewal.doubt(
                        keys, entry.fingerprints[:, :0] if entry.file == left else entry.fingerprints
                    )
                elif entry.file == left:
                    renewal.forget(keys[:, 0])
                else:
                    renewal.add(keys, entry.fingerprints)
            return renewal.finish()


NOTHING = DiffBase()


@contextmanager
def diff_base_of(job: Job, folder: StateFolder, *, full: bool = False) -> Iterator[DiffBase]:
    """What a run of the job compares with, while it is open.

    Raises StaleCheckpointError where the snapshot can't be read.
    """
    layout = layout_of(job.identification, job.changes)
    snapshot = Snapshot.open(folder.snapshot) if layout else None
    if layout is None or snapshot is None:
        yield DiffBase(layout, full=full)
        return
    with snapshot:
        yield _fitting(layout, snapshot, job, full=full)


def _fitting(layout: Layout, snapshot: Snapshot, job: Job, *, full: bool) -> DiffBase:
    number = snapshot.stamp.number + 1
    misfit = _misfit(snapshot, layout, job)
    if misfit is None:
        return DiffBase(replace(layout, hashing=snapshot.hashing), snapshot, full, number)
    warning = Warned("other_snapshot", f"the snapshot {misfit}: everything counts as new")
    return DiffBase(layout, None, full, number, (warning,))


def _misfit(snapshot: Snapshot, layout: Layout, job: Job) -> str | None:
    """Why a snapshot tells nothing to this job."""
    if snapshot.stamp.endpoint != job.destination.endpoint:
        return f"is of another destination, {snapshot.stamp.endpoint}"
    if snapshot.mode != layout.mode:
        return f"was made with `changes: {snapshot.mode}`"
    return None


__all__ = ["NOTHING", "DiffBase", "diff_base_of"]
