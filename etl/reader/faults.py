"""Whatever pyarrow or the system complains about leaves the reader as a SourceError that names the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pyarrow as pa

from etl.errors import SourceError

Item = TypeVar("Item")

_KINDS = (
    (FileNotFoundError, "is not there", "check the path; relative paths start at the job file's folder"),
    (PermissionError, "may not be read by this user", "give this user the right to read it"),
)
_MESSAGES = (
    ("Truncated compressed stream", "ends in the middle of its compressed data", "copy or export it again"),
    ("decompress failed", "holds damaged compressed data", "copy or export it again"),
    ("inflate failed", "holds damaged compressed data", "copy or export it again"),
    ("decrypt", "is encrypted", "decrypt it first: encrypted Parquet files can't be read"),
    ("encrypted", "is encrypted", "decrypt it first: encrypted Parquet files can't be read"),
)


def as_source_error(error: BaseException, name: str, place: str = "") -> SourceError:
    """The error as the user should see it; `place` says how far reading had come, such as `after row 12`."""
    where = f"{name} ({place})" if place else name
    for kind, message, hint in _KINDS:
        if isinstance(error, kind):
            return SourceError(f"{where} {message}", hint=hint)
    for sign, message, hint in _MESSAGES:
        if sign in str(error):
            return SourceError(f"{where} {message}", hint=hint)
    return SourceError(f"{where} can't be read: {_brief(error)}", hint="copy or export it again")


def _brief(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


@contextmanager
def translated(name: str, place: str = "") -> Iterator[None]:
    """Raise SourceError for whatever goes wrong inside with the file called `name`."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, UnicodeError, OverflowError) as error:
        raise as_source_error(error, name, place) from error


def guarded(items: Iterable[Item], name: str, place: str = "") -> Iterator[Item]:
    """The same items; only what goes wrong while the next one is made is translated."""
    iterator = iter(items)
    while True:
        with translated(name, place):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item
