"""The state folder of a job: private, writable, and used by one run at a time; and its file of rejects."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shlex
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson

from ..errors import ActiveRunError, StateError
from ..job.known_job import JOB_NOTES
from ..state_files import SQLITE_SUFFIXES, fresh_name, replacing_file, state_error

if TYPE_CHECKING:
    from ..model import Reject

# The run that rejected a row, the row's source, and its number there.
RejectKey: TypeAlias = tuple[object, object, object]

_TRIES: Final = 10  # to get the lock
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class StateDir:
    """The paths of the files in a state folder; nothing is created before `prepare`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.sqlite"
        self.rejects = path / "rejects.ndjson"
        self.kept_rejects = path / "rejects-sent.ndjson"
        self.snapshot = path / "snapshot.arrow"
        self.ids = path / "ids.arrow"
        self.in_flight = path / "in_flight"
        self.lock = path / "lock"
        self.capabilities = path / "capabilities.json"
        self.plans = path / "plans.json"
        self.progress = path / "progress.json"

    def beside(self, mark: str) -> StateDir:
        """The same folder, with the snapshot and the ids of another destination, named with a mark."""
        found = StateDir(self.path)
        found.snapshot, found.ids = self.path / f"snapshot-{mark}.arrow", self.path / f"ids-{mark}.arrow"
        return found

    def prepare(self) -> None:
        """Create the folder (0700) and make sure that only this user can write to it. Raises StateError.

        Another user who can write here could replace files by links, and read rejects. root may use the
        folder of any user: it can write to all of them, and a volume in a container often belongs to a user
        of the host.
        """
        import tempfile  # here, as `status` writes nothing

        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.path.stat()
            if found.st_uid != os.geteuid() != 0:
                raise StateError(
                    f"the state folder {self.path} belongs to another user (uid {found.st_uid}); this is "
                    f"uid {os.geteuid()}",
                    hint="run as that user, or name a folder of your own, such as a new one inside it, with "
                    "--state-dir",
                )
            if found.st_mode & _OTHERS_WRITE:
                mode = f"{stat.S_IMODE(found.st_mode):04o}"
                raise StateError(
                    f"others can write to the state folder {self.path} (mode {mode})",
                    hint=f"chmod go-w {shlex.quote(str(self.path))}, or name a new folder with --state-dir",
                )
            with tempfile.TemporaryFile(dir=self.path) as probe:  # a run syncs its own files before it sends
                probe.write(b"\0" * 4096)
        except OSError as error:
            raise state_error(self.path, error) from error

    @contextmanager
    def hold(self) -> Iterator[int]:
        """Lock the folder against other runs; the lock's descriptor. Raises ActiveRunError with the holder.

        The operating system releases the lock when the process ends. Unfinished files of a killed process are
        removed: they may hold rows, and nothing reads them.
        """
        with os.fdopen(self._open_lock(os.O_RDWR | os.O_CREAT), "r+") as lock:
            since = datetime.now(UTC).isoformat(timespec="seconds")
            owner = {"pid": os.getpid(), "host": os.uname().nodename, "since": since}
            try:
                for _ in range(_TRIES):
                    with suppress(BlockingIOError):
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    time.sleep(0.01)  # `holder` has it for a moment
                else:
                    raise ActiveRunError(_holder(self.path, lock.read()), hint="wait for it to end")
                os.ftruncate(lock.fileno(), 0)
                os.pwrite(lock.fileno(), json.dumps(owner).encode(), 0)
            except OSError as error:
                raise state_error(self.lock, error) from error
            files = [self.rejects, self.kept_rejects, self.snapshot, self.ids, self.plans, self.progress]
            files += [self.path / JOB_NOTES, self.checkpoint, self.in_flight]
            left = [self.progress, *map(fresh_name, files)]  # of a killed process
            database = fresh_name(self.checkpoint)  # SQLite has files of its own beside it
            left += [database.with_name(database.name + suffix) for suffix in SQLITE_SUFFIXES]
            with suppress(OSError):
                for pattern in ("snapshot-*.arrow", "ids-*.arrow"):  # of other destinations
                    left += self.path.glob(fresh_name(Path(pattern)).name)
                for path in left:
                    path.unlink(missing_ok=True)
            yield lock.fileno()

    def holder(self) -> str | None:
        """The run that holds the folder now, as a sentence; None if there is none."""
        with suppress(OSError, StateError), os.fdopen(self._open_lock(os.O_RDONLY)) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(self.path, lock.read())
        return None

    def _open_lock(self, flags: int) -> int:
        try:
            descriptor = os.open(self.lock, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise StateError(
                    f"{self.lock} is a link, and not a lock of propsync",
                    hint="find out who made it, and remove it",
                ) from error
            raise state_error(self.lock, error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StateError(f"{self.lock} is not a file", hint="find out who made it, and remove it")
        return descriptor


def _holder(path: Path, text: str) -> str:
    who = "another process"
    with suppress(ValueError, KeyError, TypeError):
        owner = json.loads(text)
        who = f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    return f"another run of this job is active: {who} holds {path}"


def publish_rejects(
    path: Path, rejects: Iterable[Reject], *, run: int, stays: Callable[[RejectKey], bool] = lambda _: False
) -> None:
    """Replace the file by these rejects, one JSON object a line, in their order. Raises StateError.

    `run` is the number of the run that rejected them. Of rejects of other runs, those that `stays` is true of
    stand before them. Doing it twice changes nothing.
    """
    with replacing_file(path) as file:
        with suppress(FileNotFoundError), path.open("rb") as lines:
            for line in lines:
                key = reject_key(line)
                if key is not None and key[0] != run and stays(key):
                    file.write(line.rstrip(b"\n") + b"\n")
        file.writelines(reject_lines(rejects, run=run))


def reject_key(line: bytes) -> RejectKey | None:
    """The key of the row in a line of a reject file; None if it is not such a line."""
    try:
        entry = orjson.loads(line)
        return entry["run"], entry["source"], entry["row"]
    except (ValueError, KeyError, TypeError):
        return None


def reject_lines(rejects: Iterable[Reject], *, run: int | None) -> Iterator[bytes]:
    """The lines of the file; `values` is the row as it was read. `run` None: no run rejected them."""
    for reject in rejects:
        known = {"source": reject.source, "row": reject.row, "code": reject.code, "reason": reject.reason}
        entry = {**known, "values": orjson.Fragment(reject.values)}
        if run is not None:
            entry["run"] = run
        if reject.origin:
            entry["origin"] = reject.origin
        if len(reject.faults) > 1:
            names = ("column", "code", "reason")
            entry["faults"] = [{name: getattr(fault, name) for name in names} for fault in reject.faults]
        yield orjson.dumps(entry) + b"\n"
