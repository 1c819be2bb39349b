"""Files that bytes are read from: local files, pipes and temporary copies, with their errors and digests."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import select
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Final, TypeVar

import pyarrow as pa

from ..errors import SourceError, StateError

try:
    # Ten times as fast as zlib's.
    from isal.isal_zlib import crc32
except ImportError:  # there is none for this kind of processor
    from zlib import crc32

HEAD: Final = 1 << 20
_SNIFFED: Final = 1 << 12
_END: Final = 1 << 16

_AGAIN: Final = "copy or export it again"
_DECRYPT: Final = "decrypt it first: encrypted Parquet files can't be read"
_PATH: Final = "check the path; relative paths start at the job file's folder"
# Types of errors with patterns of their messages, what they mean, and what to do; the first that fits counts.
_ERRORS: Final = (
    ((FileNotFoundError, NotADirectoryError), "", "is not there", _PATH),
    (PermissionError, "", "may not be read by this user", "give this user the right to read it"),
    (Exception, "Truncated compressed stream", "ends in the middle of its compressed data", _AGAIN),
    (Exception, "decompress failed|inflate failed", "holds damaged compressed data", _AGAIN),
    (Exception, "decrypt|encrypted", "is encrypted", _DECRYPT),
)

Stopped = Callable[[], bool]
ByteRange = tuple[int, int]  # the first byte, and the one after the last
_Item = TypeVar("_Item")


def never() -> bool:
    """Don't stop."""
    return False


@contextmanager
def source_errors(name: str, position: str = "") -> Iterator[None]:
    """Raise SourceError for any error of pyarrow or the system with the file called `name`.

    `position` is where in the file, e.g. `after row 12`.
    """
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, UnicodeError, OverflowError) as error:
        other = (Exception, "", f"can't be read: {first_line(error)}", _AGAIN)
        fitting = (one for one in _ERRORS if isinstance(error, one[0]) and re.search(one[1], str(error)))
        _, _, what, hint = next(fitting, other)
        where = f"{name} ({position})" if position else name
        raise SourceError(f"{where} {what}", hint=hint) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def guarded(items: Iterable[_Item], name: str, position: str = "") -> Iterator[_Item]:
    """Yield the same items; errors raised while the next one is made become SourceErrors."""
    with source_errors(name, position):
        yield from items


class InputFile:
    """Something that bytes can be read from.

    `name` is shown to users and holds no secrets. `repeatable`: it can be read from its beginning again and
    again, and its streams at any position. `local_path` is None for what isn't a file of this machine.
    `piece_bytes` is how much should be read at once; None if that doesn't matter. `codec` is what it is
    compressed with, as its reader found; None for nothing.
    """

    name: str
    repeatable: bool = True
    local_path: Path | None = None
    piece_bytes: int | None = None
    codec: str | None = None

    def open(self) -> pa.NativeFile:
        """Open a new stream over the raw bytes; SourceError if there is none."""
        raise NotImplementedError

    def error(self, what: str, hint: str = "") -> SourceError:
        """Return an error about it; `what` follows its name, and may begin with a colon."""
        return SourceError(f"{self.name}{what if what.startswith(':') else f' {what}'}", hint=hint or None)

    def unpacked(self, raw: pa.NativeFile | None = None) -> pa.NativeFile:
        """Return a stream over the uncompressed bytes, of an opened stream if there is one."""
        stream = self.open() if raw is None else raw
        return pa.CompressedInputStream(stream, self.codec) if self.codec else stream

    def sniff(self) -> bytes:
        """Return its first 4 KiB, uncompressed."""
        with source_errors(self.name), closing(self.unpacked()) as stream:
            return read_fully(stream, _SNIFFED)

    def state(self) -> tuple[int | None, int | None]:
        """Return its size in bytes and its time of change in ns since the epoch, as far as they are known."""
        return None, None

    def identity(self) -> object:
        """Return what is equal for two mentions of the same file."""
        return self.name

    def version(self) -> str | None:
        """Return a digest of what changes whenever its content does, as it was when the file was opened."""
        return None

    def tail(self) -> bytes:
        """Return the last bytes if they are as quick to get as the first ones."""
        return b""

    def read_ahead(self) -> None:
        """Begin to fetch those files that are read after this one."""

    def open_ahead(self, parts: Iterable[Sequence[ByteRange]]) -> Generator[pa.NativeFile, None, None]:
        """Yield a stream for each part; only its ranges are read before the next part is asked for."""
        for _ in parts:
            with closing(self.open()) as stream:
                yield stream

    def fetch(self) -> object:
        """Copy all of it from the web; end what is being fetched."""


class StoredFile(InputFile):
    """A file of this machine."""

    def __init__(self, name: str, path: str) -> None:
        self.name, self.path = name, path

    @property
    def local_path(self) -> Path:  # type: ignore[override]
        """Its path without links."""
        return Path(self.path).resolve()

    def open(self) -> pa.NativeFile:
        """Open a new stream that can be read at any position."""
        with source_errors(self.name):
            return pa.OSFile(self.path)

    def state(self) -> tuple[int | None, int | None]:
        """Ask the file system."""
        with source_errors(self.name):
            found = Path(self.path).stat()
        return found.st_size, found.st_mtime_ns

    def identity(self) -> object:
        """Return the path."""
        return self.local_path


