"""What is known of the users of each destination: a run to another one leaves it alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from hashlib import blake2b
from typing import Final

from etl.checkpoint import StateFolder
from etl.job import Job
from etl.model import Warned
from etl.pipeline.diff_base import DiffBase, diff_base_of
from etl.snapshot import Snapshot

# Sandboxes come and go; the destinations last used are remembered, besides the one that came first.
_MOST_ASIDE: Final = 8


def at_destination(folder: StateFolder, endpoint: str) -> StateFolder:
    """The folder with the files of users at an endpoint: the usual ones belong to whoever came first.

    Raises StaleCheckpointError where the snapshot can't be read.
    """
    aside = folder.beside(blake2b(endpoint.encode(), digest_size=6).hexdigest())
    owner = _owner(folder)
    if owner == endpoint:
        return folder
    return folder if owner is None and not aside.snapshot.exists() else aside


def forget_oldest(folder: StateFolder) -> None:
    """Keep the files of a few destinations only; one that comes back after long has everybody sent anew."""
    with suppress(OSError):
        found = sorted(folder.path.glob("snapshot-*.arrow"), key=lambda path: path.stat().st_mtime)
        for path in found[:-_MOST_ASIDE]:
            path.unlink()
            path.with_name(path.name.replace("snapshot", "ids", 1)).unlink(missing_ok=True)


def _owner(folder: StateFolder) -> str | None:
    with Snapshot.open(folder.snapshot) or nullcontext() as snapshot:
        return None if snapshot is None else snapshot.stamp.endpoint


@contextmanager
def destination_diff_base(job: Job, folder: StateFolder, *, full: bool = False) -> Iterator[DiffBase]:
    """What a run compares with at the job's destination; see `diff_base_of`."""
    endpoint = job.destination.endpoint
    own = at_destination(folder, endpoint)
    other = None if own.snapshot.exists() else _owner(folder)
    with diff_base_of(job, own, full=full) as diff_base:
        if other is None or diff_base.layout is None:
            yield diff_base
            return
        words = f"the snapshot is of another destination, {other}, and stays: everything counts as new"
        yield replace(diff_base, warnings=(*diff_base.warnings, Warned("other_snapshot", words)))
