"""The job's state folder: private, writable, and held by one run at a time."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shlex
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from etl.errors import ActiveRunError, StateError
from etl.state_files import fresh_name, state_error

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
# What earlier versions called theirs, with the letters of the module tempfile; not all digits, as a date is.
_OLD_DRAFT: Final = re.compile(r"rejects\.ndjson(?!_|\d{8})[a-z0-9_]{8}")


class StateFolder:
    """Knows the names of the files in a state folder; nothing is created before `prepare`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.sqlite"
        self.rejects = path / "rejects.ndjson"
        self.kept_rejects = path / "rejects-sent.ndjson"
        self.snapshot = path / "snapshot.arrow"
        self.ids = path / "ids.arrow"
        self.in_flight = path / "in_flight"
        self.lock = path / "lock"

    def beside(self, mark: str) -> StateFolder:
        """The same folder with other files for what is known of the users: those with this mark."""
        found = StateFolder(self.path)
        found.snapshot = self.path / f"snapshot-{mark}.arrow"
        found.ids = self.path / f"ids-{mark}.arrow"
        return found

    def prepare(self) -> None:
        """Create the folder (0700) and make sure that it is ours alone to write. Raises StateError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_owner()
            with tempfile.TemporaryFile(dir=self.path) as probe:
                probe.write(b"\0" * 4096)
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as error:
            raise state_error(self.path, error) from error

    @contextmanager
    def hold(self) -> Iterator[int]:
        """Hold the folder against other runs; the lock's descriptor. Raises ActiveRunError with who holds it.

        The operating system lets go of the lock with the process, so a dead run holds up nobody. What a dead
        one left half written is removed.
        """
        with os.fdopen(self._open_lock(os.O_CREAT), "r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ActiveRunError(_holder(self.path, lock.read()), hint="wait for it to end") from None
            except OSError as error:
                raise state_error(self.lock, error) from error
            self._sign(lock.fileno())
            self._remove_drafts()
            yield lock.fileno()

    def holder(self) -> str | None:
        """Who holds the folder now, as a sentence; None if nobody does."""
        try:
            with os.fdopen(self._open_lock(), "r+") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return _holder(self.path, lock.read())
        except (OSError, StateError):
            return None
        return None

    def _check_owner(self) -> None:
        """Whoever else can write here could put links in the place of files, and read rejects.

        root may use anybody's folder: it can write all of them anyhow, and in a container a volume that is
        mounted often belongs to a user of the host.
        """
        found = self.path.stat()
        if found.st_uid != os.geteuid() != 0:
            raise StateError(
                f"the state folder {self.path} belongs to another user (uid {found.st_uid}); this is "
                f"uid {os.geteuid()}",
                hint="run as that user, or name a folder of your own, such as a new one inside it, with "
                "--state-dir",
            )
        if found.st_mode & _OTHERS_WRITE:
            raise StateError(
                f"others can write to the state folder {self.path} (mode {stat.S_IMODE(found.st_mode):04o})",
                hint=f"chmod go-w {shlex.quote(str(self.path))}, or name a new folder with --state-dir",
            )

    def _open_lock(self, flags: int = 0) -> int:
        try:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o600)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise StateError(
                    f"{self.lock} is a link, and no lock of ours", hint="find out who made it, and remove it"
                ) from error
            raise state_error(self.lock, error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StateError(f"{self.lock} is no file", hint="find out who made it, and remove it")
        return descriptor

    def _remove_drafts(self) -> None:
        """Remove what was being written when a process was killed: it may hold rows, and nobody reads it."""
        drafts = {
            fresh_name(path).name for path in (self.rejects, self.kept_rejects, self.snapshot, self.ids)
        }
        with suppress(OSError):
            for path in self.path.iterdir():
                if path.name in drafts or _OLD_DRAFT.fullmatch(path.name):
                    path.unlink()

    def _sign(self, descriptor: int) -> None:
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat()}
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(owner).encode(), 0)
        except OSError as error:
            raise state_error(self.lock, error) from error


def _holder(path: Path, text: str) -> str:
    who = "another process"
    with suppress(ValueError, KeyError, TypeError):
        owner = json.loads(text)
        who = f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    return f"another run of this job is active: {who} holds {path}"
