"""A file that is written whole or not at all: the report, the metrics, a list of rejects."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from ..errors import StateError, UsageError
from ..state_files import is_there

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_ENDING = ".tmp"  # which no collector of `*.prom` or `*.html` picks up


def check_writable(path: Path) -> None:
    """Find out now whether `write_whole` would fail at the end of a long run; `path` stays as it is.

    Drafts of processes that were killed while they wrote are removed. Raises UsageError if there is no such
    folder, StateError if the file can't be written there.
    """
    target = _target(path)
    if not target.parent.is_dir():
        raise UsageError(
            f"{path} can't be written: there is no folder {target.parent}", hint="create the folder"
        )
    try:
        _remove_drafts(target)
        if is_there(target) and not stat.S_ISREG(target.stat().st_mode):
            raise StateError(f"{path} can't be written: it is not a file", hint="give the name of a file")
        trial = _draft_of(target)
        os.close(os.open(trial, _NEW, 0o600))
        trial.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def write_whole(path: Path, text: str, *, private: bool = False) -> None:
    """Replace the file by `text` (as UTF-8) in one rename; a reader gets the old or the new one.

    A symbolic link stays, its target is replaced. Only the owner may read a `private` file. Raises
    StateError, and then the old file is as it was.
    """
    with replacing_output(path, private=private) as file:
        file.write(text.encode("utf-8", "replace"))


@contextmanager
def replacing_output(path: Path, *, private: bool = False) -> Iterator[IO[bytes]]:
    """As `write_whole`, for what is written piece by piece while the block lasts."""
    target = _target(path)
    draft = _draft_of(target)
    try:
        # Unlike the state, these files are for others to read (a collector, a colleague): the umask decides.
        with os.fdopen(os.open(draft, _NEW, 0o600 if private else 0o666), "wb") as file:
            yield file
        draft.replace(target)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _target(path: Path) -> Path:
    """The file itself, where `path` is a link to it."""
    try:
        return path.resolve()
    except OSError as error:  # the working directory is gone
        raise UsageError(
            f"{path} can't be written: {error.strerror}", hint="run the command in a folder that exists"
        ) from error


def _draft_of(target: Path) -> Path:
    return target.with_name(f".{target.name[:200]}.{os.getpid()}{_ENDING}")


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
