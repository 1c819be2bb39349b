"""Chunks that another process made are the same, whether they found room in shared memory or not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from etl.model import Chunk, Reject
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


def apart(made: list[list[Chunk]], concurrency: int = 1) -> Iterator[Chunk]:
    lock = os.open(os.devnull, os.O_RDONLY)
    with made_apart(lambda: iter(made), concurrency=concurrency, closing=lock) as received:
        for chunks in received:
            yield from chunks
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
    for number, came in enumerate(apart([made[:50], [], made[50:]])):
        assert_same(came, made[number])
        held = [*held, came][-hold:]
    assert number == len(made) - 1
    for before, after in zip(made[-hold:], held, strict=True):
        assert_same(after, before)


def test_what_the_child_raises_is_raised_here() -> None:
    def broken() -> Made:
        yield [chunk(1)]
        raise ValueError("no more")

    lock = os.open(os.devnull, os.O_RDONLY)
    with made_apart(broken, concurrency=1, closing=lock) as received:
        assert_same(next(received)[0], chunk(1))
        with pytest.raises(ValueError, match="no more"):
            next(received)
    os.close(lock)


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_descriptor_and_no_process_is_left() -> None:
    before = open_descriptors()
    for _ in range(3):
        assert len(list(apart([[chunk(1), chunk(2)]]))) == 2
    assert open_descriptors() == before
    assert not Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
