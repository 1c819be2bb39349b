"""Whether a run begins anew or is taken up: a checkpoint only fits the source, job and limits it is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast
from uuid import uuid4

from etl.checkpoint import Checkpoint, Identity, Progress, StateFolder
from etl.encoder import Limits
from etl.errors import StaleCheckpointError, TooManyChangesError
from etl.job import Job, fingerprint
from etl.pipeline.basis import Basis
from etl.reader import Source

# Raised whenever the same rows would be cut into other chunks or encoded to other bytes than before.
_CUT = 1


def identity(job: Job, source: Source, limits: Limits, *, full: bool = False) -> Identity:
    """What decides which bytes are sent: the job's fingerprint, where to, the limits, the files, `--full`."""
    files = [[file.name, file.size, file.modified, file.sample] for file in source.files]
    if not source.repeatable:
        files.append([uuid4().hex])  # a stream is never the same again
    return {
        "job": fingerprint(job),
        "endpoint": job.destination.endpoint,
        "transport": job.destination.transport,
        "full": full,
        "limits": {"identifications": limits.identifications, "bytes": limits.body_bytes, "cut": _CUT},
        "source": files,
    }


@dataclass(frozen=True, slots=True)
class TakenUp:
    """A run's checkpoint; `again`: the run before finished, and was of these very files.

    `resumed`: an earlier process began this run, and may have sent more than is settled.
    """

    checkpoint: Checkpoint
    again: bool = False
    resumed: bool = False


@contextmanager
def taken_up(folder: StateFolder, expected: Identity, basis: Basis) -> Iterator[TakenUp]:
    """The job's checkpoint: an unfinished one that fits, else a new one.

    Raises StaleCheckpointError for an unfinished one that doesn't fit.
    """
    found, number, again = Checkpoint.load(folder.checkpoint), basis.number, False
    try:
        if found is not None:
            with found:
                progress = found.progress()
                if not progress.finished:
                    _check_fit(folder, progress, expected, basis)
                    yield TakenUp(found, resumed=True)
                    return
                # Also where the snapshot is gone: rejects tell by this number that they are older.
                number = max(number, progress.number + 1)
                again = progress.identity.get("source") == expected["source"]
        with Checkpoint.create(folder.checkpoint, expected, number=number, base=basis.run_id) as new:
            yield TakenUp(new, again)
    except TooManyChangesError:
        # Where it never began, tomorrow's export must not be taken for another one than this run's.
        if found is None or progress.finished or progress.tally.rows == 0:
            Checkpoint.discard(folder.checkpoint)
        raise


def _check_fit(folder: StateFolder, found: Progress, expected: Identity, basis: Basis) -> None:
    difference = _difference(found.identity, expected)
    # Its own snapshot: it was killed between writing that and finishing.
    if difference is None and basis.run_id not in {found.base, found.run_id}:
        difference = f"that compares with another snapshot than {folder.snapshot}, as it is now"
    if difference is not None:
        raise StaleCheckpointError(
            f"{folder.checkpoint} keeps an unfinished run {difference}",
            hint="finish that run first, or drop it with --restart",
        )


def _difference(found: Identity, expected: Identity) -> str | None:
    """How the two differ, as the end of a sentence."""
    if found.get("endpoint") != expected["endpoint"]:
        return f"to another destination: {found.get('endpoint')}, not {expected['endpoint']}"
    if found.get("transport") != expected["transport"]:
        return f"over another transport: {found.get('transport')}, not {expected['transport']}"
    if found.get("job") != expected["job"]:
        return "of another job: the job file's identification, csv, changes or transform has changed since"
    if found.get("full") != expected["full"]:
        return "begun with --full" if found.get("full") else "begun without --full"
    if found.get("limits") != expected["limits"]:
        was = cast("Mapping[str, object]", found.get("limits", {})).get("identifications")
        now = cast("Mapping[str, object]", expected["limits"])["identifications"]
        return f"with other limits: --batch-size {was}, not {now}"
    if found.get("source") != expected["source"]:
        return f"of another source: {_file_difference(found.get('source'), expected['source'])}"
    return None


def _file_difference(found: object, expected: object) -> str:
    before = {file[0]: file[1:] for file in cast("list[list[object]]", found)}
    after = {file[0]: file[1:] for file in cast("list[list[object]]", expected)}
    for name, marks in before.items():
        if len(name if isinstance(name, str) else "") == 0 or not marks:
            return "a stream such as stdin can't be taken up"
        if name not in after:
            return f"{name} isn't among the files any more"
        if after[name] != marks:
            return f"{name} has changed (its size, time or content)"
    return f"{next((name for name in after if name not in before), 'a file')} is new, or the order differs"


__all__ = ["TakenUp", "identity", "taken_up"]
