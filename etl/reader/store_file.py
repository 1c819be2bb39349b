"""A file in an object store: read in large pieces, with the next piece and the next files fetched ahead.

A request takes as long as a MB, so few requests are made, and those for the next files run in parallel. All
rows that are handed out are of the version that was opened first: after each piece the store is asked for the
version that it has.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import chain
from typing import Final

import pyarrow as pa
from pyarrow import fs

from ..errors import SourceError
from .files import ByteRange, InputFile, PositionedStream, Stopped, never
from .parquet_reader import ParquetReader
from .stores import ObjectVersion, PlacedBytes, Store, look_up

_HEAD: Final = 1 << 18
_TAIL: Final = 1 << 16  # as much of a Parquet file as pyarrow looks at first
_PIECE: Final = 1 << 24
_GROWTH: Final = 8
_SMALL: Final = 1 << 22  # so small a file is fetched whole before its turn
_SMALLEST: Final = 1 << 16
_CONNECTIONS: Final = 4
FILES_AHEAD: Final = 8
_FROM_THE_END: Final = tuple(f".{ending}" for ending in ParquetReader.endings)


class StoreFile(InputFile):
    """An object in a store. Streams of it read ahead, and raise SourceError once there is another version.

    `following` are the files that are read after it. The end of each file is cached, or all of a small one,
    until those of others need the room.
    """

    piece_bytes = _PIECE
    following: Sequence[StoreFile] = ()

    def __init__(self, store: Store, info: fs.FileInfo) -> None:
        self.name = f"{store.scheme}://{info.path}"
        self._store, self._path, self._info = store, info.path, info
        self._seen = store.versions.pop(info.path, None)
        self._looking = threading.Lock()
        self._fetching: threading.Thread | None = None

    def open(self) -> pa.NativeFile:
        """Open a new stream that can be read at any position."""
        self.fetch()
        if (whole := self._whole()) is not None:
            return pa.BufferReader(whole)
        return pa.PythonFile(_PieceReader(self), mode="r")

    def state(self) -> tuple[int | None, int | None]:
        """Return what the search found. Whole seconds: listings have fractions."""
        modified = self._info.mtime_ns
        return self._info.size, None if modified is None else modified // 10**9 * 10**9

    def version(self) -> str:
        """Return a digest of the ETag that was found first; of size and time where there is none."""
        self.read_ahead(whole=False)
        self.fetch()
        return self._opened(never).version

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
        if (cached := self.cached(start, stop)) is not None:
            return cached
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

    def cached(self, start: int, stop: int) -> bytes | None:
        """Return these bytes if they are cached."""
        begin, data = self._store.cached.get(self._path, (0, b""))
        there = begin <= start and stop <= begin + len(data)
        return data[start - begin : stop - begin] if there else None

    def check(self, stopped: Stopped = never) -> None:
        """Ask the store whether it still has the version that was opened. Raises SourceError."""
        now = self._store.attempt(self._path, lambda system: look_up(system, self._path), stopped)
        if now.version != self._opened(stopped).version:
            raise self._changed()

    def tail(self) -> bytes:
        """Return the last 64 KiB, and cache them; the rows that they describe are read and checked later."""
        return self.fetch_end(max(0, self.size() - _TAIL), _TAIL)

    def fetch(self) -> None:
        """Wait for what is being fetched of it."""
        fetching, self._fetching = self._fetching, None
        if fetching is not None:
            fetching.join()

    def read_ahead(self, *, whole: bool = True) -> None:
        """Begin to fetch what is needed of the next files: all of small ones, or their ends."""
        room = _PIECE
        for file in self.following:
            room -= min(file.state()[0] or 0, _SMALL if whole else _HEAD)
            if room >= 0:
                file.start_fetch(whole=whole)

    def start_fetch(self, *, whole: bool) -> None:
        """Begin to fetch it, or its end, in a thread."""
        if self._fetching is None and self._whole() is None:
            self._fetching = threading.Thread(target=self._fetch, args=(whole,), name="store", daemon=True)
            self._fetching.start()

    def open_ahead(self, parts: Iterable[Sequence[ByteRange]]) -> Generator[pa.NativeFile, None, None]:
        """Yield a stream over the ranges of each part, in memory, while the next part is fetched."""
        self.fetch()
        if (whole := self._whole()) is not None:
            yield from (pa.BufferReader(whole) for _ in parts)
            return
        with closing(_PieceReader(self)) as reading:
            current: Future[list[PlacedBytes]] | None = None
            for following in chain(map(reading.submit, parts), [None]):
                if current is not None:
                    reading.fetched = current.result()
                    yield pa.PythonFile(PositionedStream(reading.read_at, self.size), mode="r")
                current = following

    def _fetch(self, whole: bool) -> None:
        with suppress(Exception):  # it is tried again where the file is used, and raised there
            size = self._opened(never).size
            if whole and size <= _SMALL:
                self.fetch_end(0, size)
            elif not whole:
                self.tail() if self.name.lower().endswith(_FROM_THE_END) else self.fetch_end(0, _HEAD)

    def fetch_end(self, start: int, count: int) -> bytes:
        """Return one of its ends, or all of a small file, and cache it.

        If it begins at 0, it is checked to be of the version that was opened, as rows may be made of it.
        """
        size = self.size()
        if size <= _HEAD:
            start, count = 0, size
        data = self.cached(start, min(start + count, size))
        if data is None:
            data = self.read(start, count)
            if start == 0:
                self.check()
            self._store.cache(self._path, (start, data))
        return data

    def _whole(self) -> bytes | None:
        return None if self._seen is None else self.cached(0, self._seen.size)

    def _opened(self, stopped: Stopped) -> ObjectVersion:
        """The version that was opened first, with a handle of this process."""
        with self._looking:
            seen = self._seen
            if seen is None or seen.process != os.getpid():
                now = self._store.attempt(self._path, lambda it: look_up(it, self._path), stopped)
                if seen is not None and seen.version != now.version:
                    raise self._changed()
                self._seen = seen = now
            return seen

    def _changed(self) -> SourceError:
        hint = "run again once its export is complete; rows of two versions are not mixed"
        return self.error("was replaced after it was opened", hint)


def check_versions(files: Iterable[InputFile]) -> None:
    """Raise SourceError if a store has another version of any of its files than the one that was opened."""
    with ThreadPoolExecutor(FILES_AHEAD, "store") as pool:
        list(pool.map(StoreFile.check, (file for file in files if isinstance(file, StoreFile))))


class _PieceReader(PositionedStream):
    """Reads a file at any position; a sequential read gets growing pieces and fetches the next one ahead.

    `fetched` are pieces that are in memory. The threads that fetch are started when they are needed.
    """

    def __init__(self, file: StoreFile) -> None:
        super().__init__(self.read_at, file.size)
        self.fetched: Sequence[PlacedBytes] = ()
        self._file, self._last, self._step = file, (0, b""), _HEAD
        self._next: Future[list[PlacedBytes]] | None = None
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(_CONNECTIONS, "store")

    def submit(self, ranges: Sequence[ByteRange]) -> Future[list[PlacedBytes]]:
        """Fetch ranges; the result has each one's start and bytes. One call follows another."""
        stopped = self._stop.is_set
        parts = [self._pool.submit(self._file.read, start, stop - start, stopped) for start, stop in ranges]

        def finish() -> list[PlacedBytes]:
            found = [(start, part.result()) for (start, _), part in zip(ranges, parts, strict=True)]
            if found:
                self._file.check(stopped)
            return found

        return self._pool.submit(finish)

    def close(self) -> None:
        """End the threads, after at most one request each, and drop the pieces."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        self.fetched, self._last, self._next = (), (0, b""), None
        super().close()

    def read_at(self, start: int, count: int) -> bytes:
        """Return `count` bytes, fewer only at the end."""
        stop, parts = min(start + count, self._file.size()), list[bytes]()
        while start < stop:
            there = (one for one in (*self.fetched, self._last) if one[0] <= start < one[0] + len(one[1]))
            begin, data = next(there, None) or self._piece(start, stop)
            parts.append(data[start - begin : stop - begin])
            start += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _piece(self, start: int, stop: int) -> PlacedBytes:
        """Get the piece that begins at `start`."""
        following, self._next = self._next, None
        goes_on = start == self._last[0] + len(self._last[1])
        self._step = min(self._step * _GROWTH, _PIECE) if goes_on and start else _HEAD
        if start == 0:
            data = self._file.fetch_end(0, _HEAD)
        elif goes_on and following is not None:
            ((_, data),) = following.result()
        elif (cached := self._file.cached(start, stop)) is not None:
            data = cached
        else:
            data = self._file.read(start, max(stop - start, self._step))
            self._file.check()
        self._last, end = (start, data), start + len(data)
        if goes_on and start and end < self._file.size():
            self._next = self.submit([(end, end + min(self._step * _GROWTH, _PIECE))])
        return start, data
