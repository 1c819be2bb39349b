"""The API key and the secret key, from the variables or files that the job names; no error shows them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .known_job import KnownJob
    from .spec import Job

MAX_KEY_BYTES: Final = 4096
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
    """The key from the job's key file, or else from its variable in `environ`. Raises UsageError."""
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
                text = opened.read(MAX_KEY_BYTES).decode("utf-8-sig")
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
