"""Chunks that another process made are the same, whether they found room in shared memory or not."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from etl.errors import SourceError
from etl.model import Chunk, Reject
from etl.pipeline.ahead import Arriving
from etl.pipeline.apart import Made, made_apart, may_fork

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
        prints=np.full((3, 2), number, dtype=np.uint32),
    )


def apart(make: Callable[[], Made], see: Callable[[Chunk], None], concurrency: int = 1) -> None:
    async def walk(arriving: Arriving) -> None:
        async for chunks in arriving(asyncio.Event()):
            for came in chunks:
                see(came)

    lock = os.open(os.devnull, os.O_RDONLY)
    try:
        with made_apart(make, concurrency=concurrency, closing=lock) as arriving:
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


def test_what_the_child_raises_is_raised_here() -> None:
    def broken() -> Made:
        yield [chunk(1)]
        raise ValueError("no more")

    came: list[Chunk] = []
    with pytest.raises(ValueError, match="no more"):
        apart(broken, came.append)
    assert_same(came[0], chunk(1))


def test_a_child_that_is_killed_is_no_end_of_the_rows() -> None:
    def killed() -> Made:
        yield [chunk(1)]
        os.kill(os.getpid(), signal.SIGKILL)

    came: list[Chunk] = []
    with pytest.raises(SourceError, match="ended before its time"):
        apart(killed, came.append)
    assert len(came) == 1


def test_told_to_stop_it_waits_for_no_chunk() -> None:
    def stuck() -> Made:
        yield [chunk(1)]
        time.sleep(60)

    async def walk(arriving: Arriving) -> int:
        stopped = asyncio.Event()
        asyncio.get_running_loop().call_later(0.2, stopped.set)
        return len([chunks async for chunks in arriving(stopped)])

    lock, begun = os.open(os.devnull, os.O_RDONLY), time.monotonic()
    with made_apart(stuck, concurrency=1, closing=lock) as arriving:
        assert asyncio.run(walk(arriving)) == 1
    os.close(lock)
    assert time.monotonic() - begun < 30


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_descriptor_and_no_process_is_left() -> None:
    before = open_descriptors()
    for _ in range(3):
        apart(lambda: iter([[chunk(1), chunk(2)]]), lambda _: None)
    assert open_descriptors() == before
    assert not Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_the_child_has_all_cores_and_the_parent_leaves_it_one() -> None:
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("there is but one core")
    meanwhile: list[set[int]] = []

    def make() -> Made:
        yield [chunk(0)]
        raise SourceError(repr(os.sched_getaffinity(0)))

    with pytest.raises(SourceError) as raised:
        apart(make, lambda _: meanwhile.append(os.sched_getaffinity(0)))
    assert str(raised.value) == repr(before)
    assert [before - cores for cores in meanwhile] == [{max(before)}]
    assert os.sched_getaffinity(0) == before
