"""Files that are replaced whole: a reader has the old one or the new one, whatever happens to the writer.

Those of a state folder are private, and on the disk before they replace the old one. Those that a user names
(a report, metrics, a list of rejects, a plan) are for others to read, so the umask decides.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Final

from .errors import StateError, UsageError

_PRIVATE: Final = 0o600
# Of the names of files that SQLite has beside one of its own.
SQLITE_SUFFIXES: Final = ("-wal", "-shm", "-journal")
_ENDING: Final = ".tmp"  # which no collector of `*.prom` or `*.html` picks up


def replacing_file(
    path: Path, *, durable: bool = True, before: Callable[[], None] | None = None
) -> AbstractContextManager[IO[bytes]]:
    """Write a new file for `path` that only its owner can read; it replaces the old one if nothing fails.

    A `durable` one outlives a power cut. `before` is called when it is whole, just before it replaces the
    old one. Raises StateError where it can't be written. The old file is untouched then.
    """
    return _replacing(path, fresh_name(path), partial(state_error, path), durable=durable, before=before)


def replacing_output(path: Path, *, private: bool = False) -> AbstractContextManager[IO[bytes]]:
    """As `replacing_file`, for a file that a user names; a symbolic link stays, its target is replaced."""
    target, draft = _target_and_draft(path)
    return _replacing(target, draft, partial(_unwritable, path), mode=_PRIVATE if private else 0o666)


def write_whole(path: Path, text: str, *, private: bool = False) -> None:
    """Replace a file that a user names by `text`, as UTF-8. Raises StateError as `replacing_output`."""
    with replacing_output(path, private=private) as file:
        file.write(text.encode("utf-8", "replace"))


def check_writable(path: Path) -> None:
    """Find out now whether `write_whole` would fail at the end of a long run; `path` stays as it is.

    Drafts of processes that were killed while they wrote are removed. Raises UsageError if there is no such
    folder, StateError if the file can't be written there.
    """
    target, trial = _target_and_draft(path)
    if not target.parent.is_dir():
        raise UsageError(
            f"{path} can't be written: there is no folder {target.parent}", hint="create the folder"
        )
    try:
        _remove_drafts(target)
        if is_there(target) and not stat.S_ISREG(target.stat().st_mode):
            raise StateError(f"{path} can't be written: it is not a file", hint="give the name of a file")
        os.close(create_private(trial))
        trial.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


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


def create_private(path: Path, mode: int = _PRIVATE) -> int:
    """Create a file that only its owner can read, in place of any older one. Raises OSError."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)


def sync_folder(folder: Path) -> None:
    """Write the names in the folder to the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _replacing(
    path: Path,
    fresh: Path,
    error_of: Callable[[OSError], StateError],
    *,
    mode: int = _PRIVATE,
    durable: bool = False,
    before: Callable[[], None] | None = None,
) -> Iterator[IO[bytes]]:
    try:
        with os.fdopen(create_private(fresh, mode), "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if before is not None:
            before()
        fresh.replace(path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        raise error_of(error) from error
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def _target_and_draft(path: Path) -> tuple[Path, Path]:
    """The file itself, where `path` is a link to it, and this process' draft of it."""
    try:
        target = path.resolve()
    except OSError as error:  # the working directory is gone
        raise UsageError(
            f"{path} can't be written: {error.strerror}", hint="run the command in a folder that exists"
        ) from error
    return target, target.with_name(f".{target.name[:200]}.{os.getpid()}{_ENDING}")


def _remove_drafts(target: Path) -> None:
    """Remove the drafts of processes that no longer run, as far as this user may."""
    begin = f".{target.name[:200]}."
    with suppress(OSError):
        for path in target.parent.iterdir():
            process = path.name.removeprefix(begin).removesuffix(_ENDING)
            if path.name != begin + process + _ENDING or not process.isdecimal():
                continue
            try:
                os.kill(int(process), 0)
            except ProcessLookupError:
                path.unlink()
            except (OSError, OverflowError):  # it runs as somebody else, or can't be a process
                continue


def _unwritable(path: Path, error: OSError) -> StateError:
    reason = error.strerror or type(error).__name__
    return StateError(
        f"{path} can't be written: {reason}", hint="free space or rights there, or name another file"
    )
