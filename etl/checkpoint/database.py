"""The two files of a checkpoint: the SQLite database, and a file beside it with what each chunk sent.

The second file has arrays for the snapshot, and the table `sent` has their places. SQLite would write the
arrays twice, page by page, and read them to delete them; this file only grows. The arrays of a transaction
are on the disk before it; bytes behind those of the last transaction belong to none, and are overwritten.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal

from ..errors import StaleCheckpointError
from ..state_files import (
    create_private,
    fresh_name,
    is_there,
    replacing_file,
    state_error,
    sync_folder,
)
from ..tally import Tally

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..model import End, Fingerprints, Sent
    from ..tally import RowRange

_VERSION: Final = 6
_APPLICATION: Final = 0x70727379  # "prsy": the file is ours
COUNTS: Final = tuple(field.name for field in fields(Tally))
# How many past runs are kept, each to another endpoint.
_MOST_PAST: Final = 32
_TOGETHER: Final = 6_000_000  # bytes of neighbouring chunks
# In `run`, `finished` is 1 for a finished run, and 2 for a run that lacks only its snapshot, still to be
# written. `unchanged` has a set of snapshot entries in one row. `SentFile` says what a row of `sent` is.
_SCHEMA: Final = f"""
BEGIN;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
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
    """Replace any older file by a new one with this row of `run`, the latest past runs, and digests.

    Until the rename the old file is there, with all that was committed to it. Raises StateError.
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
            remember(connection, sorted(past, key=lambda one: one.number)[-_MOST_PAST:])
            connection.executemany("INSERT INTO digests VALUES (?, ?)", digests.items())
            # Now, as it has to be for one connection alone, and others may look once it has its name.
            connection.execute("PRAGMA journal_mode = WAL")
        sent_path(path).unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise state_error(path, error) from error


def _drop_log(path: Path) -> None:
    """Merge the old file's log into that file, and remove the log, which doesn't belong to the new file."""
    log = path.with_name(path.name + "-wal")
    with suppress(OSError, sqlite3.Error):  # a damaged file, which was to be dropped
        if log.exists() and log.stat().st_size and path.stat().st_size:
            with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


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
    if version > _VERSION:
        raise stale_checkpoint(path, "was written by a newer propsync", "update propsync, or ")
    if version < _VERSION:
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


# --- the last finished run to each endpoint ---------------------------------------------------------------


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

    Without a digest of the whole file its size and time must be the same. None if they are unknown.
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


# --- what was sent ----------------------------------------------------------------------------------------


def sent_path(path: Path) -> Path:
    """The file beside a checkpoint with what was sent, see `SentFile`."""
    return path.with_name(path.name + "-sent")


@dataclass(frozen=True, slots=True)
class SentEntries:
    """What the snapshot is to record of neighbouring chunks; the first begins at row `first` of a file.

    `keys` (shape (m, w)) and `fingerprints` (shape (m, p)) are those of rows with this `end`, in source
    order.
    """

    file: int
    first: int
    keys: NDArray[np.uint64]
    fingerprints: Fingerprints
    end: End = "accepted"

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal for entries that can be joined to one array."""
        prints = self.fingerprints
        return self.file, self.end, self.keys.shape[1], prints.shape[1], prints.dtype


class SentFile:
    """The file at `path`, made when it is needed. `end` is where what is committed ends.

    A row of the table `sent` is: file, first row, number of rows, bytes of a fingerprint, of all keys, of all
    fingerprints, end, place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.end = 0

    def is_whole(self) -> bool:
        """Whether the file has all that is committed."""
        return not self.end or (is_there(self._path) and self._path.stat().st_size >= self.end)

    def append(self, added: Iterable[SentEntries]) -> list[tuple[Any, ...]]:
        """Write arrays behind `end`, durably; return their rows of the table. Raises StateError."""
        import numpy as np  # here and below: `status` does without

        rows: list[tuple[Any, ...]] = []
        arrays: list[memoryview] = []
        place = self.end
        for one in added:
            keys, prints = (
                np.ascontiguousarray(some, some.dtype.newbyteorder("<"))
                for some in (one.keys, one.fingerprints)
            )
            sizes = (len(keys), prints.itemsize, keys.nbytes, prints.nbytes)
            rows.append((one.file, one.first, *sizes, one.end, place))
            arrays += [keys.data, prints.data]
            place += keys.nbytes + prints.nbytes
        if place == self.end:
            return rows
        try:
            # A file with nothing committed is of an earlier run, if there is one.
            old = os.O_RDWR | os.O_NOFOLLOW
            descriptor = os.open(self._path, old) if self.end else create_private(self._path)
            with os.fdopen(descriptor, "r+b") as file:
                file.seek(self.end)
                file.writelines(arrays)
                file.flush()
                os.fsync(descriptor)
            if not self.end:
                sync_folder(self._path.parent)
        except OSError as error:
            raise state_error(self._path, error) from error
        self.end = place
        return rows

    def read(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[SentEntries]:
        """Read the entries of rows of the table, in their order; neighbours of one kind come joined.

        Raises OSError, or ValueError if the bytes don't fit.
        """
        held: list[SentEntries] = []
        size = 0
        for one in self._each(rows):
            if held and (size > _TOGETHER or one.kind != held[0].kind):
                yield _joined(held)
                held, size = [], 0
            held.append(one)
            size += one.keys.nbytes + one.fingerprints.nbytes
        if held:
            yield _joined(held)

    def _each(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[SentEntries]:
        import numpy as np

        with ExitStack() as stack:
            opened: IO[bytes] | None = None
            for file, first, count, width, key_bytes, print_bytes, end, place in rows:
                opened = opened or stack.enter_context(self._path.open("rb", buffering=0))
                both = os.pread(opened.fileno(), key_bytes + print_bytes, place)
                keys = np.frombuffer(both[:key_bytes], "<u8").reshape(count, -1)
                prints = np.frombuffer(both[key_bytes:], f"<u{width}").reshape(count, -1)
                yield SentEntries(file, first, keys, prints, end)

    def remove(self) -> None:
        """Remove the file if possible, as nothing in it counts any more."""
        self.end = 0
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _joined(some: Sequence[SentEntries]) -> SentEntries:
    import numpy as np

    keys = np.concatenate([one.keys for one in some])
    return replace(some[0], keys=keys, fingerprints=np.concatenate([one.fingerprints for one in some]))


def by_end(chunk: RowRange, pieces: Sequence[Sent]) -> Iterator[SentEntries]:
    """What was sent of a chunk: one for each end of its pieces, accepted first, in source order."""
    import numpy as np

    for end in sorted({piece.end for piece in pieces}):
        own = [piece for piece in pieces if piece.end == end]
        keys, fingerprints = own[0].keys, own[0].fingerprints
        if len(own) > 1:
            order = np.argsort(np.concatenate([piece.numbers for piece in own]), kind="stable")
            keys = np.concatenate([piece.keys for piece in own])[order]
            fingerprints = np.concatenate([piece.fingerprints for piece in own])[order]
        yield SentEntries(chunk.file, chunk.first, keys, fingerprints, end)
