"""Records of past runs: one small JSON file for each, in the folder `runs` of the state folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ..state_files import replacing_file

KEPT_RUNS: Final = 100
_KEPT_DAYS: Final = 365
_FOLDER: Final = "runs"


def keep_run(state_dir: Path, record: Mapping[str, object], ended: datetime) -> Path:
    """Write the record of a run that ended, and remove the oldest ones. Raises StateError.

    Its name is the time in UTC with the process id, so that runs which end together have a file each.
    """
    folder = state_dir / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{ended.astimezone(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.json"
    with replacing_file(path) as file:
        # Not orjson: a file name that isn't UTF-8 has half characters.
        file.write(json.dumps(record).encode())
    oldest = f"{ended.astimezone(UTC) - timedelta(days=_KEPT_DAYS):%Y%m%d}"
    names = sorted(folder.glob("*.json"), reverse=True)
    for number, old in enumerate(names):
        if number >= KEPT_RUNS or old.name < oldest:
            with suppress(OSError):
                old.unlink()
    return path


def past_runs(state_dir: Path) -> Iterator[dict[str, Any]]:
    """The records, the latest first, each with `run`, the name of its file; unreadable ones are left out."""
    for path in sorted((state_dir / _FOLDER).glob("*.json"), reverse=True):
        with suppress(OSError, ValueError):
            record = json.loads(path.read_bytes())
            if isinstance(record, dict) and isinstance(record.get("summary"), dict):
                yield {"run": path.stem, **record}
