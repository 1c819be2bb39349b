"""What decides what a run sends: the job, its source, the state folder and the settings, as digests.

A plan has them in its file, so that it can say what differs when it is to be sent.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..checkpoint import StateDir
from ..encoder import Limits
from ..errors import StaleCheckpointError, UsageError
from ..job.spec import Job, key_fingerprints
from ..mapper import load_transform
from ..reader import Source
from ..run_events import Noted, Warned
from ..snapshot import layout_of
from .destination_folder import destination_folder, look_at_snapshot
from .settings import Settings, at_endpoint, known_limits


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
