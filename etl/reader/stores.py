"""Files in object stores: S3, Google Cloud Storage and Azure, read in large pieces, the next one ahead.

A request takes as long as a MB, so few requests are made. All bytes that are handed out are of the version
that was opened first: after each piece the store is asked for the version that it has.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode

import pyarrow as pa
from pyarrow import fs

from ..errors import SourceError
from .files import ByteRange, InputFile, Stopped, positioned_stream
from .store_errors import store_error, store_fault

_HEAD: Final = 1 << 18
_PIECE: Final = 1 << 23
_GROWTH: Final = 8
_SMALLEST: Final = 1 << 16
_CONNECTIONS: Final = 4
_SILENCE: Final = 8.0
_GIVE_UP: Final = 40
_SETTINGS: Final = {
    "s3": ("region", "endpoint_override", "scheme"),
    "gs": ("endpoint_override", "scheme", "project_id", "retry_limit_seconds"),
    "abfs": ("blob_storage_authority", "dfs_storage_authority", "enable_tls", "tenant_id", "client_id"),
}
# What stands before the path; nothing else, so that no credentials do.
_PLACES: Final = {
    "s3": r"[\w.-]+",
    "gs": r"(anonymous@)?[\w.-]+",
    "abfs": r"[\w.$-]+(@[\w.-]+(:\d+)?)?",
}
_FAMILIES: Final = {"gcs": "gs", "abfss": "abfs"}
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_T = TypeVar("_T")


def never() -> bool:
    """Don't stop."""
    return False


@dataclass(slots=True)
class Store:
    """A store that an address names. `make` makes its client; `endpoint` is its host if that isn't usual.

    A call that fails in a way that may pass is repeated after each of `waits` seconds. Before the store has
    answered once, it isn't repeated if the store can't be reached.
    """

    scheme: str
    endpoint: str
    make: Callable[[], fs.FileSystem]
    waits: Sequence[float] = (0.5, 2.0, 5.0)
    _clients: dict[int, fs.FileSystem] = field(default_factory=dict, repr=False)
    _answered: bool = False
    latest: tuple[str, bytes] | None = None  # what was begun last: all look at the head of a file first

    def attempt(self, path: str, call: Callable[[fs.FileSystem], _T], stopped: Stopped = never) -> _T:
        """Return what a call with the client returns. Raises SourceError, which names the path."""
        tries = 1
        while True:
            try:
                # A forked process has its own: it can't share connections, and closing them would end them.
                if os.getpid() not in self._clients:
                    self._clients[os.getpid()] = self.make()
                found = call(self._clients[os.getpid()])
            except (OSError, pa.ArrowException) as error:
                fault, _ = store_fault(error)
                hopeless = not fault.passing or (fault.unreachable and not self._answered)
                if hopeless or stopped() or tries > len(self.waits):
                    name = f"{self.scheme}://{path}"
                    raise store_error(name, self.endpoint, error, tries=tries) from error
                time.sleep(self.waits[tries - 1])
                tries += 1
            else:
                self._answered = True
                return found

    def get_file_info(self, wanted: str | fs.FileSelector) -> Any:
        """As the method of a file system. Raises SourceError for a bucket that isn't there."""
        path = wanted if isinstance(wanted, str) else wanted.base_dir
        found = self.attempt(path, lambda it: it.get_file_info(wanted))

        def list_bucket(system: fs.FileSystem) -> None:
            try:
                system.get_file_info(fs.FileSelector(path.partition("/")[0]))
            except FileNotFoundError as error:
                raise OSError("NO_SUCH_BUCKET") from error

        if isinstance(found, fs.FileInfo) and found.type == fs.FileType.NotFound and "/" in path:
            self.attempt(path, list_bucket)  # that isn't there, rather than the key
        return found

    def missing(self, path: str) -> SourceError:
        """Return the error for a key, or a bucket, that isn't there."""
        sign = "NO_SUCH_KEY" if "/" in path else "NO_SUCH_BUCKET"
        return store_error(f"{self.scheme}://{path}", self.endpoint, FileNotFoundError(sign))


class _Seen(NamedTuple):
    process: int
    version: str
    handle: pa.NativeFile
    size: int


