"""The checkpoint's SQLite file: its tables, how it is created, how an existing one is verified.

Its table of past runs holds the last finished run to each endpoint, for the next run.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from ..errors import StaleCheckpointError
from ..state_files import SQLITE_SUFFIXES, fresh_name, replacing_file, state_error
from ..tally import Tally

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


CHECKPOINT_VERSION: Final = 6
_APPLICATION: Final = 0x70727379  # "prsy": the file is ours
COUNTS: Final = tuple(field.name for field in fields(Tally))
# In `run`, `finished` is 1 for a finished run, and 2 for one of which only the snapshot is still to be
# written. `unchanged` has a set of snapshot entries in one row. `sent_file` says what a row of `sent` is.
_SCHEMA: Final = f"""
BEGIN;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {CHECKPOINT_VERSION};
CREATE TABLE run (identity TEXT, began REAL, seconds REAL, finished INTEGER, id TEXT, number INTEGER,
    base TEXT, about TEXT, commits INTEGER);
CREATE TABLE tally ({", ".join(f"{name} INTEGER DEFAULT 0" for name in COUNTS)});
INSERT INTO tally DEFAULT VALUES;
CREATE TABLE settled (file INTEGER, first INTEGER, stop INTEGER, PRIMARY KEY (file, first)) WITHOUT ROWID;
CREATE TABLE held (file INTEGER, first INTEGER, stop INTEGER, rows BLOB,
    PRIMARY KEY (file, first)) WITHOUT ROWID;
CREATE TABLE rejects (file INTEGER, row INTEGER, source TEXT, code TEXT, reason TEXT, "values" TEXT,
    origin TEXT, faults TEXT, PRIMARY KEY (file, row)) WITHOUT ROWID;
CREATE TABLE skipped ("column" TEXT, reason TEXT, count INTEGER,
    PRIMARY KEY ("column", reason)) WITHOUT ROWID;
CREATE TABLE sent (file INTEGER, first INTEGER, rows INTEGER, print_bytes INTEGER, keys INTEGER,
    prints INTEGER, end TEXT, place INTEGER);
CREATE INDEX sent_places ON sent (file, first);
CREATE TABLE unchanged (data BLOB);
CREATE TABLE limits (file INTEGER, row INTEGER, PRIMARY KEY (file, row)) WITHOUT ROWID;
CREATE TABLE digests (file INTEGER PRIMARY KEY, digest TEXT) WITHOUT ROWID;
CREATE TABLE past (endpoint TEXT, resent INTEGER, rows INTEGER, number INTEGER, counted INTEGER, marks TEXT,
    PRIMARY KEY (endpoint, resent)) WITHOUT ROWID;
COMMIT;
"""


def create_database(
    path: Path, run: Sequence[object], past: Iterable[PastRun], digests: Mapping[int, str]
) -> None:
    """Replace any older file by a new one with this row of `run`, past runs and digests. Raises StateError.

    Until the rename the old file is there, with all that was committed to it.
    """
    try:
        with (
            replacing_file(path, before=partial(_drop_log, path)),
            closing(sqlite3.connect(fresh_name(path), isolation_level=None)) as connection,
        ):
            # No other process opens the file before the rename, and it is synced as a whole.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(_SCHEMA)
            connection.execute(f"INSERT INTO run VALUES ({', '.join('?' for _ in run)})", run)
            remember(connection, past)
            connection.executemany("INSERT INTO digests VALUES (?, ?)", digests.items())
            # Now, as it has to be for one connection alone, and others may look once it has its name.
            connection.execute("PRAGMA journal_mode = WAL")
        sent_path(path).unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise state_error(path, error) from error


def sent_path(path: Path) -> Path:
    """The file beside a checkpoint with what was sent, see `sent_file`."""
    return path.with_name(path.name + "-sent")


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing file.

    Raises StateError where it can't be written, StaleCheckpointError where it is not a database.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        # FULL: a committed chunk stays committed after a power cut, too.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        raise state_error(path, error) from error
    except (sqlite3.DatabaseError, ValueError) as error:
        raise stale_checkpoint(path, f"is damaged ({error})") from error
    return connection


def verify_database(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StaleCheckpointError unless the file is an undamaged checkpoint of this version."""

    def row(query: str) -> Any:
        return connection.execute(query).fetchone()

    query = "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_master)"
    version, application, tables = row(f"{query} FROM pragma_user_version, pragma_application_id")
    if not tables:
        raise stale_checkpoint(path, "is damaged: it holds nothing")
    if application != _APPLICATION:
        raise stale_checkpoint(path, "is not a checkpoint of propsync")
    if version > CHECKPOINT_VERSION:
        raise stale_checkpoint(path, "was written by a newer propsync", "update propsync, or ")
    if version < CHECKPOINT_VERSION:
        raise stale_checkpoint(path, "was written by an older propsync", "finish with that one, or ")
    (damage,) = row("PRAGMA quick_check(1)")
    if damage != "ok":
        raise stale_checkpoint(path, f"is damaged ({damage})")
    if not row("SELECT 1 FROM run"):
        raise stale_checkpoint(path, "is damaged: it names no run")


def stale_checkpoint(path: Path, what: str, before: str = "") -> StaleCheckpointError:
    """An error for a checkpoint that can't be used; `before`: what to do first, where it isn't damaged."""
    return StaleCheckpointError(
        f"the checkpoint {path} {what}",
        hint=f"{before}run with --restart to drop it and send everything again",
        damaged=not before,
    )


def _drop_log(path: Path) -> None:
    """Move what is in the old file's log into that file, and remove the log: it is not the new file's."""
    log = path.with_name(path.name + "-wal")
    with suppress(OSError, sqlite3.Error):  # a damaged file, which was to be dropped
        if log.exists() and log.stat().st_size and path.stat().st_size:
            with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in SQLITE_SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
