"""The checkpoint's SQLite file: its tables, how it is created, and how an existing one is verified."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from ..errors import StaleCheckpointError
from ..state_files import create_private, fresh_name, state_error, sync_folder
from ..tally import Tally

CHECKPOINT_VERSION: Final = 6
_APPLICATION: Final = 0x70727379  # "prsy": the file is ours
COUNTS: Final = tuple(field.name for field in fields(Tally))
# The oldest version that can be used, but only if its run is finished; later ones can be resumed, too.
_OLDEST: Final = 3
# The columns of each table, and behind a semicolon its key. What is missing in a file is added to it, so what
# came later stands last, with a default. In `run`, `finished` is 1 for a finished run, and 2 for one of which
# only the snapshot is still to be written. `unchanged` has a set of snapshot entries in one row.
_TABLES: Final = {
    "run": "identity TEXT, began REAL, seconds REAL, finished INTEGER, id TEXT, number INTEGER, base TEXT, "
    "about TEXT DEFAULT '{}', commits INTEGER DEFAULT 0",
    "tally": ", ".join(f"{name} INTEGER DEFAULT 0" for name in COUNTS),
    "settled": "file INTEGER, first INTEGER, stop INTEGER; file, first",
    "held": "file INTEGER, first INTEGER, stop INTEGER, rows BLOB; file, first",
    "rejects": 'file INTEGER, row INTEGER, source TEXT, code TEXT, reason TEXT, "values" TEXT, '
    "origin TEXT DEFAULT '', faults TEXT DEFAULT '[]'; file, row",
    "skipped": '"column" TEXT, reason TEXT, count INTEGER; "column", reason',
    "sent": "file INTEGER, first INTEGER, rows INTEGER, print_bytes INTEGER, keys BLOB, prints BLOB, "
    "end TEXT, place INTEGER",
    "unchanged": "data BLOB",
    "limits": "file INTEGER, row INTEGER; file, row",
    "digests": "file INTEGER, digest TEXT; file",
    "past": "endpoint TEXT, resent INTEGER, rows INTEGER, number INTEGER, counted INTEGER, marks TEXT; "
    "endpoint, resent",
}


def create_database(path: Path, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Replace any older file by a new one with the rows that `fill` inserts. Raises StateError.

    Until the rename the old file is there, with all that was committed to it.
    """
    fresh = fresh_name(path)
    try:
        _remove_sides(fresh)
        os.close(create_private(fresh))
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            # No other process opens the file before the rename, and it is synced as a whole.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {CHECKPOINT_VERSION}")
            _add_missing(connection)
            fill(connection)
            # Now, as it has to be for one connection alone, and others may look once it has its name.
            connection.execute("PRAGMA journal_mode = WAL")
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        _absorb_log(path)
        _remove_sides(path)
        fresh.rename(path)
        sync_folder(path.parent)
        sent_path(path).unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise state_error(path, error) from error
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
            _remove_sides(fresh)


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
    """Raise StaleCheckpointError unless the file is an undamaged checkpoint of this version.

    Older ones are upgraded; of the oldest version, only if its run is finished.
    """

    def one(query: str) -> Any:
        return connection.execute(query).fetchone()[0]

    version = one("PRAGMA user_version")
    if not one("SELECT count(*) FROM sqlite_master"):
        raise stale_checkpoint(path, "is damaged: it holds nothing")
    if one("PRAGMA application_id") != _APPLICATION:
        raise stale_checkpoint(path, "is not a checkpoint of propsync")
    if version > CHECKPOINT_VERSION:
        raise stale_checkpoint(path, "was written by a newer propsync", "update propsync, or ")
    if (damage := one("PRAGMA quick_check(1)")) != "ok":
        raise stale_checkpoint(path, f"is damaged ({damage})")
    if version < _OLDEST or (version == _OLDEST and not one("SELECT finished FROM run")):
        raise stale_checkpoint(path, "was written by an older propsync", "finish with that one, or ")
    with connection:  # which commits what was begun, or rolls it back
        if version < CHECKPOINT_VERSION:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA user_version = {CHECKPOINT_VERSION}")
        _add_missing(connection)
    if not one("SELECT count(*) FROM run"):
        raise stale_checkpoint(path, "is damaged: it names no run")


def stale_checkpoint(path: Path, what: str, before: str = "") -> StaleCheckpointError:
    """An error for a checkpoint that can't be used; `before`: what to do first, where it isn't damaged."""
    return StaleCheckpointError(
        f"the checkpoint {path} {what}",
        hint=f"{before}run with --restart to drop it and send everything again",
        damaged=not before,
    )


def _add_missing(connection: sqlite3.Connection) -> None:
    """Add the tables and columns that aren't there."""
    query = "SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_info(t.name) c"
    there = set(connection.execute(query))
    tables = {name for name, _ in there}
    for table, text in _TABLES.items():
        columns, _, key = text.partition("; ")
        if table not in tables:
            end = f", PRIMARY KEY ({key})) WITHOUT ROWID" if key else ")"
            connection.execute(f"CREATE TABLE {table} ({columns}{end}")
            continue
        for column in columns.split(", "):
            if (table, column.split()[0].strip('"')) not in there:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
    if "sent" not in tables:
        connection.execute("CREATE INDEX sent_places ON sent (file, first)")


def _absorb_log(path: Path) -> None:
    """Move what is in the old file's log into that file, as the log is about to be removed."""
    log = path.with_name(path.name + "-wal")
    with suppress(OSError, sqlite3.Error):  # a damaged file, which was to be dropped
        if log.exists() and log.stat().st_size and path.stat().st_size:
            with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _remove_sides(path: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
