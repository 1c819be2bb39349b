"""The checkpoint: which chunks are settled, what became of their rows, and of what they were made.

The only home of the checkpoint's format: one SQLite file, one transaction a settling.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from etl.checkpoint.sent import Entries, alike, packed, unpacked
from etl.errors import StaleCheckpointError, StateError
from etl.model import Reject, Settled, Stretch, Tally
from etl.state_files import state_error

VERSION: Final = 3
_APPLICATION: Final = 0x70727379  # "prsy"; tells our files from other SQLite files
_FAR: Final = 1 << 62  # behind every file
_COUNTS: Final = tuple(field.name for field in fields(Tally))
_SCHEMA: Final = f"""
CREATE TABLE run (
  identity TEXT, began REAL, seconds REAL, finished INTEGER, id TEXT, number INTEGER, base TEXT
);
CREATE TABLE tally ({", ".join(f"{name} INTEGER" for name in _COUNTS)});
CREATE TABLE settled (file INTEGER, first INTEGER, stop INTEGER, PRIMARY KEY (file, first)) WITHOUT ROWID;
CREATE TABLE rejects (
  file INTEGER, row INTEGER, source TEXT, code TEXT, reason TEXT, "values" TEXT, PRIMARY KEY (file, row)
) WITHOUT ROWID;
CREATE TABLE sent (
  file INTEGER, first INTEGER, rows INTEGER, print_bytes INTEGER, keys BLOB, prints BLOB, end TEXT
);
CREATE INDEX sent_places ON sent (file, first);
"""

Identity = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Progress:
    """What a checkpoint knows of its run; `seconds` is the time spent in all its processes.

    `run_id` names the run, `number` counts the runs of a job, and `base` is the id of the run whose snapshot
    this one compares with ("" for none).
    """

    identity: Identity
    began: float
    seconds: float
    finished: bool
    tally: Tally
    run_id: str
    number: int
    base: str


class Checkpoint:
    """An open checkpoint file. Use it as a context manager; one thread at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @classmethod
    def create(cls, path: Path, identity: Identity, *, number: int = 1, base: str = "") -> Self:
        """Begin anew, in place of any older checkpoint. Raises StateError."""
        cls.discard(path)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise state_error(path, error) from error
        checkpoint = cls(path, _connect(path))
        with checkpoint._writing() as connection:
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            began = (_text(identity), time.time(), uuid4().hex, number, base)
            connection.execute("INSERT INTO run VALUES (?, ?, 0, 0, ?, ?, ?)", began)
            connection.execute(f"INSERT INTO tally VALUES ({', '.join('0' for _ in _COUNTS)})")
        return checkpoint

    @classmethod
    def discard(cls, path: Path) -> None:
        """Remove a checkpoint that isn't open. Raises StateError."""
        try:
            for suffix in ("", "-wal", "-shm", "-journal"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        except OSError as error:
            raise state_error(path, error) from error

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Open the checkpoint at `path`; None where there is none, or one that was never begun.

        Raises StaleCheckpointError where it is damaged or of a newer version.
        """
        if not path.exists() or path.stat().st_size == 0:
            return None
        checkpoint = cls(path, _connect(path))
        try:
            return checkpoint if checkpoint._sound() else None
        except BaseException:
            checkpoint._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def progress(self) -> Progress:
        """How far the run has come."""
        with self._reading() as connection:
            run = connection.execute(
                "SELECT identity, began, seconds, finished, id, number, base FROM run"
            ).fetchone()
            missing = self._missing_counts(connection)
            names = ", ".join("0" if name in missing else name for name in _COUNTS)
            counts = connection.execute(f"SELECT {names} FROM tally").fetchone()
            return Progress(json.loads(run[0]), run[1], run[2], bool(run[3]), Tally(*counts), *run[4:])

    def settled(self) -> Iterator[Stretch]:
        """The stretches of all settled chunks, in order."""
        with self._reading() as connection:
            for row in connection.execute("SELECT file, first, stop FROM settled ORDER BY file, first"):
                yield Stretch(*row)

    def rejects(self) -> Iterator[Reject]:
        """Every reject, in source order."""
        query = 'SELECT source, row, code, reason, "values" FROM rejects ORDER BY file, row'
        with self._reading() as connection:
            for row in connection.execute(query):
                yield Reject(*row)

    def rejects_by_code(self) -> dict[str, int]:
        """How many rejects have which code, most frequent first."""
        query = "SELECT code, count(*) FROM rejects GROUP BY code ORDER BY 2 DESC, 1"
        with self._reading() as connection:
            return dict(connection.execute(query).fetchall())

    def sent(
        self, since: tuple[int, int] = (0, 0), before: tuple[int, int] | None = None
    ) -> Iterator[Entries]:
        """What was accepted of the settled chunks, in source order.

        Of those only that begin at the place (file, row) `since` or after it, and before `before`. May be
        called in any thread or process while another one settles.
        """
        query = "SELECT * FROM sent WHERE (file, first) >= (?, ?) AND (file, first) < (?, ?)"
        places = (*since, *(before or (_FAR, 0)))
        with self._reading(), closing(_connect(self._path)) as connection:
            for row in connection.execute(f"{query} ORDER BY file, first, rowid", places):
                yield unpacked(row)

    def settle(self, chunks: Iterable[Settled], meter: Tally, seconds: float) -> None:
        """Settle chunks in one durable transaction, with what they took. Raises StateError."""
        total = meter
        with self._writing() as connection:
            for chunk in chunks:
                where = chunk.stretch
                connection.execute(
                    "INSERT INTO settled VALUES (?, ?, ?)", (where.file, where.first, where.stop)
                )
                connection.executemany(
                    "INSERT INTO rejects VALUES (?, ?, ?, ?, ?, ?)",
                    ((where.file, r.row, r.source, r.code, r.reason, r.values) for r in chunk.rejects),
                )
                for pieces in alike(chunk.sent):
                    entries = packed(where, pieces)
                    connection.execute("INSERT INTO sent VALUES (?, ?, ?, ?, ?, ?, ?)", entries)
                total += chunk.tally
            for name in self._missing_counts(connection):
                connection.execute(f"ALTER TABLE tally ADD COLUMN {name} INTEGER DEFAULT 0")
            sums = ", ".join(f"{name} = {name} + :{name}" for name in _COUNTS)
            connection.execute(f"UPDATE tally SET {sums}", asdict(total))
            connection.execute("UPDATE run SET seconds = seconds + ?", (seconds,))

    def finish(self) -> None:
        """Every row has its end, and the snapshot is written: the next run begins anew. Raises StateError."""
        with self._writing() as connection:
            connection.execute("UPDATE run SET finished = 1")
            connection.execute("DELETE FROM sent")
        with self._translated():
            self._connection.execute("VACUUM")

    def _sound(self) -> bool:
        with self._reading() as connection:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if (
                application == 0
                and not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            ):
                return False  # killed before the first transaction
            if application != _APPLICATION:
                raise _stale(self._path, "is no checkpoint of propsync")
            if version > VERSION:
                raise _stale(self._path, "was written by a newer propsync", "update propsync, or ")
            if version < VERSION:
                raise _stale(self._path, "was written by an older propsync", "finish with that one, or ")
            damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if damage != "ok":
                raise _stale(self._path, f"is damaged ({damage})")
        return True

    def _missing_counts(self, connection: sqlite3.Connection) -> list[str]:
        """The counts that were not counted yet when this checkpoint was begun."""
        present = {row[1] for row in connection.execute("PRAGMA table_info(tally)")}
        return [name for name in _COUNTS if name not in present]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._translated():
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.rollback()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise state_error(self._path, error) from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connection
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise _stale(self._path, f"can't be read ({error})") from error


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        # FULL: a settled chunk stays settled when the power goes, too.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise state_error(path, error) from error
        raise _stale(path, f"is damaged ({error})") from error
    return connection


def _stale(path: Path, what: str, before: str = "") -> StaleCheckpointError:
    return StaleCheckpointError(
        f"the checkpoint {path} {what}",
        hint=f"{before}run with --restart to drop it and send everything again",
    )


def _text(identity: Identity) -> str:
    return json.dumps(identity, sort_keys=True)


__all__ = ["Checkpoint", "Identity", "Progress", "StateError"]
