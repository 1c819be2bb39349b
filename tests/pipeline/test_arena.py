"""Memory that processes share: slots are free again when nothing refers to them, and only then."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import NoReturn

import pyarrow as pa
import pytest

from etl.pipeline.arena import Arena, Stored

SIZE = 4096


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena(2, SIZE)
    yield made
    made.close()


def stored(arena: Arena, *pieces: bytes) -> Stored:
    found = arena.put([(piece,) for piece in pieces])
    assert found is not None
    return found


def full(arena: Arena) -> bool:
    return arena.put([(b"x",)]) is None


def test_what_was_put_is_got(arena: Arena) -> None:
    found = arena.put([(b"o", memoryview(b"ne")), (), (b"three" * 100,)])
    assert found is not None
    assert [bytes(buffer) for buffer in arena.get(found)] == [b"one", b"", b"three" * 100]


def test_a_slot_in_use_is_never_given_away(arena: Arena) -> None:
    held = [arena.get(stored(arena, letter)) for letter in (b"a", b"b")]
    assert full(arena)
    assert [bytes(piece) for (piece,) in held] == [b"a", b"b"]


def test_a_slot_is_free_when_the_last_that_was_made_of_it_is_gone(arena: Arena) -> None:
    batch = pa.record_batch({"n": pa.array(range(100), pa.int64())})
    body, rows = arena.get(stored(arena, b"body", batch.serialize().to_pybytes()))
    stored(arena, b"the other slot")
    read = pa.ipc.read_record_batch(pa.py_buffer(rows), batch.schema)
    part = read.slice(40, 3)
    tail = body[2:]
    del body, rows, read
    assert full(arena)
    assert (part["n"].to_pylist(), bytes(tail)) == ([40, 41, 42], b"dy")
    del part
    gc.collect()
    assert full(arena)
    del tail
    gc.collect()
    assert not full(arena)


def test_what_is_too_big_is_not_put_and_takes_no_slot(arena: Arena) -> None:
    assert arena.put([(bytes(SIZE), b"1")]) is None
    # Each piece begins where Arrow wants its buffers to begin.
    assert arena.put([(bytes(1),), (bytes(SIZE - 1),)]) is None
    assert stored(arena, bytes(SIZE)).slot == 0
    assert stored(arena, bytes(1), bytes(SIZE - 64)).slot == 1


def be_child(arena: Arena, writing: int) -> NoReturn:
    """Fill both slots and tell their numbers; then wait for a free one and tell its number."""
    with suppress(BaseException):
        for data in (b"7", b"8", b"9"):
            os.write(writing, bytes([patiently(arena, data).slot]))
    os._exit(0)


def patiently(arena: Arena, data: bytes) -> Stored:
    for _ in range(500):
        found = arena.put([(data,)])
        if found is not None:
            return found
    raise TimeoutError


def test_a_fork_fills_slots_and_gets_them_back(arena: Arena) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        be_child(arena, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        first, second = told.read(2)
        (one,), (other,) = arena.get(Stored(first, (1,))), arena.get(Stored(second, (1,)))
        assert (bytes(one), bytes(other)) == (b"7", b"8")
        del one
        assert told.read(1)[0] == first
    os.waitpid(child, 0)
    assert bytes(other) == b"8"


def test_what_was_got_outlives_the_arena() -> None:
    made = Arena(1, SIZE)
    (piece,) = made.get(stored(made, b"kept"))
    made.close()
    del made
    gc.collect()
    assert bytes(piece) == b"kept"
    del piece