class StoreFile(InputFile):
    """An object in a store. Streams of it read ahead, and raise SourceError once there is another version."""

    repeatable = True
    versioned = True
    piece_bytes = 2 * _PIECE

    def __init__(self, store: Store, info: fs.FileInfo) -> None:
        self.name = f"{store.scheme}://{info.path}"
        self._store, self._path = store, info.path
        self._info: fs.FileInfo | None = info
        self._seen: _Seen | None = None

    def open(self) -> pa.NativeFile:
        """Open a new stream that can be read at any position."""
        pieces = _Pieces(self)
        return positioned_stream(pieces.read_at, self.size, pieces.close)

    def state(self) -> tuple[int | None, int | None]:
        """Return what the search found, and later ask the store. Whole seconds: listings have fractions."""
        info, self._info = self._info or self._store.get_file_info(self._path), None
        if info.type == fs.FileType.NotFound:
            raise self._store.missing(self._path)
        second = 10**9
        return info.size, None if info.mtime_ns is None else info.mtime_ns // second * second

    def version(self) -> str:
        """Ask the store for a digest of the ETag; of size and time where there is none."""
        found = self._look(never)
        self._seen = self._seen or found
        return found.version

    def identity(self) -> object:
        """Return the store's kind and endpoint, and the path."""
        return self._store.scheme, self._store.endpoint, self._path

    def size(self) -> int:
        """Return the size in bytes of the version that was opened first."""
        return self._opened(never).size

    def read(self, start: int, count: int, stopped: Stopped = never) -> bytes:
        """Return `count` bytes, fewer only at the end; a read that breaks goes on in smaller parts."""
        seen = self._opened(stopped)
        at, stop, step = start, min(start + count, seen.size), count
        parts: list[bytes] = []

        def part(_: fs.FileSystem) -> bytes:
            nonlocal step
            try:
                data: bytes = seen.handle.read_at(min(step, stop - at), at)
            except OSError:
                step = max(_SMALLEST, step // 4)
                raise
            return data

        while at < stop:
            parts.append(self._store.attempt(self._path, part, stopped))
            at += len(parts[-1])
            if not parts[-1]:
                raise self._changed()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def check(self, stopped: Stopped = never) -> None:
        """Ask the store whether it still has the version that was opened. Raises SourceError."""
        if self._look(stopped).version != self._opened(stopped).version:
            raise self._changed()

    def head(self) -> bytes:
        """Return the first 256 KiB, which are kept until those of another file are asked for."""
        key, latest = f"{self._path} {self._opened(never).version}", self._store.latest
        if latest is None or latest[0] != key:
            latest = self._store.latest = key, self.read(0, _HEAD)
        return latest[1]

    def open_ahead(self, parts: Iterable[Sequence[ByteRange]]) -> Generator[pa.NativeFile, None, None]:
        """Yield a stream over the ranges of each part, in memory, while the next part is fetched."""
        with closing(_Ahead(self)) as ahead:
            following: Future[list[tuple[int, bytes]]] | None = None
            for part in parts:
                current, following = following, ahead.submit(part)
                if current is not None:
                    yield self._over(current.result())
            if following is not None:
                yield self._over(following.result())

    def _over(self, found: list[tuple[int, bytes]]) -> pa.NativeFile:
        def read_at(start: int, count: int) -> bytes:
            for begin, data in found:
                if begin <= start and start + count <= begin + len(data):
                    return data[start - begin : start - begin + count]
            data = self.read(start, count)
            self.check()
            return data

        return positioned_stream(read_at, self.size)

    def _opened(self, stopped: Stopped) -> _Seen:
        """The version that was opened first, with a handle of this process."""
        seen = self._seen
        if seen is None or seen.process != os.getpid():
            self._seen = self._look(stopped)
            if seen is not None and seen.version != self._seen.version:
                raise self._changed()
        return self._seen  # type: ignore[return-value]

    def _look(self, stopped: Stopped) -> _Seen:
        def look(system: fs.FileSystem) -> _Seen:
            handle = system.open_input_file(self._path)
            said = {} if system.type_name == "gcs" else handle.metadata()  # Google's would begin a download
            mark = {name.lower(): value for name, value in said.items()}.get("etag")
            if mark is None:
                info = system.get_file_info(self._path)
                mark, size = f"{info.size} {info.mtime_ns}".encode(), info.size
            else:
                size = handle.size()
            return _Seen(os.getpid(), hashlib.blake2b(mark, digest_size=16).hexdigest(), handle, size)

        return self._store.attempt(self._path, look, stopped)

    def _changed(self) -> SourceError:
        return SourceError(
            f"{self.name} was replaced while it was being read",
            hint="run again once its export is complete; rows of two versions are not mixed",
        )


class _Ahead:
    """Threads, made when they are needed, that fetch the ranges of a file that are read next."""

    def __init__(self, file: StoreFile) -> None:
        self._file = file
        self._stop = threading.Event()
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, ranges: Sequence[ByteRange]) -> Future[list[tuple[int, bytes]]]:
        """Fetch ranges; the result has each one's start and bytes. One call follows another."""
        pool = self._pool = self._pool or ThreadPoolExecutor(_CONNECTIONS, "store")
        stopped = self._stop.is_set
        parts = [pool.submit(self._file.read, start, stop - start, stopped) for start, stop in ranges]

        def finish() -> list[tuple[int, bytes]]:
            found = [(start, part.result()) for (start, _), part in zip(ranges, parts, strict=True)]
            if found:
                self._file.check(stopped)
            return found

        return pool.submit(finish)

    def close(self) -> None:
        """End the threads, after at most one request each."""
        self._stop.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class _Pieces:
    """Reads a file from anywhere; what is read on and on comes in pieces that grow, the next one ahead."""

    def __init__(self, file: StoreFile) -> None:
        self._file, self._ahead = file, _Ahead(file)
        self._begin, self._data, self._step = 0, b"", _HEAD
        self._next: Future[list[tuple[int, bytes]]] | None = None
        self.close = self._ahead.close

    def read_at(self, start: int, count: int) -> bytes:
        """Return `count` bytes, fewer only at the end."""
        stop = min(start + count, self._file.size())
        parts: list[bytes] = []
        while start < stop:
            if not self._begin <= start < self._begin + len(self._data):
                self._move(start, stop)
            parts.append(self._data[start - self._begin : stop - self._begin])
            start += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _move(self, start: int, stop: int) -> None:
        """Get the piece that begins at `start`."""
        following, self._next = self._next, None
        goes_on = start == self._begin + len(self._data)
        self._step = min(self._step * _GROWTH, _PIECE) if goes_on and start else _HEAD
        if start == 0:
            data = self._file.head()
        elif goes_on and following is not None:
            ((_, data),) = following.result()
        else:
            data = self._file.read(start, max(stop - start, self._step))
            self._file.check()
        self._begin, self._data = start, data
        if goes_on and start and (end := start + len(data)) < self._file.size():
            self._next = self._ahead.submit([(end, end + min(self._step * _GROWTH, _PIECE))])


