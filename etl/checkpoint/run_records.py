"""Small JSON files in a state folder, for other processes and later runs.

They are the record of each past run (in the folder `runs`), the state of an active run, and what a probe
found out about a destination, which runs obey.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, Self

import orjson

from ..state_files import replacing_file
from .state_dir import StateDir

KEPT_RUNS: Final = 100
_KEPT_DAYS: Final = 365
_FOLDER: Final = "runs"


# --- past runs --------------------------------------------------------------------------------------------


def keep_run(state_dir: Path, record: Mapping[str, object], ended: datetime) -> Path:
    """Write the record of a run that ended, and remove the oldest ones. Raises StateError, OSError.

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


# --- the active run ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What a run does at the time `updated`, and since when; times are in seconds since the epoch.

    "paused": the destination asked for it (429); "outage": nothing gets through, for `reason`. Of
    `total_rows` (None: unknown; `estimated`: by bytes) `rows` are committed. `rows_per_second` is of the last
    half minute, `average_rows_per_second` of this process.
    """

    state: Literal["sending", "paused", "outage"]
    since: float
    updated: float
    rows: int
    total_rows: int | None
    estimated: bool
    rows_per_second: float
    average_rows_per_second: float
    seconds_left: float | None
    reason: str | None = None
    next_try: float | None = None

    def save(self, path: Path) -> None:
        """Replace the file, which only its owner can read. Raises StateError."""
        with replacing_file(path, durable=False) as file:
            file.write(json.dumps(asdict(self)).encode())

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read the file; None if there is none, or if another version wrote it."""
        with suppress(OSError, ValueError, TypeError):
            return cls(**json.loads(path.read_bytes()))
        return None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with the share of the rows in percent."""
        share = 100 * self.rows / self.total_rows if self.total_rows else None
        return {**asdict(self), "percent": None if share is None else round(min(share, 100.0), 2)}


# --- findings of a probe ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question, None if it is unknown, and its evidence."""

    value: Any
    evidence: str

    def __str__(self) -> str:
        if isinstance(self.value, dict):
            several = "updates" in self.value
            return "{updates} in {seconds} s".format(**self.value) if several else str(len(self.value))
        if isinstance(self.value, bool | None):
            return {True: "yes", False: "no", None: "unknown"}[self.value]
        return f"{self.value:,}" if isinstance(self.value, int) else str(self.value)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What is known of the Identify API at an endpoint, by question; `date` is when it was probed (UTC)."""

    endpoint: str
    date: str
    findings: Mapping[str, Finding]

    @classmethod
    def load(cls, folder: StateDir, endpoint: str) -> Capabilities | None:
        """What was last found out about an endpoint; None if nothing, or if the file isn't readable."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            data = dict(orjson.loads(folder.capabilities.read_bytes()))
            known, date = data.pop("endpoint"), datetime.fromisoformat(data.pop("date")).isoformat()
            if known == endpoint:
                return cls(known, date, {name: Finding(**found) for name, found in data.items()})
        return None

    def as_json(self) -> dict[str, Any]:
        """The content of the file."""
        found = {name: asdict(finding) for name, finding in self.findings.items()}
        return {"endpoint": self.endpoint, "date": self.date, **found}

    def save(self, folder: StateDir) -> None:
        """Replace the file, which only its owner can read. Raises StateError."""
        with replacing_file(folder.capabilities) as file:
            file.write(orjson.dumps(self.as_json(), option=orjson.OPT_INDENT_2))

    def most(self, question: str) -> int | None:
        """A limit that was found; None if it is unknown."""
        value = self.findings[question].value if question in self.findings else None
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

    def differences(self, newer: Capabilities) -> Iterator[str]:
        """What is known of both and isn't the same, a sentence each."""
        for name, finding in newer.findings.items():
            before = self.findings[name].value if name in self.findings else None
            known = name != "refusals" and before is not None and finding.value is not None
            if known and before != finding.value:
                yield f"{name} was {self.findings[name]} on {self.date[:10]}, and is {finding} now"

    def __str__(self) -> str:
        found = ((name, self.most(name)) for name in ("identifications", "bytes"))
        sizes = (f"{most:,} {name}" if most else f"an unknown number of {name}" for name, most in found)
        return f"probed on {self.date[:10]}: a request takes {' and '.join(sizes)}"
