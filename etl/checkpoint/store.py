"""The checkpoint: which chunks are committed, what became of their rows, and of what they were made.

The only home of the checkpoint's contents: one SQLite file, one transaction a committing.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast
from uuid import uuid4

import numpy as np

from etl.checkpoint.database import COUNTS, HAS_SKIPPED, SKIPPED_TABLE, check, connect, make, remove, stale
from etl.checkpoint.past import MOST_PAST, PastRun, mark_of
from etl.checkpoint.sent import Entries, alike, packed, unpacked
from etl.errors import StateError
from etl.model import CommittedRows, HeldRows, Reject, RowRange, SkippedCounts, Tally
from etl.state_files import state_error

_FAR: Final = 1 << 62  # behind every file
_RUNNING, _FINISHED, _COMPLETE = 0, 1, 2

Identity = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Progress:
    """What a checkpoint knows of its run; `seconds` is the time spent in all its processes.

    `run_id` names the run, `number` counts the runs of a job, and `base` is the id of the run whose snapshot
    this one compares with ("" for none). `complete`: every row has its end, and only the snapshot is still to
    be written. `about` is what its maker wrote of the job, `commits` how many transactions there were.
    """

    identity: Identity
    began: float
    seconds: float
    finished: bool
    tally: Tally
    run_id: str
    number: int
    base: str
    about: Mapping[str, Any] = field(default_factory=dict)
    commits: int = 0
    complete: bool = False


class Checkpoint:
    """An open checkpoint file. Use it as a context manager; one thread at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @classmethod
    def create(
        cls,
        path: Path,
        identity: Identity,
        *,
        number: int = 1,
        base: str = "",
        run_id: str | None = None,
        about: Mapping[str, Any] | None = None,
        past: Sequence[PastRun] = (),
    ) -> Self:
        """Begin anew, in place of any older checkpoint; the file has the run from the first moment on.

        `past` is handed on from the older one. Raises StateError.
        """
        began = (_text(identity), time.time(), run_id or uuid4().hex, number, base, _text(about or {}))

        def fill(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO run VALUES (?, ?, 0, 0, ?, ?, ?, ?, 0)", began)
            connection.execute(f"INSERT INTO tally VALUES ({', '.join('0' for _ in COUNTS)})")
            for one in sorted(past, key=lambda one: one.number)[-MOST_PAST:]:
                _remember(connection, one)

        make(path, fill)
        return cls(path, connect(path))

    @classmethod
    def discard(cls, path: Path) -> None:
        """Remove a checkpoint that isn't open. Raises StateError."""
        try:
            remove(path)
        except OSError as error:
            raise state_error(path, error) from error

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Open the checkpoint at `path`; None where there is none.

        Raises StaleCheckpointError where it is empty, damaged or of another version.
        """
        if not path.exists():
            return None
        if path.stat().st_size == 0:
            # SQLite would take it for a new one, and forget the log beside it.
            raise stale(path, "is damaged: it is empty")
        checkpoint = cls(path, connect(path))
        try:
            with checkpoint._reading() as connection:
                check(connection, path)
        except BaseException:
            checkpoint._connection.close()
            raise
        return checkpoint

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(sqlite3.Error):  # what is committed stays in the log, which the next one reads
            self._connection.close()

    def progress(self) -> Progress:
        """How far the run has come."""
        with self._reading() as connection:
            run = connection.execute(
                "SELECT identity, began, seconds, id, number, base, finished, about, commits FROM run"
            ).fetchone()
            missing = self._missing_counts(connection)
            names = ", ".join("0" if name in missing else name for name in COUNTS)
            counts = connection.execute(f"SELECT {names} FROM tally").fetchone()
            identity, began, seconds, run_id, number, base, finished, about, commits = run
            return Progress(
                json.loads(identity),
                began,
                seconds,
                finished == _FINISHED,
                Tally(*counts),
                run_id,
                number,
                base,
                about=json.loads(about),
                commits=commits,
                complete=finished == _COMPLETE,
            )

    def committed(self) -> Iterator[RowRange]:
        """The ranges of all committed chunks, in order."""
        with self._reading() as connection:
            for row in connection.execute("SELECT file, first, stop FROM settled ORDER BY file, first"):
                yield RowRange(*row)

    def held(self) -> Iterator[HeldRows]:
        """The rows of committed ranges that are still held, by range, in order."""
        query = "SELECT file, first, stop, rows FROM held ORDER BY file, first"
        with self._reading() as connection:
            for file, first, stop, rows in connection.execute(query):
                yield HeldRows(RowRange(file, first, stop), np.frombuffer(rows, "<i8"))

    def arrived(self) -> int:
        """How many of the committed rows arrived, or may have."""
        with self._reading() as connection:
            (accepted,) = connection.execute("SELECT accepted FROM tally").fetchone()
            doubts = (
                "SELECT coalesce(sum(rows), 0) FROM sent WHERE end = 'in_doubt'",
                "SELECT count(*) FROM rejects WHERE code IN ('transient', 'uncounted')"
                " AND reason NOT LIKE 'not sent,%'",
            )
            return int(accepted + max(connection.execute(query).fetchone()[0] for query in doubts))

    def rejects(self) -> Iterator[Reject]:
        """Every reject, in source order."""
        query = 'SELECT source, row, code, reason, "values", 0, origin FROM rejects ORDER BY file, row'
        with self._reading() as connection:
            for row in connection.execute(query):
                yield Reject(*row)

    def rejects_by_code(self) -> dict[str, int]:
        """How many rejects have which code, most frequent first."""
        query = "SELECT code, count(*) FROM rejects GROUP BY code ORDER BY 2 DESC, 1"
        with self._reading() as connection:
            return dict(connection.execute(query).fetchall())

    def skipped_values(self) -> dict[str, dict[str, int]]:
        """How many values were left out of rows by the job's wish, by column and reason."""
        with self._reading() as connection:
            found: dict[str, dict[str, int]] = {}
            if connection.execute(HAS_SKIPPED).fetchone() is None:
                return found
            query = 'SELECT "column", reason, count FROM skipped ORDER BY count DESC, "column", reason'
            for column, reason, count in connection.execute(query):
                found.setdefault(column, {})[reason] = count
            return found

    def sent(
        self, since: tuple[int, int] = (0, 0), before: tuple[int, int] | None = None
    ) -> Iterator[Entries]:
        """What was accepted of the committed chunks, in source order.

        Of those only that begin at the place (file, row) `since` or after it, and before `before`. May be
        called in any thread or process while another one commits.
        """
        query = "SELECT * FROM sent WHERE (file, first) >= (?, ?) AND (file, first) < (?, ?)"
        places = (*since, *(before or (_FAR, 0)))
        with self._reading(), closing(connect(self._path)) as connection:
            for row in connection.execute(f"{query} ORDER BY file, first, rowid", places):
                yield unpacked(row)

    def commit(self, chunks: Iterable[CommittedRows], meter: Tally, seconds: float) -> None:
        """Commit chunks in one durable transaction, with what they took. Raises StateError."""
        total = meter
        with self._writing() as connection:
            for chunk in chunks:
                where = chunk.row_range
                _commit_rows(connection, chunk)
                connection.executemany(
                    "INSERT INTO rejects VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (_row_of(where.file, reject) for reject in chunk.rejects),
                )
                for pieces in alike(chunk.sent):
                    entries = packed(where, pieces)
                    connection.execute("INSERT INTO sent VALUES (?, ?, ?, ?, ?, ?, ?)", entries)
                _count_skipped(connection, chunk.skipped)
                total += chunk.tally
            for name in self._missing_counts(connection):
                connection.execute(f"ALTER TABLE tally ADD COLUMN {name} INTEGER DEFAULT 0")
            sums = ", ".join(f"{name} = {name} + :{name}" for name in COUNTS)
            connection.execute(f"UPDATE tally SET {sums}", asdict(total))
            connection.execute("UPDATE run SET seconds = seconds + ?, commits = commits + 1", (seconds,))

    def keep_digests(self, digests: Mapping[int, str]) -> None:
        """Remember digests of whole files, by their number. Any thread may call it. Raises StateError."""
        with self._translated(), closing(connect(self._path)) as connection:
            connection.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?)", digests.items())

    def digests(self) -> dict[int, str]:
        """The digests of whole files, as far as they are known."""
        with self._reading() as connection:
            return dict(connection.execute("SELECT file, digest FROM digests").fetchall())

    def keep_unchanged(self, data: bytes) -> None:
        """Remember whom the run found as they were. Raises StateError."""
        with self._writing() as connection:
            # In the checkpoint of an earlier version it isn't there yet.
            connection.execute("CREATE TABLE IF NOT EXISTS unchanged (data BLOB)")
            connection.execute("DELETE FROM unchanged")
            connection.execute("INSERT INTO unchanged VALUES (?)", (data,))

    def unchanged(self) -> bytes | None:
        """Whom the run found as they were; None where that isn't known yet."""
        with self._reading() as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'unchanged'").fetchone():
                return None
            row = connection.execute("SELECT data FROM unchanged").fetchone()
            return None if row is None else bytes(row[0])

    def past(self) -> tuple[PastRun, ...]:
        """The last finished run to each endpoint, this one among them if it is finished."""
        with self._reading() as connection:
            return _past(connection)

    def complete(self) -> None:
        """Every row has its end: whatever happens, this run is only to be finished. Raises StateError."""
        with self._writing() as connection:
            connection.execute("UPDATE run SET finished = ?", (_COMPLETE,))

    def finish(self) -> None:
        """Every row has its end, and the snapshot is written: the next run begins anew. Raises StateError.

        What comes after that is housekeeping, and no failure of it changes what the run is.
        """
        this = self._as_past()
        with self._writing() as connection:
            connection.execute("UPDATE run SET finished = ?", (_FINISHED,))
            if this is not None:
                _remember(connection, this)
        with suppress(sqlite3.Error):
            self._connection.execute("DELETE FROM sent")
            self._connection.execute("DROP TABLE IF EXISTS unchanged")
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _as_past(self) -> PastRun | None:
        """What is to be remembered of this run; None where its maker told nothing of the job."""
        progress = self.progress()
        about, tally = progress.about, progress.tally
        if not about:
            return None
        files, digests = cast("list[list[object]]", progress.identity["source"]), self.digests()
        query = "SELECT coalesce(sum(stop - first), 0) FROM settled WHERE file < ?"
        with self._reading() as connection:
            rows = connection.execute(query, (about["files"],)).fetchone()[0]
        marks = tuple(mark_of(entry, digests.get(file)) for file, entry in enumerate(files[: about["files"]]))
        arrived = tally.accepted > 0 or tally.in_doubt > 0
        counted = bool(about["counts"]) and arrived
        return PastRun(about["endpoint"], about["resent"], rows, progress.number, counted, marks)

    def _missing_counts(self, connection: sqlite3.Connection) -> list[str]:
        """The counts that were not counted yet when this checkpoint was begun."""
        present = {row[1] for row in connection.execute("PRAGMA table_info(tally)")}
        return [name for name in COUNTS if name not in present]

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
            raise stale(self._path, f"can't be read ({error})") from error


