"""What a state folder remembers of its job file, for commands that need to know no more of a job.

To read and check a job file takes longer than all else that `status` does. So each run leaves here what came
of it, with a digest of all that it came of: while that is the same, so is the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from ..state_files import replacing_file

if TYPE_CHECKING:
    from .spec import Job

JOB_NOTES: Final = "job.json"
_FORMAT: Final = 1  # another one once the same job file has another name, place or endpoint than before
_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")
# Where the state folder may be. A wrong guess does no harm: what counts is what the job was found to say.
_GUESS: Final = re.compile(r"\b(?:name|state_dir)[\"']?\s*:\s*[\"']?([^\n\"'{}#,]+)")
_MOST_BYTES: Final = 4_000_000


def file_digest(text: str, path: str | Path, environ: Mapping[str, str]) -> str:
    """A digest of all that a job file's name, place and endpoint come of."""
    variables = {name: environ.get(name) for name in _VARIABLE.findall(text)}
    content = [_FORMAT, Path(path).stem, text, variables]
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class KnownJob(NamedTuple):
    """A job's name, state folder and endpoint, and where its API key is; `folder` is that of the file."""

    name: str
    folder: Path
    state_dir: Path
    endpoint: str
    api_key_env: str
    api_key_file: str | None

    @classmethod
    def of(cls, job: Job) -> Self:
        """What is known of a job that was loaded."""
        same = {name: getattr(job, name) for name in cls._fields if name != "endpoint"}
        return cls(**same, endpoint=job.destination.endpoint)

    @classmethod
    def find(cls, path: Path, state_dir: Path | None, environ: Mapping[str, str]) -> Self | None:
        """What a run left of exactly this job file, in this state folder or in the job's own; else None."""
        with suppress(OSError, ValueError, LookupError):
            if not path.is_file() or path.stat().st_size > _MOST_BYTES:
                return None
            text, folder = path.read_bytes().decode(), path.parent
            digest = file_digest(text, path, environ)
            words = dict.fromkeys([path.stem, *map(str.strip, _GUESS.findall(text))])
            own = [folder / above / word for word in words for above in (".propsync", "")]
            for place in own if state_dir is None else [state_dir]:
                found = _read(place)
                if found.get("digest") == digest:
                    plain = {name: found[name] for name in cls._fields if name != "folder"}
                    known = cls(**plain | {"folder": folder, "state_dir": folder / plain["state_dir"]})
                    if place in {state_dir, known.state_dir}:
                        return known
        return None


def remember_job(state_dir: Path, job: Job, rows: int | None) -> None:
    """Leave in the state folder what is known of a job, and the rows of its source. Raises StateError."""
    known = KnownJob.of(job)
    plain = {name: getattr(known, name) for name in KnownJob._fields if name != "folder"}
    place = known.state_dir  # relative, as the job file may lie somewhere else tomorrow
    plain["state_dir"] = str(place.relative_to(job.folder) if place.is_relative_to(job.folder) else place)
    with replacing_file(state_dir / JOB_NOTES) as file:
        file.write(json.dumps(plain | {"digest": job.digest, "rows": rows}).encode())


def remembered_rows(state_dir: Path) -> int | None:
    """How many rows the source has that was sent last; None where that is not known."""
    rows = _read(state_dir).get("rows")
    return rows if isinstance(rows, int) else None


def _read(state_dir: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads((state_dir / JOB_NOTES).read_bytes())
        if isinstance(found, dict):
            return found
    return {}
