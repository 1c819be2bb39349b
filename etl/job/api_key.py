"""The API key, read from the variable or file that the job names; no error shows it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def read_api_key(job: Job, environ: Mapping[str, str]) -> str:
    """The key from the job's key file, or else from its variable in `environ`. Raises UsageError."""
    if job.api_key_file is not None:
        place = f"the key file {job.api_key_file}"
        text = _file_text(job.folder, job.api_key_file)
        hint = "put the project's API key into the file, and nothing else"
    else:
        place = f"the environment variable {job.api_key_env}"
        text = environ.get(job.api_key_env, "")
        hint = f"set it to the project's API key: export {job.api_key_env}=..."
    key = text.strip()
    if not key:
        state = "is not set" if job.api_key_file is None and job.api_key_env not in environ else "is empty"
        raise UsageError(f"there is no API key: {place} {state}", hint=hint)
    for pattern, mistake, remedy in _MISTAKES:
        if pattern.fullmatch(key):
            raise UsageError(f"{place} holds no API key: its content {mistake}", hint=remedy)
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise UsageError(f"{place} holds no API key: it has blanks or signs that no key has", hint=hint)
    return key


def _file_text(folder: Path, name: str) -> str:
    try:
        path = folder / Path(name).expanduser()
        with path.open("rb") as file:
            return file.read(MAX_KEY_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        # The error would carry the file's content along: `from None`.
        raise UsageError(
            f"the key file {name} isn't UTF-8 text",
            hint="save it as UTF-8, with the project's API key in it and nothing else",
        ) from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"the key file {name} can't be read: {reason}", hint="it is looked for relative to the job file"
        ) from error
