"""Where bytes come from: a stored file or a pipe, opened the same way and told apart nowhere else."""

from __future__ import annotations

import hashlib
import io
import select
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Final, Protocol

import pyarrow as pa
from pyarrow import fs

from etl.errors import SourceError
from etl.reader.faults import translated

HEAD: Final = 1 << 20
END: Final = 1 << 16
SNIFFED: Final = 1 << 12
# How often Python looks for a signal while a pipe is silent.
_LOOK_MILLISECONDS: Final = 100


class Place(Protocol):
    """Something that bytes can be read from."""

    @property
    def name(self) -> str:
        """What users see; it holds no secrets."""

    @property
    def repeatable(self) -> bool:
        """Whether it can be read from its beginning again and again."""

    def open(self) -> pa.NativeFile:
        """A new stream over the raw bytes; SourceError if there is none."""

    def state(self) -> tuple[int | None, int | None]:
        """Its size in bytes and its time of change in ns since the epoch, as far as they can be known."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in a file system: this machine's, or a store such as S3."""

    name: str
    system: fs.FileSystem
    path: str
    repeatable: bool = True

    def open(self) -> pa.NativeFile:
        """A new stream that can be read at any position."""
        with translated(self.name):
            return self.system.open_input_file(self.path)

    def state(self) -> tuple[int | None, int | None]:
        """What the file system knows of it now."""
        with translated(self.name):
            info = self.system.get_file_info(self.path)
        if info.type == fs.FileType.NotFound:
            raise SourceError(f"{self.name} is not there", hint="check the path")
        return info.size, info.mtime_ns


class Piped:
    """Standard input or a named pipe: it can be opened again only until more than its first MiB was read."""

    repeatable = False

    def __init__(self, name: str, start: Callable[[], IO[bytes]]) -> None:
        """`start` gives the stream, which hands out what it has and keeps nothing back."""
        self.name = name
        self._start = start
        self._raw: IO[bytes] | None = None
        self._head = b""
        self._spent = False

    def open(self) -> pa.NativeFile:
        """A new stream from the beginning; SourceError if that is gone."""
        if self._spent:
            raise SourceError(f"{self.name} was read already", hint="save it to a file and name that file")
        return pa.PythonFile(_Pull(self), mode="r")

    def state(self) -> tuple[int | None, int | None]:
        """Nothing."""
        return None, None

    def read_at(self, start: int, count: int) -> bytes:
        """At most `count` bytes from position `start`; b"" at the end."""
        if start < len(self._head):
            return self._head[start : start + count]
        if len(self._head) >= HEAD or self._spent:
            return self._next(count)
        chunk = self._next(min(count, HEAD - len(self._head)))
        self._head += chunk
        return chunk

    def _next(self, count: int) -> bytes:
        with translated(self.name):
            if self._raw is None:
                self._raw = self._start()
            _await(self._raw)
            chunk = self._raw.read(count)
        self._spent = self._spent or len(self._head) >= HEAD
        return chunk


def _await(raw: IO[bytes]) -> None:
    """Wait until something can be read, in short waits: a Ctrl-C just before a read would not end that."""
    try:
        descriptor = raw.fileno()
    except io.UnsupportedOperation:
        return
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while not poll.poll(_LOOK_MILLISECONDS):
        pass


class _Pull(io.RawIOBase):
    """One reading of a pipe, from its beginning."""

    def __init__(self, pipe: Piped) -> None:
        super().__init__()
        self._pipe = pipe
        self._at = 0

    def readable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        chunk = self._pipe.read_at(self._at, count if count >= 0 else HEAD)
        self._at += len(chunk)
        return chunk


def sample(place: Place) -> str:
    """A hex digest over the first and last 64 KiB, or over the first 4 KiB of a pipe, which may be slow."""
    digest = hashlib.blake2b(digest_size=16)
    with translated(place.name), closing(place.open()) as stream:
        digest.update(exactly(stream, END if place.repeatable else SNIFFED))
        if isinstance(place, Stored):
            stream.seek(max(0, stream.size() - END))
            digest.update(exactly(stream, END))
    return digest.hexdigest()


def exactly(stream: pa.NativeFile, count: int) -> bytes:
    """The next `count` bytes, fewer only at the end: pipes hand out what they have."""
    chunks: list[bytes] = []
    while count and (chunk := stream.read(count)):
        chunks.append(chunk)
        count -= len(chunk)
    return b"".join(chunks)
