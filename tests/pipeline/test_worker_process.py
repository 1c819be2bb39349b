"""Chunks that another process made are the same, whether they found room in shared memory or not."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest

from etl.errors import SourceError
from etl.model import Chunk, Reject
from etl.pipeline.prefetch import ChunkStream
from etl.pipeline.worker_process import MakeChunks, may_fork, worker_process

COUNT = 100


def chunk(number: int, size: int = 1000) -> Chunk:
    rows = pa.record_batch({"id": [f"user-{number}"] * 3, "n": pa.array([number, None, 3], pa.int64())})
    return Chunk(
        source="users.csv",
        file=0,
        first=3 * number + 1,
        stop=3 * number + 4,
        body=(b"[", b"%d" % (number % 10) * size, b"]"),
        ends=np.array([size + 1]),
        keys=np.array([[number]], dtype=np.uint64),
        numbers=np.arange(3 * number + 1, 3 * number + 4),
        owners=np.zeros(3, dtype=np.int64),
        rows=rows.slice(number % 2),
        rejects=(Reject("users.csv", number, "bad", "why", "{}"),) if number % 3 == 0 else (),
        large=frozenset({"n"}),
        fingerprints=np.full((3, 2), number, dtype=np.uint32),
    )


def apart(make: MakeChunks, see: Callable[[Chunk], None]) -> None:
    async def walk(arriving: ChunkStream) -> None:
        async for chunks in arriving(asyncio.Event()):
            for came in chunks:
                see(came)

    lock = os.open(os.devnull, os.O_RDONLY)
    try:
        with worker_process(make, lock=lock) as arriving:
            asyncio.run(walk(arriving))
    finally:
        os.close(lock)


def assert_same(one: Chunk, other: Chunk) -> None:
    for name in (field.name for field in fields(Chunk)):
        here, there = getattr(one, name), getattr(other, name)
        if name == "body":
            here, there = b"".join(here), b"".join(there)
        assert np.array_equal(here, there) if isinstance(here, np.ndarray) else here == there, name


pytestmark = pytest.mark.skipif(not may_fork(), reason="other threads run, or the system has no fork")


@pytest.mark.parametrize("hold", [1, COUNT])
@pytest.mark.parametrize("size", [0, 1000, 3 << 20])
def test_chunks_come_as_they_were_made(size: int, hold: int) -> None:
    """Where all are held, there are more than slots; and the largest have room in none."""
    made = [chunk(number, size) for number in range(COUNT if size < 1 << 20 else 6)]
    held: list[Chunk] = []
    count = 0

    def see(came: Chunk) -> None:
        nonlocal count
        assert_same(came, made[count])
        count += 1
        held.append(came)
        del held[:-hold]

    apart(lambda: iter([made[:50], [], made[50:]]), see)
    assert count == len(made)
    for before, after in zip(made[-hold:], held, strict=True):
        assert_same(after, before)


def files_of_the_worker() -> int:
    """How many memory files the children of this process have open."""
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    count = 0
    for child in children:
        links: list[Path] = []
        with suppress(OSError):  # it has ended meanwhile
            links = list(Path(f"/proc/{child}/fd").iterdir())
        for link in links:
            with suppress(OSError):  # closed meanwhile
                count += "memfd:chunks" in str(link.readlink())
    return count


@pytest.mark.parametrize("kept", [0, 20])
def test_memory_that_is_free_is_used_again_and_other_memory_is_left_alone(kept: int) -> None:
    held: list[Chunk] = []
    most = 0

    def see(came: Chunk) -> None:
        nonlocal most
        most = max(most, files_of_the_worker())
        if len(held) < kept:
            held.append(came)

    apart(lambda: ([chunk(number)] for number in range(COUNT)), see)
    assert kept < most <= kept + 8
    for number, came in enumerate(held):
        assert_same(came, chunk(number))


def test_what_the_child_raises_is_raised_here() -> None:
    def broken() -> Iterator[list[Chunk]]:
        yield [chunk(1)]
        raise ValueError("no more")

    came: list[Chunk] = []
    with pytest.raises(ValueError, match="no more"):
        apart(broken, came.append)
    assert_same(came[0], chunk(1))


class LockedError(BaseException):
    """Can be neither pickled nor caught as an Exception."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.lock = threading.Lock()


class PickyError(Exception):
    """Can be pickled, but not read back: its own arguments aren't those of BaseException."""

    def __init__(self, words: str, more: str) -> None:
        super().__init__(f"{words} {more}")


ERRORS: list[tuple[BaseException, type[BaseException]]] = [
    (LockedError("no more rows"), RuntimeError),
    (PickyError("no more", "rows"), RuntimeError),
    (SystemExit("no more rows"), RuntimeError),
    (GeneratorExit("no more rows"), RuntimeError),
    (KeyError("no more rows"), KeyError),
    (SourceError("no more rows", hint="find some"), SourceError),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS, ids=lambda given: type(given).__name__)
