"""How files of a state folder are replaced: the old file stays until the new one is whole and on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import StateError


@contextmanager
def replacing_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a new file for `path` that only its owner can read; it replaces the old one if nothing fails.

    Raises StateError where it can't be written. The old file is untouched then.
    """
    fresh = fresh_name(path)
    try:
        with os.fdopen(create_private(fresh), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise state_error(path, error) from error
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def is_there(path: Path) -> bool:
    """Whether there is a file. Raises OSError where the system can't say; `Path.exists` calls that a no."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def state_error(path: Path, error: Exception) -> StateError:
    """A StateError for a failed write at `path`."""
    reason = getattr(error, "strerror", None) or str(error)
    return StateError(
        f"the state folder can't be written: {path}: {reason}",
        hint="make room, or allow this user to write there, or name another folder with --state-dir; "
        "what is committed is kept",
    )


def fresh_name(path: Path) -> Path:
    """The name of the new file until it is whole; always the same, so a killed process leaves one at most."""
    return path.with_name(path.name + ".new")


def create_private(path: Path) -> int:
    """Create a file that only its owner can read, in place of any older one. Raises OSError."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def sync_folder(folder: Path) -> None:
    """Write the names in the folder to the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
