"""What a run begins with: a job, its source, folder and limits; and whether another run began with the same.

Files are the same if their digests are. These are made at the start if that is quick or they are needed, else
while rows are sent.

A run replaces the job's own rejects when it ends. If it reads them, it keeps a copy until it has finished: so
it can be resumed even if the process is killed after the new rejects were published.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final, Self
from uuid import uuid4

import numpy as np
from pydantic import TypeAdapter

from .. import amplitude
from ..checkpoint import Checkpoint, RejectKey, RunIdentity, StateDir, reject_key, reject_lines
from ..encoder import Limits
from ..errors import EtlError
from ..job.spec import Job, fingerprint
from ..model import SourceFile
from ..reader import Source
from ..run_events import Noted, Warned
from ..snapshot import Layout, layout_of
from ..state_files import is_there, replacing_file
from .settings import Settings, at_endpoint, known_limits

# Raised whenever the same rows would be cut into other chunks or encoded to other bytes than before.
_CUT: Final = 2


@dataclass(frozen=True, slots=True)
class RunInputs:
    """What decides which identifications a run sends.

    The `job` has the endpoint of the `settings`, `folder` is its state folder, and `limits` are those of a
    request; the `notes` say where these come from.
    """

    job: Job
    source: Source
    settings: Settings
    folder: StateDir
    limits: Limits
    notes: tuple[Warned | Noted, ...]

    @classmethod
    def of(cls, job: Job, source: Source, settings: Settings) -> Self:
        """What a run of a job with these settings begins with.

        Raises UsageError for a batch size or an endpoint that can't be, JobError as `at_endpoint`.
        """
        job = at_endpoint(job, settings)
        folder = StateDir(settings.state_dir or job.state_dir)
        return cls(job, source, settings, folder, *known_limits(job, settings, folder))

    def identity(self) -> RunIdentity:
        """What decides which bytes are sent, as plain data; a stream never has the same twice."""
        job, source, limits = self.job, self.source, self.limits
        files = list(map(entry_of, source.files))
        if not source.repeatable:
            files.append([uuid4().hex])
        return {
            "job": fingerprint(job),
            "endpoint": job.destination.endpoint,
            "transport": job.destination.transport,
            "full": self.settings.full,
            "limits": {"identifications": limits.identifications, "bytes": limits.body_bytes, "cut": _CUT},
            "source": files,
        }


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
        return TypeAdapter(JobFacts).validate_python(plain)


# --- which bytes a run sends ------------------------------------------------------------------------------

_NAME, _SIZE, _TIME, _SAMPLE = range(4)  # of the entry of a file; that of a stream is one number


def entry_of(file: SourceFile) -> list[object]:
    """What identifies a file: its name, size, time and sample."""
    return [file.name, file.size, file.modified, file.sample]


def source_mark(expected: RunIdentity, base: str, digests: Mapping[int, str]) -> str:
    """A digest of all that decides which bytes a run sends; of a file its content rather than its time."""
    files = [
        [*entry[:2], *([digests[number]] if number in digests else entry[2:])]
        for number, entry in enumerate(expected["source"])
    ]
    text = json.dumps([{**expected, "source": files}, base], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


# By part of an identity, the message if that differs.
_DIFFERENCES: Final[Mapping[str, Callable[[Any, Any], str]]] = {
    "endpoint": lambda was, now: f"to another destination: {was}, not {now}",
    "transport": lambda was, now: f"over another transport: {was}, not {now}",
    "job": lambda _, __: (
        "of another job: the job file's identification, csv, changes or transform has changed since"
    ),
    "full": lambda was, _: "begun with --full" if was else "begun without --full",
    "limits": lambda was, now: (
        f"with other limits: --batch-size {was['identifications']}, not {now['identifications']}"
    ),
}


def difference(
    found: RunIdentity, expected: RunIdentity, is_same: Callable[[int], bool | None]
) -> str | None:
    """How two runs differ; None if both send the same bytes. A file's new time alone is not a difference.

    `is_same` says of a file, by its number, whether its content is still the same; None if that is unknown.
    """
    for part, describe in _DIFFERENCES.items():
        if found[part] != expected[part]:
            return describe(found[part], expected[part])
    old, new = found["source"], expected["source"]
    if any(len(entry) == 1 for entry in (*old, *new)):
        return "of another source: a stream such as stdin can't be resumed"
    before, after = [entry[_NAME] for entry in old], [entry[_NAME] for entry in new]
    if gone := [name for name in before if name not in after]:
        return f"of another source: {gone[0]} isn't among the files any more"
    if before != after:
        name = next((name for name in after if name not in before), "a file")
        return f"of another source: {name} is new, or the order differs"
    for number, (one, other) in enumerate(zip(old, new, strict=True)):
        same = (one[_SIZE], one[_SAMPLE]) == (other[_SIZE], other[_SAMPLE])
        if same and one[_TIME] != other[_TIME]:
            same = is_same(number) is True
        elif same and one[_TIME] is None:  # what has no time may have other rows in the middle
            same = is_same(number) is not False
        if not same:
            return f"of another source: {one[_NAME]} has changed (its size, time or content)"
    return None


# --- digests of whole files -------------------------------------------------------------------------------

# Reading so much takes less than a tenth of a second.
_QUICK_BYTES: Final = 64_000_000
_JOIN_SECONDS: Final = 2.0


def first_digests(source: Source, *, needed: bool) -> dict[int, str]:
    """The digests made before anything is sent; those of all files if they are `needed`."""
    if not source.repeatable:
        return {}
    files = range(len(source.files))
    if not needed and sum(source.digest_bytes(file) or 0 for file in files) > _QUICK_BYTES:
        return {}
    # A file without a time is only fetched for its digest if that is needed.
    untimed = [needed and file.modified is None for file in source.files]
    found = ((file, source.digest(file, anywhere=untimed[file])) for file in files)
    return {file: digest for file, digest in found if digest is not None}


def same_content(source: Source, digests: Mapping[int, str], file: int) -> bool | None:
    """Whether a file still has its digest; None if that is unknown."""
    digest = source.digest(file) if file in digests else None
    return None if digest is None else digest == digests[file]


@contextmanager
def background_digests(
    source: Source, known: Mapping[int, str], keep: Callable[[Mapping[int, str]], None]
) -> Iterator[None]:
    """Make the other digests in a thread, and `keep` each, while the context is open.

    Without its digest, a file whose time changes counts as another one. Tables in memory are left out: their
    digests take longer than reading a file.
    """
    local = [number for number, file in enumerate(source.files) if file.modified is not None]
    left = [number for number in local if number not in known and source.digest_bytes(number) is not None]
    if not left or not source.repeatable:
        yield
        return
    stop = threading.Event()

    def make() -> None:
        for number in left:
            with suppress(EtlError, OSError):
                digest = source.digest(number, stop.is_set)
                if digest is not None:
                    keep({number: digest})

    thread = threading.Thread(target=make, name="digest", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_JOIN_SECONDS)  # it may be stuck in a network file system


# --- the job's own rejects --------------------------------------------------------------------------------


def own_rejects(source: Source, folder: StateDir) -> list[int]:
    """Which files of a source are the reject file of the state folder."""
    own = folder.rejects.resolve()
    return [place for place in range(len(source.files)) if source.path(place) == own]


def keep_rejects(source: Source, folder: StateDir) -> None:
    """Keep the job's own rejects if the run that begins reads them. Raises StateError."""
    if not own_rejects(source, folder):
        drop_kept_rejects(folder)
        return
    with replacing_file(folder.kept_rejects) as kept, folder.rejects.open("rb") as rejects:
        shutil.copyfileobj(rejects, kept)
        kept.flush()
        state = os.fstat(rejects.fileno())  # a file with another time would be another one
        os.utime(kept.fileno(), ns=(state.st_atime_ns, state.st_mtime_ns))