def test_one_process_and_one_error_whatever_is_raised(
    tmp_path: Path, error: BaseException, kind: type[BaseException]
) -> None:
    def broken() -> Iterator[list[Chunk]]:
        yield [chunk(1)]
        raise error

    came: list[Chunk] = []
    with pytest.raises(kind, match="no more rows") as caught:
        apart(broken, came.append)
    # A second copy of this code would write here, too.
    with (tmp_path / "processes").open("a") as file:
        file.write(f"{os.getpid()}\n")
    assert (tmp_path / "processes").read_text() == f"{os.getpid()}\n"
    assert len(came) == 1
    if isinstance(error, SourceError):
        assert caught.value.hint == "find some"  # type: ignore[attr-defined]
    else:
        told = "".join(traceback.format_exception(caught.value))
        assert "in broken" in told  # where it was raised


def test_the_caller_s_garbage_collector_is_left_alone() -> None:
    before, frozen = (gc.isenabled(), gc.get_threshold()), gc.get_freeze_count()
    apart(lambda: iter([[chunk(1)]]), lambda _: None)
    assert (gc.isenabled(), gc.get_threshold()) == before
    # Neither frozen anew nor thawed; a few of the frozen objects may have ended meanwhile.
    assert frozen - 100 < gc.get_freeze_count() <= frozen


@contextmanager
def limited(what: int, most: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


def next_descriptor() -> int:
    found = os.open(os.devnull, os.O_RDONLY)
    os.close(found)
    return found


SCARCE: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "memory": lambda: patch.object(os, "memfd_create", side_effect=OSError(errno.ENOMEM, "no memory")),
    "descriptors": lambda: limited(resource.RLIMIT_NOFILE, next_descriptor() + 1),
    "processes": lambda: patch.object(os, "fork", side_effect=BlockingIOError(errno.EAGAIN, "no process")),
}


@pytest.mark.parametrize("scarce", SCARCE)
def test_where_something_is_scarce_this_process_makes_the_chunks(scarce: str) -> None:
    made_by: list[int] = []

    def make() -> Iterator[list[Chunk]]:
        made_by.append(os.getpid())
        yield [chunk(1), chunk(2)]

    came: list[Chunk] = []
    before, lock = open_descriptors(), os.open(os.devnull, os.O_RDONLY)
    with ExitStack() as stack:
        with SCARCE[scarce]():
            arriving = stack.enter_context(worker_process(make, lock=lock))

        async def walk() -> None:
            async for chunks in arriving(asyncio.Event()):
                came.extend(chunks)

        asyncio.run(walk())
    os.close(lock)
    assert made_by == [os.getpid()]
    assert_same(came[1], chunk(2))
    assert open_descriptors() <= before  # fewer: what an earlier test left has ended


BUSY = """
import asyncio, os, sys, time
from etl.pipeline.worker_process import worker_process

def busy():
    print(os.getpid(), flush=True)
    while True:
        sum(range(1_000_000))
    yield []

async def walk(arriving):
    async for _ in arriving(asyncio.Event()):
        pass

with worker_process(busy, lock=os.open(os.devnull, os.O_RDONLY)) as arriving:
    asyncio.run(walk(arriving))
"""


def test_a_busy_child_ends_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = Path("/proc") / parent.stdout.readline().strip()
    assert (child / "exe").exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _runs(child)


def _runs(process: Path) -> bool:
    """Whether it is there, and not only waiting for somebody to take note of its end."""
    with suppress(OSError):
        return "State:\tZ" not in (process / "status").read_text()
    return False


def test_a_child_that_is_killed_is_no_end_of_the_rows() -> None:
    def killed() -> Iterator[list[Chunk]]:
        yield [chunk(1)]
        os.kill(os.getpid(), signal.SIGKILL)

    came: list[Chunk] = []
    with pytest.raises(SourceError, match="ended early"):
        apart(killed, came.append)
    assert len(came) == 1


def test_told_to_stop_it_waits_for_no_chunk() -> None:
    def stuck() -> Iterator[list[Chunk]]:
        yield [chunk(1)]
        time.sleep(60)

    async def walk(arriving: ChunkStream) -> int:
        stopped, came = asyncio.Event(), 0
        async for _ in arriving(stopped):
            came += 1
            asyncio.get_running_loop().call_later(0.1, stopped.set)
        return came

    lock, begun = os.open(os.devnull, os.O_RDONLY), time.monotonic()
    with worker_process(stuck, lock=lock) as arriving:
        assert asyncio.run(walk(arriving)) == 1
    os.close(lock)
    assert time.monotonic() - begun < 30


def open_descriptors() -> int:
    gc.collect()  # each memory file has one, as long as a chunk of it is there
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_descriptor_and_no_process_is_left() -> None:
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before, others = open_descriptors(), children.read_text()
    for _ in range(3):
        apart(lambda: iter([[chunk(1), chunk(2)]]), lambda _: None)
    assert open_descriptors() <= before  # fewer: what an earlier test left has ended
    assert children.read_text() == others