def past_of(path: Path) -> tuple[PastRun, ...]:
    """What is remembered of finished runs, without touching the file; nothing where there is no checkpoint.

    Raises StaleCheckpointError where it can't be read.
    """
    if not path.exists():
        return ()
    log = path.with_name(path.name + "-wal")
    if path.stat().st_size and not (log.exists() and log.stat().st_size):
        # A file without a log doesn't change under us, and then SQLite leaves nothing beside it.
        with suppress(sqlite3.Error):
            uri = f"{path.resolve().as_uri()}?immutable=1"
            with closing(sqlite3.connect(uri, uri=True)) as connection:
                return _past(connection)
    with Checkpoint.load(path) or nullcontext() as found:
        return found.past() if found is not None else ()


def _past(connection: sqlite3.Connection) -> tuple[PastRun, ...]:
    rows = connection.execute("SELECT endpoint, resent, rows, number, counted, marks FROM past")
    return tuple(
        PastRun(endpoint, bool(resent), count, number, bool(counted), tuple(json.loads(marks)))
        for endpoint, resent, count, number, counted, marks in rows
    )


def _row_of(file: int, reject: Reject) -> tuple[int, int, str, str, str, str, str]:
    return file, reject.row, reject.source, reject.code, reject.reason, reject.values, reject.origin


