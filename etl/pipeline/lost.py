"""A checkpoint that is emptied, torn or gone: how it is noticed, and what can be done about it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

from etl.amplitude import INSERT_ID_DAYS, TRANSPORTS
from etl.checkpoint import Checkpoint, Identity, Left, Progress, StateFolder
from etl.errors import StaleCheckpointError
from etl.job import Job
from etl.pipeline.destinations import at_destination
from etl.pipeline.doubt import doubt_everyone
from etl.pipeline.precheck import increments_of
from etl.pipeline.unfinished import entries_of
from etl.snapshot import layout_of

# An hour less than the server remembers, for the run itself.
_REMEMBERED_SECONDS: Final = INSERT_ID_DAYS * 86_400 - 3_600


def found_whole(folder: StateFolder, left: Left | None) -> Checkpoint | None:
    """The folder's checkpoint; None where there is none and none is missing.

    Raises StaleCheckpointError for one that is damaged, or lacks what a process saw committed.
    """
    found = Checkpoint.load(folder.checkpoint)
    if found is None:
        if left is not None and not left.finished and (left.commits or left.flights or not left.known):
            raise _lost(folder, "is gone, and its run isn't finished")
        return None
    with ExitStack() as stack:
        stack.enter_context(found)
        if left is not None and _lacks(found.progress(), left):
            raise _lost(folder, "lacks what was committed last: the file beside it that ends in -wal is gone")
        stack.pop_all()
    return found


def source_mark(expected: Identity, base: str, digests: Mapping[int, str]) -> str:
    """A digest of all that decides which bytes a run sends; of a file its content rather than its time."""
    files = [
        [*entry[:2], *([digests[number]] if number in digests else entry[2:])]
        for number, entry in enumerate(entries_of(expected))
    ]
    text = json.dumps([{**expected, "source": files}, base], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def is_same_run(left: Left | None, mark: str) -> bool:
    """Whether a run with this mark would send what the lost one sent, byte for byte."""
    return left is not None and not left.finished and left.mark.source == mark


def lost_remedy(job: Job, left: Left | None, *, same: bool) -> str:
    """What to do about a checkpoint that is lost; `same`: this run would send what that one sent."""
    names = increments_of(job)
    if not names and (left is None or not left.mark.counts):
        return "run with --restart: it begins anew, and what arrived before arrives once more, as it was"
    once = TRANSPORTS[job.destination.transport].counts_once and left is not None and not left.finished
    if once and left is not None and time.time() - left.mark.began < _REMEMBERED_SECONDS:
        if same:
            return "run with --restart: the same events are sent again, and what had arrived counts once"
        return (
            "run with the source and the job file that it began with, and --restart: the same events are "
            "sent again, and what had arrived counts once; then run this one"
        )
    what = ", ".join(names) or "increments"
    return (
        "put the file back from a copy, if there is one; with --restart everything is sent again, "
        f"and {what} of what had arrived counts twice"
    )


def doubt_lost(folder: StateFolder, left: Left | None, job: Job) -> None:
    """Believe nothing of the users that a lost run may have sent something. Raises StateError."""
    if left is not None and left.finished:
        return
    layout = layout_of(job.identification, job.changes)
    endpoints = {job.destination.endpoint, *([left.mark.endpoint] if left else [])}
    for endpoint in sorted(endpoints):
        own = at_destination(folder, endpoint)
        doubt_everyone(own, layout, endpoint, left.mark.number if left else 1)


def _lacks(progress: Progress, left: Left) -> bool:
    if left.mark.run_id != progress.run_id:
        return False
    return left.commits > progress.commits or (left.finished and not progress.finished)


def _lost(folder: StateFolder, what: str) -> StaleCheckpointError:
    return StaleCheckpointError(f"the checkpoint {folder.checkpoint} {what}", damaged=True)
