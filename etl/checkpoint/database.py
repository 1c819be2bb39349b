"""The checkpoint's SQLite file: its tables, how it comes into being, and whether it can be trusted."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import fields
from pathlib import Path
from typing import Final

from etl.errors import StaleCheckpointError
from etl.model import Tally
from etl.state_files import state_error, sync_folder

VERSION: Final = 5
_WITHOUT_HELD: Final = 4  # lacks a table that is empty in it, so its run can be resumed
_UPGRADED: Final = 3  # a finished checkpoint of this version tells all that the next run must know
_APPLICATION: Final = 0x70727379  # "prsy"; tells our files from other SQLite files
COUNTS: Final = tuple(field.name for field in fields(Tally))
# `finished` is 1 for a finished run, and 2 for one of which only the snapshot is still to be written.
_HELD: Final = """
CREATE TABLE held (
  file INTEGER, first INTEGER, stop INTEGER, rows BLOB, PRIMARY KEY (file, first)
) WITHOUT ROWID;
"""
_NEW_TABLES: Final = """
CREATE TABLE digests (file INTEGER PRIMARY KEY, digest TEXT);
CREATE TABLE past (
  endpoint TEXT, resent INTEGER, rows INTEGER, number INTEGER, counted INTEGER, marks TEXT,
  PRIMARY KEY (endpoint, resent)
) WITHOUT ROWID;
"""
_SCHEMA: Final = f"""
CREATE TABLE run (
  identity TEXT, began REAL, seconds REAL, finished INTEGER, id TEXT, number INTEGER, base TEXT,
  about TEXT, commits INTEGER
);
CREATE TABLE tally ({", ".join(f"{name} INTEGER" for name in COUNTS)});
CREATE TABLE settled (file INTEGER, first INTEGER, stop INTEGER, PRIMARY KEY (file, first)) WITHOUT ROWID;
CREATE TABLE rejects (
  file INTEGER, row INTEGER, source TEXT, code TEXT, reason TEXT, "values" TEXT, origin TEXT DEFAULT '',
  PRIMARY KEY (file, row)
) WITHOUT ROWID;
CREATE TABLE sent (
  file INTEGER, first INTEGER, rows INTEGER, print_bytes INTEGER, keys BLOB, prints BLOB, end TEXT
);
CREATE INDEX sent_places ON sent (file, first);
{_NEW_TABLES}{_HELD}"""
# Made when there is something to count, so that checkpoints of before have room for it, too.
SKIPPED_TABLE: Final = """
CREATE TABLE IF NOT EXISTS skipped (
  "column" TEXT, reason TEXT, count INTEGER, PRIMARY KEY ("column", reason)
) WITHOUT ROWID
"""
HAS_SKIPPED: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'skipped'"
_SIDES: Final = ("-wal", "-shm", "-journal")


def make(path: Path, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Put a new file with what `fill` writes in place of any older one: whole, or not at all.

    Until the rename the old one is there with all that was committed to it. Raises StateError.
    """
    fresh = path.with_name(path.name + ".new")
    try:
        remove(fresh)
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            # Nobody reads the file before its name is the right one; it is synced as a whole.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.executescript(_SCHEMA)
            fill(connection)
        _sync(fresh)
        _absorb_log(path)
        _remove_sides(path)
        fresh.rename(path)
        sync_folder(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise state_error(path, error) from error
    finally:
        with suppress(OSError):
            remove(fresh)


def remove(path: Path) -> None:
    """Remove a file that isn't open, with what belongs to it. Raises OSError."""
    path.unlink(missing_ok=True)
    _remove_sides(path)


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing file.

    Raises StateError where it can't be written, StaleCheckpointError where it is not a database.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        # FULL: a committed chunk stays committed when the power goes, too.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_mode = WAL")
    except (sqlite3.DatabaseError, ValueError) as error:
        if isinstance(error, sqlite3.OperationalError):
            raise state_error(path, error) from error
        raise stale(path, f"is damaged ({error})") from error
    return connection


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StaleCheckpointError unless the file is a checkpoint of this version, whole and with a run in it.

    One of the version before is brought up to this one, and a finished one of the version before that.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not tables:
        raise stale(path, "is damaged: it holds nothing")
    if application != _APPLICATION:
        raise stale(path, "is no checkpoint of propsync")
    if version > VERSION:
        raise stale(path, "was written by a newer propsync", "update propsync, or ")
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise stale(path, f"is damaged ({damage})")
    if version < VERSION and not _upgraded(connection, version):
        raise stale(path, "was written by an older propsync", "finish with that one, or ")
    if not connection.execute("SELECT count(*) FROM run").fetchone()[0]:
        raise stale(path, "is damaged: it names no run")
    columns = {column[1] for column in connection.execute("PRAGMA table_info(rejects)")}
    if "origin" not in columns:  # of a propsync that didn't tell it
        connection.execute("ALTER TABLE rejects ADD COLUMN origin TEXT DEFAULT ''")


def stale(path: Path, what: str, before: str = "") -> StaleCheckpointError:
    """The error for a checkpoint that can't be used: it is damaged, unless something can be done `before`."""
    return StaleCheckpointError(
        f"the checkpoint {path} {what}",
        hint=f"{before}run with --restart to drop it and send everything again",
        damaged=not before,
    )


def _upgraded(connection: sqlite3.Connection, version: int) -> bool:
    """Whether it has the tables of this version now."""
    if version == _WITHOUT_HELD:
        connection.executescript(f"BEGIN IMMEDIATE; {_HELD} PRAGMA user_version = {VERSION}; COMMIT")
        return True
    if version != _UPGRADED or not connection.execute("SELECT finished FROM run").fetchone()[0]:
        return False
    connection.executescript(
        "BEGIN IMMEDIATE; ALTER TABLE run ADD COLUMN about TEXT; ALTER TABLE run ADD COLUMN commits INTEGER;"
        f"UPDATE run SET about = '{{}}', commits = 0; {_NEW_TABLES} {_HELD}"
        f"PRAGMA user_version = {VERSION}; COMMIT"
    )
    return True


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _absorb_log(path: Path) -> None:
    """Bring what the old file's log has into that file, as the log is about to go."""
    log = path.with_name(path.name + "-wal")
    with suppress(OSError, sqlite3.Error):  # a damaged one, which was to be dropped
        if log.exists() and log.stat().st_size and path.stat().st_size:
            with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _remove_sides(path: Path) -> None:
    for suffix in _SIDES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
