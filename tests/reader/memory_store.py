"""A store in memory: it answers the calls that a client of S3 answers, and fails as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from pyarrow import fs

from etl.reader.stores import Store


@dataclass
class MemoryStore:
    """Objects by their paths, which begin with a bucket; each has a number that changes with it.

    `errors` are raised by the next reads in turn (None: none), `reads` has (start, count) of each.
    `looks` is how often an object was looked at, each of which takes `delay` seconds, and `most_at_once` how
    many were beside each other.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    tags: bool = True
    errors: list[Exception | None] = field(default_factory=list)
    reads: list[tuple[int, int]] = field(default_factory=list)
    looks: int = 0
    delay: float = 0.0
    busy: set[int] = field(default_factory=set)
    most_at_once: int = 0
    touched: int = 1
    type_name: str = "s3"

    def put(self, path: str, data: bytes) -> None:
        self.objects[path] = data
        self.numbers[path] = self.numbers.get(path, 0) + 1

    def get_file_info(self, wanted: str | fs.FileSelector) -> fs.FileInfo | list[fs.FileInfo]:
        if isinstance(wanted, str):
            return self._info(wanted.rstrip("/"))
        base = wanted.base_dir.rstrip("/")
        if self._info(base).type == fs.FileType.NotFound:
            raise OSError(f"AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation: {base}")
        inside = {f"{base}/{path[len(base) + 1 :].split('/')[0]}" for path in self._below(base)}
        return [self._info(path) for path in inside]

    def _below(self, folder: str) -> Iterator[str]:
        return (path for path in self.objects if path.startswith(f"{folder}/"))

    def _info(self, path: str) -> fs.FileInfo:
        if path in self.objects:
            time = self.touched if self.tags else self.numbers[path]
            return fs.FileInfo(path, fs.FileType.File, size=len(self.objects[path]), mtime_ns=time * 10**9)
        there = any(self._below(path))
        return fs.FileInfo(path, fs.FileType.Directory if there else fs.FileType.NotFound)

    def open_input_file(self, path: str) -> Opened:
        self.looks += 1
        self.busy.add(threading.get_ident())
        self.most_at_once = max(self.most_at_once, len(self.busy))
        time.sleep(self.delay)
        self.busy.discard(threading.get_ident())
        if path not in self.objects:
            raise FileNotFoundError(f"Path does not exist '{path}'")
        return Opened(self, path)


@dataclass
class Opened:
    """A handle: its reads get what is there then, as with S3."""

    store: MemoryStore
    path: str

    def metadata(self) -> dict[str, bytes]:
        time = f"2026-11-29T02:00:{self.store.touched:02d}Z"
        tag = f'"{self.store.numbers[self.path]}"'
        return {"ETag": tag.encode(), "Last-Modified": time.encode()} if self.store.tags else {}

    def size(self) -> int:
        return len(self.store.objects[self.path])

    def read_at(self, count: int, start: int) -> bytes:
        self.store.reads.append((start, count))
        if self.store.errors and (error := self.store.errors.pop(0)) is not None:
            raise error
        return self.store.objects[self.path][start : start + count]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """The store that every address names; what fails is tried again at once."""
    memory = MemoryStore()

    def opened(address: str, _: str) -> tuple[Store, str]:
        scheme, _, path = address.partition("://")
        return Store(scheme, "store.example", lambda: memory, waits=(0, 0, 0)), path

    monkeypatch.setattr("etl.reader.discovery.open_store", opened)
    return memory
