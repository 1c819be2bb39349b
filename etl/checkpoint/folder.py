"""The job's state folder: private, writable, and held by one run at a time."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from etl.errors import ActiveRunError
from etl.state_files import state_error


class StateFolder:
    """Knows the names of the files in a state folder; nothing is created before `prepare`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.sqlite"
        self.rejects = path / "rejects.ndjson"
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
        """Create the folder (0700) and make sure that it can be written. Raises StateError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path) as probe:
                probe.write(b"\0" * 4096)
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as error:
            raise state_error(self.path, error) from error

    @contextmanager
    def hold(self) -> Iterator[int]:
        """Hold the folder against other runs; the lock's descriptor. Raises ActiveRunError with who holds it.

        The operating system lets go of the lock with the process, so a dead run holds up nobody.
        """
        try:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise state_error(self.lock, error) from error
        with os.fdopen(descriptor, "r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ActiveRunError(_holder(self.path, lock.read()), hint="wait for it to end") from None
            except OSError as error:
                raise state_error(self.lock, error) from error
            self._sign(lock.fileno())
            yield lock.fileno()

    def holder(self) -> str | None:
        """Who holds the folder now, as a sentence; None if nobody does."""
        try:
            with self.lock.open("r+") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return _holder(self.path, lock.read())
        except OSError:
            return None
        return None

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
