"""The checkpoint of a run: which chunks are committed, with the outcome of their rows.

It is one SQLite file; every commit is one transaction.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import uuid4

import orjson

from ..errors import StateError
from ..state_files import is_there, state_error
from ..tally import HeldRows, RowRange, Tally
from .database import (
    COUNTS,
    PastRun,
    SentEntries,
    SentFile,
    by_end,
    connect,
    create_database,
    mark_of,
    read_past,
    remember,
    sent_path,
    stale_checkpoint,
    verify_database,
)

if TYPE_CHECKING:
    from ..model import CommittedRows, Reject

_BEHIND_ALL: Final = (1 << 62, 0)  # a place (file, row) after the last one
_FINISHED, _COMPLETE = 1, 2  # of the column `finished`

RunIdentity = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a checkpoint's run; `seconds` is the time spent in all its processes.

    `run_id` names the run, `number` counts the runs of a job, and `base` is the id of the run whose snapshot
    this one compares with ("" for none). `complete`: every row is committed, and only the snapshot is still
    to be written. `about` describes the job, `commits` counts the transactions.
    """

    identity: RunIdentity
    about: Mapping[str, Any]
    tally: Tally
    finished: bool
    complete: bool
    began: float
    seconds: float
    run_id: str
    number: int
    base: str
    commits: int


