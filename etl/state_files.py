"""What the files of a state folder have in common: how a failed write is told, when a rename is durable."""

from __future__ import annotations

import os
from pathlib import Path

from etl.errors import StateError


def state_error(path: Path, error: Exception) -> StateError:
    """A StateError for a failed write at `path`."""
    reason = getattr(error, "strerror", None) or str(error)
    return StateError(
        f"the state folder can't be written: {path}: {reason}",
        hint="make room or give the right to write, or name another folder with --state-dir; "
        "what is committed is kept",
    )


def fresh_name(path: Path) -> Path:
    """Where the new file grows. There is one such name, so whatever a killed process left is overwritten."""
    return path.with_name(path.name + ".new")


def create_private(path: Path) -> int:
    """The descriptor of a new file for its owner alone, in place of what was there. Raises OSError."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def sync_folder(folder: Path) -> None:
    """Return once the names in the folder are on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