def open_store(address: str, settings: str) -> tuple[Store, str]:
    """Return the store of an address and the path in it. Raises SourceError, also for credentials in it."""
    scheme, _, rest = address.partition("://")
    scheme = scheme.lower()
    family = _FAMILIES.get(scheme, scheme)
    place, known = rest.partition("/")[0], _SETTINGS.get(family, ())
    if not re.fullmatch(_PLACES.get(family, "[^@]*"), place):
        raise SourceError(
            f"an address of {scheme}:// names no bucket, or has credentials in it",
            hint=f"write {scheme}://BUCKET/KEY; the environment or a profile has the credentials",
        )
    given = dict(parse_qsl(settings, keep_blank_values=True))
    if not set(given) <= set(known):
        raise SourceError(
            f"{address} is followed by a setting that is not known",
            hint=f"the settings of {scheme} are: {', '.join(known) or 'none'}; credentials are none of them",
        )
    if family == "s3":
        return _s3(scheme, unquote(rest), given)
    if family == "gs":
        given.setdefault("retry_limit_seconds", str(_GIVE_UP))
    whole = f"{address}?{urlencode(given)}" if given else address
    try:
        _, path = fs.FileSystem.from_uri(whole)
    except (OSError, pa.ArrowException) as error:
        hint = "an address begins with s3://, gs://, abfs://, https:// or file://"
        raise SourceError(f"{address} can't be read: {error}", hint=hint) from error
    host = place.rpartition("@")[2] if family == "abfs" else ""
    endpoint = given.get("endpoint_override") or given.get("blob_storage_authority") or host
    return Store(scheme, endpoint, lambda: fs.FileSystem.from_uri(whole)[0]), path


def _s3(scheme: str, path: str, given: dict[str, str]) -> tuple[Store, str]:
    environment = next((value for name in _ENDPOINTS if (value := os.environ.get(name))), "")
    protocol, _, endpoint = (given.get("endpoint_override") or environment).rpartition("://")

    def make() -> fs.FileSystem:
        if not endpoint:  # Amazon's own: anybody may ask for the region of a bucket
            given["region"] = given.get("region") or fs.resolve_s3_region(path.partition("/")[0])
        return fs.S3FileSystem(
            endpoint_override=endpoint.rstrip("/") or None,
            region=given.get("region"),
            scheme=given.get("scheme") or protocol or "https",
            connect_timeout=_SILENCE,
            request_timeout=_SILENCE,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),  # `attempt` does that
        )

    return Store(scheme, endpoint.rpartition("@")[2].rstrip("/"), make), path
