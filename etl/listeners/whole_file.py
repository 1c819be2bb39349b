"""A file that is written whole or not at all, by whoever may read what a run tells."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from etl.errors import StateError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def check_writable(path: Path) -> None:
    """Find out now that `write_whole` will fail at the end of a long run; leaves `path` as it is.

    What a process that was killed while it wrote left behind is removed. Raises UsageError where there is no
    such folder, StateError where the file can't be written there.
    """
    target = _target(path)
    if not target.parent.is_dir():
        raise UsageError(
            f"{path} can't be written: there is no folder {target.parent}", hint="create the folder"
        )
    try:
        _remove_drafts(target)
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            raise StateError(f"{path} can't be written: it is not a file", hint="give the name of a file")
        trial = _beside(target)
        os.close(os.open(trial, _NEW, 0o600))
        trial.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def write_whole(path: Path, text: str) -> None:
    """Put `text` (as UTF-8) in place of the file by rename; whoever reads sees the old or the new one.

    A symbolic link stays, its target is replaced. Raises StateError, and then the old file is as it was.
    """
    target = _target(path)
    draft = _beside(target)
    try:
        # Unlike the state, these files are for others to read (a collector, a colleague): the umask decides.
        with os.fdopen(os.open(draft, _NEW, 0o666), "wb") as file:
            file.write(text.encode("utf-8", "replace"))
        draft.replace(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def _target(path: Path) -> Path:
    """The file itself, where `path` is a link to it."""
    try:
        return path.resolve()
    except OSError as error:  # the working directory is gone
        raise UsageError(
            f"{path} can't be written: {error.strerror}", hint="run the command in a folder that exists"
        ) from error


def _remove_drafts(target: Path) -> None:
    """Remove the drafts of processes that aren't there any more, as far as this user may."""
    begin, end = _around(target)
    with suppress(OSError):
        for path in target.parent.iterdir():
            process = path.name.removeprefix(begin).removesuffix(end)
            if path.name == begin + process + end and process.isdecimal() and not _is_running(int(process)):
                path.unlink()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _beside(target: Path) -> Path:
    """Make a name in the same folder that no collector of `*.prom` or `*.html` picks up."""
    return target.with_name(str(os.getpid()).join(_around(target)))


def _around(target: Path) -> tuple[str, str]:
    """What stands before and behind the number of the process that writes."""
    return f".{target.name[:200]}.", ".tmp"


def _unwritable(path: Path, error: OSError) -> StateError:
    reason = error.strerror or type(error).__name__
    return StateError(
        f"{path} can't be written: {reason}", hint="free space or rights there, or name another file"
    )
