"""What decides what a run sends, as digests: the job, its source and files, the state folder, the settings.

A plan has them in its file, so that it can say what differs when it is to be sent. Digests of whole files are
made at the start if that is quick or they are needed, else while rows are sent.

A run replaces the job's own rejects when it ends, so of those that it reads, a copy is kept beside them until
it has finished: it can be resumed even if the process is killed after the new rejects were published.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from ..checkpoint import Checkpoint, RejectKey, StateDir, reject_key, reject_lines
from ..encoder import Limits
from ..errors import EtlError, StaleCheckpointError, UsageError
from ..job.spec import Job, key_fingerprints
from ..mapper import load_transform
from ..reader import Source
from ..run_events import Noted, Warned
from ..snapshot import layout_of
from ..state_files import is_there, replacing_file
from .guards import entry_of
from .settings import Settings, at_endpoint, known_limits
from .status import destination_folder, look_at_snapshot

# Reading so much takes less than a tenth of a second.
QUICK_BYTES: Final = 64_000_000
_JOIN_SECONDS: Final = 2.0


def first_digests(source: Source, *, needed: bool) -> dict[int, str]:
    """The digests made before anything is sent; those of all files if they are `needed`."""
    if not source.repeatable:
        return {}
    files = range(len(source.files))
    if not needed and sum(source.weight(file) or 0 for file in files) > QUICK_BYTES:
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
def digests_meanwhile(
    source: Source, known: Mapping[int, str], keep: Callable[[Mapping[int, str]], None]
) -> Iterator[None]:
    """Make the other digests in a thread, and `keep` each, while the context is open.

    Without its digest, a file whose time changes counts as another one. Tables in memory are left out: their
    digests take longer than reading a file.
    """
    local = [number for number, file in enumerate(source.files) if file.modified is not None]
    left = [number for number in local if number not in known and source.weight(number) is not None]
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


# --- the job's own rejects ------------------------------------------------------------------------------


def own_rejects(source: Source, folder: StateDir) -> list[int]:
    """Which files of a source are the reject file of the state folder."""
    own = folder.rejects.resolve()
    return [place for place in range(len(source.files)) if source.path(place) == own]


def keep_rejects(source: Source, folder: StateDir) -> None:
    """Keep the job's own rejects if the run that begins reads them. Raises StateError."""
    if not own_rejects(source, folder):
        drop_kept(folder)
        return
    with replacing_file(folder.kept_rejects) as kept, folder.rejects.open("rb") as rejects:
        shutil.copyfileobj(rejects, kept)
        kept.flush()
        state = os.fstat(rejects.fileno())  # a file with another time would be another one
        os.utime(kept.fileno(), ns=(state.st_atime_ns, state.st_mtime_ns))


def drop_kept(folder: StateDir) -> None:
    """Remove the kept file, which is not needed any more."""
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


def with_kept(source: Source, folder: StateDir) -> Source:
    """The source with the kept file in place of its own rejects, if its run has committed all rows.

    The same source if there is no such run, or if somebody wrote to the rejects since.
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
        kept = source.kept(place, folder.kept_rejects)
        if place < len(entries) and entries[place] == entry_of(kept.files[place]):
            source = kept
    return source


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

    def as_dict(self) -> dict[str, Any]:
        """All of it but the snapshot, as digests and plain data.

        Raises UsageError for a source that can be read only once, SourceError.
        """
        job, files = self.job, self.source.files
        digests = [self.source.sha256(file) for file in range(len(files))]
        if None in digests:
            raise stream_error()
        transform = None
        if job.transform is not None:
            load_transform(job.transform, job.folder)
            path = getattr(sys.modules[job.transform.partition(":")[0]], "__file__", None)
            transform = hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else None
        return {
            "job": job.name,
            "endpoint": job.destination.endpoint,
            "transport": job.destination.transport,
            "keys": key_fingerprints(job),
            "transform": transform,
            "full": self.settings.full,
            "identifications": self.limits.identifications,
            "bytes": self.limits.body_bytes,
            "files": [
                {"name": file.name, "bytes": file.size, "sha256": digest}
                for file, digest in zip(files, digests, strict=True)
            ],
        }

    def snapshot(self) -> dict[str, object] | None:
        """The snapshot that rows are compared with: the run that wrote it, when, and its digest."""
        job = self.job
        if layout_of(job.identification, job.changes) is None:
            return None
        try:
            path = destination_folder(self.folder, job.destination.endpoint).snapshot
            if (found := look_at_snapshot(path)) is None:
                return None
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except StaleCheckpointError as error:
            return {"damaged": error.message}
        header = found[0].header
        return {"run": header.number, "written": header.created, "users": found[1], "sha256": digest}


def stream_error() -> UsageError:
    """The error for a plan of a source that can be read only once."""
    return UsageError(
        "a stream is gone once it was read, so there can be no plan of it",
        hint="save it to a file and name that, or leave the plan out",
    )


def input_differences(plan: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two inputs as data, a phrase each."""
    words = {"job": "job", "endpoint": "destination", "transport": "transport"}
    words |= {"identifications": "identifications in a request", "bytes": "bytes of a request"}
    yield from (f"{words[name]}: {plan[name]} -> {now[name]}" for name in words if plan[name] != now[name])
    if plan["full"] != now["full"]:
        yield "planned with --full" if plan["full"] else "planned without --full"
    before, after = plan["keys"], now["keys"]
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        yield f"the job changed: {', '.join(changed)}"
    if plan["transform"] != now["transform"]:
        yield "the module of the transform changed"
    old, new = ({file["name"]: file for file in files} for files in (plan["files"], now["files"]))
    for name, file in old.items():
        if name not in new:
            yield f"source: {name} is not among the files any more"
        elif new[name] != file:
            sizes = file["bytes"], new[name]["bytes"]
            same = "other content" if sizes[0] == sizes[1] else f"{sizes[0]:,} -> {sizes[1]:,} bytes"
            yield f"source: {name} changed ({same})"
    yield from (f"source: {name} is new" for name in new if name not in old)
    if list(old) != list(new) and old.keys() == new.keys():
        yield "source: the order of the files"
