"""What the sandbox counts, and what it remembers of each request: never a body, never a key."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import orjson

from etl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(slots=True)
class Stats:
    """Counts since the start or the last reset.

    `requests`, `bytes` (of bodies) and `statuses` are of requests with updates; one that was dropped without
    an answer has no status. `accepted` counts requests and `identifications` what was in them, without
    `repeated_inserts`, which are events whose insert_id came before; other events are in `events`. `faults`
    by kind and moment. `concurrent_users` counts users found in two requests under way together,
    `repeated_users` those found again in one request, `dropped_updates` what the hourly limit swallowed,
    `unknown_keys` by name the keys of identifications that the API doesn't have, `reads` profiles asked for.
    """

    requests: int = 0
    accepted: int = 0
    identifications: int = 0
    events: int = 0
    repeated_inserts: int = 0
    bytes: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    concurrent_users: int = 0
    repeated_users: int = 0
    dropped_updates: int = 0
    unknown_keys: Counter[str] = field(default_factory=Counter)
    reads: int = 0

    def reset(self) -> None:
        """Count from nothing again."""
        for name, value in ((one.name, getattr(Stats(), one.name)) for one in fields(self)):
            setattr(self, name, value)

    def as_json(self) -> dict[str, object]:
        """Show the counts as JSON values; statuses become text."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            name: _plain(value) if isinstance(value, Counter) else value for name, value in values.items()
        }


@dataclass(frozen=True, slots=True)
class Entry:
    """One request with updates as the journal keeps it.

    `received` is in seconds since the epoch; `sha256` is the hex digest of the body as it came, and `size`
    its bytes. `identifications` counts what was in it, for the event APIs events of any type. `status` is
    None where no whole answer was given. `reason` says why the answer isn't success, `fault` what was done
    to the request on purpose.
    """

    path: str
    received: float
    sha256: str
    size: int
    identifications: int
    users: int
    status: int | None
    applied: bool
    fault: str | None
    reason: str

    def as_line(self) -> bytes:
        """Write the entry as a line of NDJSON."""
        return orjson.dumps(self, option=orjson.OPT_APPEND_NEWLINE)


class Journal:
    """Entries in the order of their answers, in memory where `keep` says so and in a file if one is named."""

    def __init__(self, path: Path | None, keep: Callable[[], bool]) -> None:
        """Open the file to append to it. Raises UsageError."""
        self.entries: list[Entry] = []
        self._keep = keep
        try:
            # Unbuffered, so that who reads the file sees every answered request.
            self._file = None if path is None else path.open("ab", buffering=0)
        except OSError as error:
            hint = "give --journal a file in a folder that exists and can be written"
            raise UsageError(f"the journal {path} can't be opened: {error.strerror}", hint=hint) from error

    @property
    def wanted(self) -> bool:
        """Whether anything is kept at all."""
        return self._file is not None or self._keep()

    def add(self, entry: Entry) -> None:
        """Keep an entry."""
        if self._keep():
            self.entries.append(entry)
        if self._file is not None:
            self._file.write(entry.as_line())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _plain(counts: Counter[Any]) -> dict[str, int]:
    return {str(name): count for name, count in sorted(counts.items())}