def _commit_rows(connection: sqlite3.Connection, chunk: CommittedRows) -> None:
    where = chunk.row_range
    place = (where.file, where.first, where.stop)
    if not chunk.again:
        connection.execute("INSERT INTO settled VALUES (?, ?, ?)", place)
    if chunk.held is not None:
        rows = chunk.held.astype("<i8").tobytes()
        connection.execute("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?)", (*place, rows))
    elif chunk.again:
        connection.execute("DELETE FROM held WHERE (file, first) = (?, ?)", place[:2])


def _remember(connection: sqlite3.Connection, one: PastRun) -> None:
    values = (one.endpoint, one.resent, one.rows, one.number, one.counted, json.dumps(one.marks))
    connection.execute("INSERT OR REPLACE INTO past VALUES (?, ?, ?, ?, ?, ?)", values)


def _count_skipped(connection: sqlite3.Connection, skipped: SkippedCounts) -> None:
    """Add to the counts of values that were left out; most checkpoints have no such table."""
    if skipped:
        connection.execute(SKIPPED_TABLE)
        query = (
            "INSERT INTO skipped VALUES (?, ?, ?) "
            'ON CONFLICT ("column", reason) DO UPDATE SET count = count + excluded.count'
        )
        connection.executemany(query, skipped)


def _text(plain: Mapping[str, Any]) -> str:
    return json.dumps(plain, sort_keys=True)


__all__ = ["Checkpoint", "Identity", "Progress", "StateError", "past_of"]