def drop_kept_rejects(folder: StateDir) -> None:
    """Remove the copy of the rejects, which is not needed any more."""
    with suppress(OSError):
        folder.kept_rejects.unlink(missing_ok=True)


def stays_beside(source: Source, folder: StateDir) -> Callable[[RejectKey], bool]:
    """Which rejects of other runs stay in the reject file when a run of this source publishes its own.

    If rejects were sent again, those that were not among them; after an export, none. The job's own rejects
    were all sent.
    """
    if not source.holds_rejects or own_rejects(source, folder):
        return lambda _: False
    sent = np.zeros(0, np.int64)
    if source.repeatable:
        with suppress(EtlError, OSError):  # else nobody knows which were sent
            keys = filter(None, map(reject_key, source.reject_lines()))
            sent = np.sort(np.fromiter(map(hash, keys), np.int64))

    def stays(key: RejectKey) -> bool:
        place = sent.searchsorted(hash(key))
        return place == len(sent) or bool(sent[place] != hash(key))

    return stays


def with_kept_rejects(source: Source, folder: StateDir) -> Source:
    """The source with the copy in place of the job's own rejects, if its run has committed all rows.

    The same source if there is no such run, or if the rejects were edited since.
    """
    places = own_rejects(source, folder)
    if not places or not is_there(folder.kept_rejects):
        return source
    try:
        with Checkpoint.look(folder.checkpoint) as found:
            if found is None or not found.progress().complete:
                return source
            progress = found.progress()
            with folder.rejects.open("rb") as lines:  # are they what the run leaves behind?
                pairs = zip_longest(lines, reject_lines(found.rejects(), run=progress.number))
                if any(one != other for one, other in pairs):
                    return source
    except (EtlError, OSError):
        return source  # the start of the run reports what is wrong
    entries = progress.identity["source"]
    for place in places:
        kept = source.reading_from(place, folder.kept_rejects)
        if place < len(entries) and entries[place] == entry_of(kept.files[place]):
            source = kept
    return source