class Checkpoint(AbstractContextManager["Checkpoint"]):
    """An open checkpoint file. Use it as a context manager; one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect(path)
        self._sent = SentFile(sent_path(path))

    @classmethod
    def create(
        cls,
        path: Path,
        identity: RunIdentity,
        *,
        number: int = 1,
        base: str = "",
        run_id: str | None = None,
        about: Mapping[str, Any] | None = None,
        past: Sequence[PastRun] = (),
        digests: Mapping[int, str] | None = None,
    ) -> Self:
        """Replace any older checkpoint by a new one, which has the run from the first moment on.

        `past` is what the older one remembered, `digests` are known of whole files. Raises StateError.
        """
        texts = [json.dumps(plain, sort_keys=True) for plain in (identity, about or {})]
        run = (texts[0], time.time(), 0, 0, run_id or uuid4().hex, number, base, texts[1], 0)
        create_database(path, run, past, digests or {})
        return cls(path)

    @classmethod
    @contextmanager
    def look(cls, path: Path) -> Iterator[Self | None]:
        """Open the checkpoint at `path` for reading, as `load`: a copy if it can't be written."""
        places = (path, path.parent) if is_there(path) else ()
        with ExitStack() as stack:
            copy = None
            # SQLite reads a log only where it may write beside it.
            if not all(os.access(place, os.W_OK, effective_ids=True) for place in places):
                import shutil
                from tempfile import TemporaryDirectory

                copy = Path(stack.enter_context(TemporaryDirectory(prefix="propsync-")), path.name)
                try:
                    for suffix in ("", "-wal"):
                        if Path(f"{path}{suffix}").exists():
                            shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
                except OSError as error:
                    raise state_error(path, error) from error
            found = cls.load(path, copy=copy)
            if found is not None:
                stack.enter_context(found)
            yield found

    @classmethod
    def load(cls, path: Path, *, copy: Path | None = None) -> Self | None:
        """Open the checkpoint at `path`, or a `copy` of it; None where there is none.

        Raises StaleCheckpointError where it is empty, damaged or of another version.
        """
        if not is_there(path):
            return None
        if path.stat().st_size == 0:
            # SQLite would take it for a new one, and drop the log beside it.
            raise stale_checkpoint(path, "is damaged: it is empty")
        checkpoint = cls(copy or path)
        checkpoint._sent = SentFile(sent_path(path))
        with ExitStack() as stack:
            stack.callback(checkpoint._connection.close)
            with checkpoint._reading() as connection:
                verify_database(connection, path)
            # Another process may finish the run in between, and remove what was sent: so it is asked twice.
            if not (checkpoint._find_sent() or checkpoint._find_sent()):
                beside = "the file beside it that ends in -sent is gone, or was cut off"
                raise stale_checkpoint(path, f"lacks what was sent: {beside}")
            stack.pop_all()
        return checkpoint

    def _find_sent(self) -> bool:
        """Whether the file of what was sent has all that is committed."""
        self._sent.end = next(self._rows("SELECT coalesce(max(place + keys + prints), 0) FROM sent"))[0]
        return self._sent.is_whole()

    def __exit__(self, *_: object) -> None:
        with suppress(sqlite3.Error):  # what is committed stays in the log, which the next process reads
            self._connection.close()

    def progress(self) -> Progress:
        """The state of the run."""
        own = "finished, identity, about, began, seconds, id, number, base, commits"
        with self._reading() as connection:
            row = connection.execute(f"SELECT {own}, {', '.join(COUNTS)} FROM run, tally").fetchone()
            finished, identity, about, *rest = row[: -len(COUNTS)]
            ended = (finished == _FINISHED, finished == _COMPLETE)
            tally = Tally(*row[-len(COUNTS) :])
            return Progress(json.loads(identity), json.loads(about), tally, *ended, *rest)

    def committed(self) -> Iterator[RowRange]:
        """The ranges of all committed chunks, in order."""
        query = "SELECT file, first, stop FROM settled ORDER BY file, first"
        return (RowRange(*row) for row in self._rows(query))

    def held(self) -> Iterator[HeldRows]:
        """The rows of committed ranges that are still held, by range, in order."""
        query = "SELECT file, first, stop, rows FROM held ORDER BY file, first"
        for *place, rows in self._rows(query):
            import numpy as np  # here, as `status` seldom needs it

            yield HeldRows(RowRange(*place), np.frombuffer(rows, "<i8"))

    def arrived(self) -> int:
        """How many of the committed rows arrived, or may have."""
        query = (
            "SELECT accepted + max("
            " (SELECT coalesce(sum(rows), 0) FROM sent WHERE end = 'in_doubt'),"
            " (SELECT count(*) FROM rejects WHERE code IN ('transient', 'uncounted')"
            " AND reason NOT LIKE 'not sent,%')) FROM tally"
        )
        return int(next(self._rows(query))[0])

    def rejects(self) -> Iterator[Reject]:
        """Every reject, in source order."""
        from ..model import Reject, RowFault

        query = (
            'SELECT source, row, code, reason, "values", 0, origin, faults FROM rejects ORDER BY file, row'
        )
        for *row, faults in self._rows(query):
            row.append(tuple(RowFault(**fault) for fault in orjson.loads(faults)))
            yield Reject(*row)

    def rejects_by_code(self) -> dict[str, int]:
        """How many rejects have which code, most frequent first."""
        query = "SELECT code, count(*) FROM rejects GROUP BY code ORDER BY 2 DESC, 1"
        return dict(self._rows(query))

    def rejects_by_reason(self, most: int) -> list[tuple[str, str, int]]:
        """The `most` frequent reasons, which name column and value, with their codes and counts."""
        query = (
            "SELECT code, reason, count(*) FROM rejects GROUP BY code, reason ORDER BY 3 DESC, 1, 2 LIMIT ?"
        )
        return list(self._rows(query, most))

    def reject_examples(self, most: int) -> list[tuple[str, str, int, str]]:
        """The first rejects of each code, at most so many: code, file, row and reason."""
        query = "SELECT code, source, row, reason FROM rejects WHERE code = ? ORDER BY file, row LIMIT ?"
        return [row for code in self.rejects_by_code() for row in self._rows(query, code, most)]

    def skipped_values(self) -> dict[str, dict[str, int]]:
        """How many values were left out of rows as the job allows, by column and reason."""
        found: dict[str, dict[str, int]] = {}
        query = 'SELECT "column", reason, count FROM skipped ORDER BY count DESC, "column", reason'
        for column, reason, count in self._rows(query):
            found.setdefault(column, {})[reason] = count
        return found

    def sent(
        self, since: tuple[int, int] = (0, 0), before: tuple[int, int] = _BEHIND_ALL
    ) -> Iterator[SentEntries]:
        """The entries that the committed chunks sent, in source order.

        Only of chunks that begin at the place (file, row) `since` or after it, and before `before`. May be
        called in any thread or process while another one commits.
        """
        query = (
            "SELECT * FROM sent WHERE (file, first) >= (?, ?) AND (file, first) < (?, ?)"
            " ORDER BY file, first, rowid"
        )
        with self._reading(), closing(connect(self._path)) as connection:
            yield from self._sent.read(connection.execute(query, (*since, *before)))

    def commit(self, chunks: Iterable[CommittedRows], meter: Tally, seconds: float) -> None:
        """Commit chunks in one durable transaction, with the requests they took. Raises StateError."""
        total, chunks = meter, list(chunks)
        sent = self._sent.append(
            entries for chunk in chunks for entries in by_end(chunk.row_range, chunk.sent)
        )
        with self._writing() as connection:
            for chunk in chunks:
                place = astuple(chunk.row_range)
                if not chunk.again:
                    connection.execute("INSERT INTO settled VALUES (?, ?, ?)", place)
                if chunk.held is not None:
                    held = (*place, chunk.held.astype("<i8").tobytes())
                    connection.execute("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?)", held)
                elif chunk.again:  # it had held rows before
                    connection.execute("DELETE FROM held WHERE (file, first) = (?, ?)", place[:2])
                for r in chunk.rejects:
                    faults = orjson.dumps(r.faults).decode() if len(r.faults) > 1 else "[]"
                    row = (place[0], r.row, r.source, r.code, r.reason, r.values, r.origin, faults)
                    connection.execute("INSERT INTO rejects VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
                connection.executemany(
                    "INSERT INTO skipped VALUES (?, ?, ?)"
                    ' ON CONFLICT ("column", reason) DO UPDATE SET count = count + excluded.count',
                    chunk.skipped,
                )
                total += chunk.tally
            connection.executemany("INSERT INTO sent VALUES (?, ?, ?, ?, ?, ?, ?, ?)", sent)
            sums = ", ".join(f"{name} = {name} + :{name}" for name in COUNTS)
            connection.execute(f"UPDATE tally SET {sums}", asdict(total))
            connection.execute("UPDATE run SET seconds = seconds + ?, commits = commits + 1", (seconds,))

    def keep_digests(self, digests: Mapping[int, str]) -> None:
        """Remember digests of whole files, by their number. Any thread may call it. Raises StateError."""
        with Checkpoint(self._path) as own, own._writing() as connection:
            connection.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?)", digests.items())

    def digests(self) -> dict[int, str]:
        """The digests of whole files, by number, as far as they are known."""
        return dict(self._rows("SELECT file, digest FROM digests"))

    def keep_limit(self, file: int, row: int) -> None:
        """Remember a place at which chunks end, in this process and in later ones. Raises StateError."""
        with self._writing() as connection:
            connection.execute("INSERT OR IGNORE INTO limits VALUES (?, ?)", (file, row))

    def limits(self) -> list[tuple[int, int]]:
        """The places (file, row) at which chunks ended because a process sent no more."""
        return list(self._rows("SELECT file, row FROM limits"))

    def keep_unchanged(self, data: bytes) -> None:
        """Remember the set of users that the run found unchanged. Raises StateError."""
        with self._writing() as connection:
            connection.execute("DELETE FROM unchanged")
            connection.execute("INSERT INTO unchanged VALUES (?)", (data,))

    def unchanged(self) -> bytes | None:
        """The set of users that the run found unchanged; None while that is unknown."""
        return next((data for (data,) in self._rows("SELECT data FROM unchanged")), None)

    def past(self) -> tuple[PastRun, ...]:
        """The last finished run to each endpoint, this one among them if it is finished."""
        with self._reading() as connection:
            return read_past(connection)

    def complete(self) -> None:
        """Record that every row is committed: this run can only be finished now. Raises StateError."""
        with self._writing() as connection:
            connection.execute("UPDATE run SET finished = ?", (_COMPLETE,))

    def finish(self) -> None:
        """Record that the snapshot is written, too: the next run begins anew. Raises StateError.

        Then what is not needed any more is deleted; if that fails, the run is finished all the same.
        """
        this = self._as_past()
        with self._writing() as connection:
            connection.execute("UPDATE run SET finished = ?", (_FINISHED,))
            remember(connection, this)
        with suppress(StateError):
            with self._writing() as connection:
                connection.execute("DELETE FROM sent")
                connection.execute("DELETE FROM unchanged")
            self._sent.remove()

    def _as_past(self) -> list[PastRun]:
        """This run as a past one; nothing where it has no description of its job."""
        progress = self.progress()
        about, tally = progress.about, progress.tally
        if not about:
            return []
        files, digests = progress.identity["source"], self.digests()
        query = "SELECT coalesce(sum(stop - first), 0) FROM settled WHERE file < ?"
        rows = next(self._rows(query, about["files"]))[0]
        marks = tuple(mark_of(entry, digests.get(file)) for file, entry in enumerate(files[: about["files"]]))
        counted = bool(about["counts"]) and (tally.accepted > 0 or tally.in_doubt > 0)
        return [PastRun(about["endpoint"], about["resent"], rows, progress.number, counted, marks)]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One durable transaction. Raises StateError."""
        try:
            with self._connection as connection:  # which commits, or rolls back
                connection.execute("BEGIN IMMEDIATE")
                yield connection
        except sqlite3.Error as error:
            raise state_error(self._path, error) from error

    def _rows(self, query: str, *values: object) -> Iterator[Any]:
        with self._reading() as connection:
            # Not `yield from`: where a caller stops early, it closes the cursor, maybe after the connection.
            for row in connection.execute(query, values):  # noqa: UP028
                yield row

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connection
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            raise stale_checkpoint(self._path, f"can't be read ({error})") from error


def past_of(path: Path) -> tuple[PastRun, ...]:
    """The finished runs that a checkpoint remembers, without changing it; none where there is no checkpoint.

    Raises StaleCheckpointError where it can't be read.
    """
    with Checkpoint.look(path) as found:
        return () if found is None else found.past()