class PipedFile(InputFile):
    """Standard input or a named pipe: it can be opened again only until more than its first MiB was read."""

    repeatable = False

    def __init__(self, name: str, start: Callable[[], IO[bytes]]) -> None:
        """`start` opens the stream, which must not be buffered."""
        self.name, self._start = name, start
        self._raw: IO[bytes] | None = None
        self._head = b""
        self._spent = False

    def open(self) -> pa.NativeFile:
        """Open a new stream from the beginning; SourceError if the beginning is gone."""
        if self._spent:
            raise self.error("was read already", "save it to a file and name that file")
        return pa.PythonFile(PositionedStream(self._read_at), mode="r")

    def _read_at(self, start: int, count: int) -> bytes:
        """At most `count` bytes from position `start`; b"" at the end."""
        if start < len(self._head):
            return self._head[start : start + count]
        keep = not self._spent and len(self._head) < HEAD
        with source_errors(self.name):
            if self._raw is None:
                self._raw = self._start()
            with suppress(io.UnsupportedOperation):  # it has no descriptor
                poll = select.poll()
                poll.register(self._raw.fileno(), select.POLLIN)
                # In intervals of 100 ms: a Ctrl-C just before the wait would not end it.
                while not poll.poll(100):
                    pass
            chunk = self._raw.read(min(count, HEAD - len(self._head)) if keep else count)
        self._spent = not keep
        self._head += chunk if keep else b""
        return chunk


class PositionedStream(io.RawIOBase):
    """A stream over `read_at(start, count)`, with the methods that pyarrow calls.

    It can be read at any position if `size()` is given.
    """

    def __init__(self, read_at: Callable[[int, int], bytes], size: Callable[[], int] | None = None) -> None:
        super().__init__()
        self._read_at, self._size, self._at = read_at, size, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, count: int = HEAD) -> bytes:
        """Read at most `count` bytes."""
        chunk = self._read_at(self._at, count)
        self._at += len(chunk)
        return chunk

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        if whence == io.SEEK_END and self._size is not None:
            offset += self._size()
        self._at = offset + (self._at if whence == io.SEEK_CUR else 0)
        return self._at


class TemporaryCopy(InputFile):
    """A copy of a file in one without a name, which is gone with this process; `size` bytes are in it.

    Raises StateError if it can't be written, or if `expected` bytes have no room.
    """

    def __init__(self, name: str) -> None:
        self.name, self.size = name, 0
        with self._writing():
            self._file = tempfile.TemporaryFile(prefix="propsync-", buffering=0)  # noqa: SIM115

    def append(self, data: bytes, *, expected: int = 0) -> None:
        """Add bytes; `expected` are those that will follow."""
        with self._writing():
            if expected > shutil.disk_usage(tempfile.gettempdir()).free:
                raise OSError(errno.ENOSPC, "")
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]
        self.size += len(data)

    def read_at(self, start: int, count: int) -> bytes:
        """Return `count` bytes, fewer at the end."""
        return os.pread(self._file.fileno(), count, start)

    def fetch(self) -> int:
        """Return its size."""
        return self.size

    def open(self) -> pa.NativeFile:
        """Open a new stream that can be read at any position."""
        return pa.PythonFile(PositionedStream(self.read_at, self.fetch), mode="r")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno == errno.ENOSPC
            reason = f"there is no room in {tempfile.gettempdir()}" if full else error.strerror or str(error)
            raise StateError(
                f"{self.name} can't be copied to a temporary file: {reason}",
                hint="set TMPDIR to a folder that can be written and has room for it, or download it first",
            ) from error


def read_fully(stream: pa.NativeFile, count: int) -> bytes:
    """Read `count` bytes, fewer only at the end: a pipe returns what it has."""
    chunks: list[bytes] = []
    while count and (chunk := stream.read(count)):
        chunks.append(chunk)
        count -= len(chunk)
    return b"".join(chunks)


def ends_digest(file: InputFile) -> str:
    """Return a hex digest over the first and last 64 KiB; of a pipe, which may be slow, over the first 4."""
    digest = hashlib.blake2b(digest_size=16)
    with source_errors(file.name), closing(file.open()) as stream:
        digest.update(read_fully(stream, _END if file.repeatable else _SNIFFED))
        if isinstance(file, StoredFile):
            stream.seek(max(0, stream.size() - _END))
            digest.update(read_fully(stream, _END))
    return digest.hexdigest()


def checksum(blocks: Iterable[bytes | memoryview], stopped: Stopped = never) -> str | None:
    """Return the checksum of all bytes, 8 hex digits; None if `stopped`."""
    found = 0
    for block in blocks:
        if stopped():
            return None
        found = crc32(block, found)
    return f"{found:08x}"
