"""How far the run of a state folder is, for other processes: a small file, rewritten while it sends."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from ..state_files import replacing_file


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What a run does at the moment `updated`, and since when; moments are in seconds since the epoch.

    "paused": the destination asked for it (429); "outage": nothing gets through, for `reason`. `rows` are
    committed of `total_rows` (None: unknown, or `estimated` by bytes). `rows_per_second` is of the last half
    minute, `average_rows_per_second` of this process.
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
