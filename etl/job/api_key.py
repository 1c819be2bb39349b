"""The API key of a job, from where the job says it is kept; no error ever shows it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from etl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etl.job.spec import Job

MAX_KEY_BYTES: Final = 4096


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
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise UsageError(f"{place} holds no API key: it has blanks or other signs no key has", hint=hint)
    return key


def _file_text(folder: Path, name: str) -> str:
    try:
        path = folder / Path(name).expanduser()
        with path.open("rb") as file:
            return file.read(MAX_KEY_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        # The error would carry the file's content along: `from None`.
        raise UsageError(
            f"the key file {name} isn't text", hint="put the project's API key into it"
        ) from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"the key file {name} can't be read: {reason}", hint="it is looked for relative to the job file"
        ) from error
