"""Standard input, output and error of the command: sturdy, and free of what could move a cursor."""

from __future__ import annotations

import errno
import io
import os
import re
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from etl.cli.invocation import current
from etl.errors import StateError
from etl.wording import visible

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

_UNPRINTABLE: Final = re.compile(r"[^\n\x20-\x7e]")


def make_sturdy() -> None:
    """Let nothing that becomes of stdout or stderr disturb the command: a full disk, or that nobody reads.

    A stream that is closed gets the null device in its place: its number would go to the next file that is
    opened, such as the checkpoint, and a message be written into it. Standard input then can't be read.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY)  # takes the lowest number that is free, which is this one
    sys.stdout, sys.stderr = _sturdy(sys.stdout, 1), _sturdy(sys.stderr, 2)


def show(text: str) -> None:
    """Write a result to stdout, as it is. Whether it gets there never decides how a command ends."""
    failure = _write(text)
    if failure is not None:
        message = f"the standard output can't be written: {failure}"
        current().tell("warned", f"propsync: {message}", code="output", message=message)


def show_lines(lines: Iterable[str]) -> None:
    """Write a result for people, with all that is foreign in its lines shown as it is."""
    show("\n".join(map(visible, lines)))


def show_json(data: object) -> None:
    """Write a result for programs, on one line."""
    show(printable_json(_json(data)))


def show_file(text: str) -> None:
    """Write a result that is to be kept in a file. Raises StateError if it didn't get there."""
    failure = _write(text.removesuffix("\n"))
    if failure is not None:
        raise StateError(f"the standard output can't be written: {failure}", hint="make room for it")


def _write(text: str) -> str | None:
    """Write to stdout; why that failed, told once, and not where a reader has just seen enough."""
    with suppress(BrokenPipeError):  # only where `make_sturdy` wasn't called
        print(current().blotted(text), flush=True)  # noqa: T201 - a result
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failure = raw.untold_failure() if isinstance(raw, _SturdyFile) else None
    return failure.strerror if failure is not None and failure.errno != errno.EPIPE else None


def printable_json(text: str) -> str:
    """The same JSON, with an escape for every character that a terminal or an editor would not show."""
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return character if character.isprintable() else _json_escape(character)


def _json_escape(character: str) -> str:
    """JSON's escape of a character, a pair of them beyond the first 65,536."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _json(data: object) -> str:
    import orjson

    try:
        return orjson.dumps(data).decode()
    except TypeError:  # half a character, as in the name of a file that isn't UTF-8
        import json

        return json.dumps(data)


class _SturdyFile(io.RawIOBase):
    """A descriptor that takes all that is written: from its first failure on, it goes nowhere."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.name = name
        self._failure: OSError | None = None
        self._told = False

    def untold_failure(self) -> OSError | None:
        """Why nothing is written any more; only once."""
        told, self._told = self._told, self._failure is not None
        return None if told else self._failure

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        while self._failure is None:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                self._failure = error
        return len(data)


def _sturdy(stream: TextIO | None, descriptor: int) -> TextIO:
    """The same stream in its encoding; what that can't write, it writes as an escape."""
    raw = _SturdyFile(descriptor, "<stderr>" if descriptor == 2 else "<stdout>")
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=True,
        write_through=bool(getattr(stream, "write_through", False)),
    )
