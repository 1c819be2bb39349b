"""The last finished run to each endpoint, which a checkpoint remembers for the next run."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

# How many past runs are kept, each to another endpoint.
MOST_PAST: Final = 32


@dataclass(frozen=True, slots=True)
class PastRun:
    """The last finished run to an endpoint: of an export, or (`resent`) of rejects.

    `rows` counts those of its source. `counted`: increments arrived, or may have. `marks` has a text for the
    content of each file, None where it is unknown.
    """

    endpoint: str
    resent: bool
    rows: int
    number: int
    counted: bool
    marks: tuple[str | None, ...] = ()

    def overlap(self, marks: Sequence[str | None]) -> Literal["all", "some", "none"]:
        """Whether a source with these marks is that of the run ("all"), or shares files with it, or none."""
        mine, theirs = (Counter(mark for mark in some if mark is not None) for some in (self.marks, marks))
        if not (mine & theirs):
            return "none"
        whole = mine == theirs and None not in self.marks and None not in marks
        return "all" if whole else "some"


def mark_of(entry: Sequence[object], digest: str | None) -> str | None:
    """A text for a file's content; `entry` is its name, size, time and sample.

    Without a digest of the whole file its size and time must be the same. None where they are unknown.
    """
    _, size, modified, _ = entry
    if digest is not None:
        return f"{size}:{digest}"
    return None if size is None or modified is None else ":".join(map(str, entry))


def read_past(connection: sqlite3.Connection) -> tuple[PastRun, ...]:
    """The past runs in a checkpoint's database."""
    rows = connection.execute("SELECT endpoint, resent, rows, number, counted, marks FROM past")
    return tuple(
        PastRun(endpoint, bool(resent), count, number, bool(counted), tuple(json.loads(marks)))
        for endpoint, resent, count, number, counted, marks in rows
    )


def remember(connection: sqlite3.Connection, runs: Iterable[PastRun]) -> None:
    """Write past runs, each in place of the one before it to its endpoint."""
    connection.executemany(
        "INSERT OR REPLACE INTO past VALUES (?, ?, ?, ?, ?, ?)",
        ((r.endpoint, r.resent, r.rows, r.number, r.counted, json.dumps(r.marks)) for r in runs),
    )
