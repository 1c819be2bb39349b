"""The facts of a job that a command needs without loading it: its name, its folders and its keys.

To read and check a job file takes longer than all else that `status` does. So each run writes these facts to
the state folder, with a digest of the file and its variables: while the digest is the same, the facts hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from ..errors import UsageError
from ..state_files import replacing_file

if TYPE_CHECKING:
    from .spec import Job

JOB_NOTES: Final = "job.json"
_FORMAT: Final = 1  # another one once the same job file has another name, place or endpoint than before
_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")
# Where the state folder may be. A wrong guess does no harm: the facts have to name the folder they are in.
_GUESS: Final = re.compile(r"\b(?:name|state_dir)[\"']?\s*:\s*[\"']?([^\n\"'{}#,]+)")
_MOST_BYTES: Final = 4_000_000


def file_digest(text: str, path: str | Path, environ: Mapping[str, str]) -> str:
    """A digest of everything that decides the name, the folder and the endpoint of a job."""
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
        """The facts of a job that was loaded."""
        same = {name: getattr(job, name) for name in cls._fields if name != "endpoint"}
        return cls(**same, endpoint=job.destination.endpoint)

    @classmethod
    def find(cls, path: Path, state_dir: Path | None, environ: Mapping[str, str]) -> Self | None:
        """The facts that a run of exactly this job file wrote to this state folder, or its own; or None."""
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
    """Write what is known of a job, and the rows of its source, to the state folder. Raises StateError."""
    known = KnownJob.of(job)
    plain = {name: getattr(known, name) for name in KnownJob._fields if name != "folder"}
    place = known.state_dir  # relative, as the job file may lie somewhere else tomorrow
    plain["state_dir"] = str(place.relative_to(job.folder) if place.is_relative_to(job.folder) else place)
    with replacing_file(state_dir / JOB_NOTES) as file:
        file.write(json.dumps(plain | {"digest": job.digest, "rows": rows}).encode())


def remembered_rows(state_dir: Path) -> int | None:
    """How many rows the last source had; None if that is not known."""
    rows = _read(state_dir).get("rows")
    return rows if isinstance(rows, int) else None


def _read(state_dir: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads((state_dir / JOB_NOTES).read_bytes())
        if isinstance(found, dict):
            return found
    return {}


# --- the keys, which no error shows ----------------------------------------------------------------------

_MOST_KEY_BYTES: Final = 4096
# What people put where the key alone belongs, and the remedy; none of these is a key of Amplitude.
_MISTAKES: Final = (
    (re.compile(r"[{\[].*", re.DOTALL), "is JSON", "put only the key there, without the rest of the JSON"),
    (
        re.compile(r"(#[^\n]*\s+)*((export|set)\s+)?[A-Z_]\w{2,}\s*=(?!=*$).*", re.DOTALL | re.IGNORECASE),
        "is a line of an .env file, NAME=KEY",
        "put only the part after the = there, without quotes",
    ),
    (
        re.compile(r"(api_?key|key|amplitude\w*)\s*:.*", re.DOTALL | re.IGNORECASE),
        "is a line of YAML, NAME: KEY",
        "put only the part after the : there, without quotes",
    ),
    (re.compile(r"(['\"]).*\1", re.DOTALL), "is in quotes", "take the quotes off"),
    (re.compile(r"\S+\s*[\r\n].*", re.DOTALL), "has several lines", "put only the key there, on one line"),
)


def read_api_key(job: Job | KnownJob, environ: Mapping[str, str]) -> str:
    """The API key from the job's key file, or else from its variable in `environ`. Raises UsageError."""
    return _read_key("API key", job.folder, job.api_key_file, job.api_key_env, environ)


def read_secret_key(job: Job, environ: Mapping[str, str]) -> str:
    """The key with which users are read back, as `read_api_key`. Raises UsageError."""
    where = job.destination
    return _read_key("secret key", job.folder, where.secret_key_file, where.secret_key_env, environ)


def _read_key(kind: str, folder: Path, file: str | None, variable: str, environ: Mapping[str, str]) -> str:
    if file is None:
        place, text = f"the environment variable {variable}", environ.get(variable, "")
        hint = f"set it to the project's {kind}: export {variable}=..."
    else:
        place, text = f"the key file {file}", ""
        hint = f"put the project's {kind} into the file, and nothing else"
        try:
            with (folder / Path(file).expanduser()).open("rb") as opened:
                text = opened.read(_MOST_KEY_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError:
            hint = f"save it as UTF-8, with the project's {kind} in it and nothing else"
            # The error would carry the file's content along: `from None`.
            raise UsageError(f"{place} isn't UTF-8 text", hint=hint) from None
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            hint = "it is looked for relative to the job file"
            raise UsageError(f"{place} can't be read: {reason}", hint=hint) from error
    key = text.strip()
    if not key:
        state = "is not set" if file is None and variable not in environ else "is empty"
        raise UsageError(f"there is no {kind}: {place} {state}", hint=hint)
    for pattern, mistake, remedy in _MISTAKES:
        if pattern.fullmatch(key):
            raise UsageError(f"{place} holds no {kind}: its content {mistake}", hint=remedy)
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise UsageError(f"{place} holds no {kind}: it has blanks or signs that no key has", hint=hint)
    return key
