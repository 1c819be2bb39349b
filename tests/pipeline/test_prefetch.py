"""What is made ahead comes in order, errors come where they are waited for, and no thread is left."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from etl.pipeline.prefetch import prefetch_chunks, prefetched
from tests.commands import until


def failing(good: int) -> Iterator[int]:
    yield from range(good)
    raise ValueError("no more")


def threads_end(before: set[threading.Thread]) -> None:
    until(lambda: set(threading.enumerate()) <= before)


def test_reading_ahead_keeps_order_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    assert list(prefetched(iter(range(1000)))) == list(range(1000))
    threads_end(before)


def test_an_error_comes_behind_what_was_good() -> None:
    ahead = prefetched(failing(3))
    assert [next(ahead), next(ahead), next(ahead)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no more"):
        next(ahead)


def test_no_more_than_two_are_read_ahead() -> None:
    taken: list[int] = []

    def noted() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    ahead = prefetched(noted())
    assert next(ahead) == 0
    time.sleep(0.1)
    assert len(taken) <= 3
    ahead.close()


def test_who_leaves_early_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    ahead = prefetched(iter(range(1000)))
    assert next(ahead) == 0
    ahead.close()
    threads_end(before)


def test_made_ahead_keeps_order_and_passes_errors() -> None:
    async def gather(made: Iterator[int]) -> list[int]:
        return [item async for item in prefetch_chunks(made, asyncio.Event())]

    before = set(threading.enumerate())
    assert asyncio.run(gather(iter(range(100)))) == list(range(100))
    with pytest.raises(ValueError, match="no more"):
        asyncio.run(gather(failing(5)))
    threads_end(before)


def test_told_to_stop_it_waits_for_nothing() -> None:
    stuck = threading.Event()

    def stalling() -> Iterator[int]:
        yield 1
        stuck.wait()

    async def gather() -> list[int]:
        stopped = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, stopped.set)
        return [item async for item in prefetch_chunks(stalling(), stopped)]

    assert asyncio.run(gather()) == [1]  # and does not hang
    stuck.set()
