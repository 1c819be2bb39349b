"""Makes things in a thread while those made before are used; a thread that is stuck holds up nobody.

Reading releases the interpreter's lock, so it overlaps with encoding in the next thread, and both overlap
with the event loop as far as they release it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import aclosing, closing, nullcontext, suppress
from typing import Any, TypeAlias, TypeVar

from ..model import Chunk

_T = TypeVar("_T")
# The chunks of a run as they get ready, until the event is set.
ChunkStream: TypeAlias = Callable[[asyncio.Event], AsyncGenerator[list[Chunk], None]]

# At the end the thread is in the middle of a batch at most, or stuck in a pipe that nobody writes to.
_JOIN_SECONDS = 2.0
# How often a waiting thread checks whether it has been stopped, or by Ctrl-C interrupted.
_POLL_SECONDS = 0.1


def prefetched(items: Iterator[_T], *, depth: int = 1) -> Generator[_T, None, None]:
    """Yield the items in order, while a thread gets up to `depth` more, and the one after these.

    Closing the generator ends the thread, unless it is stuck in `items`.
    """
    ready = queue.Queue[tuple[_T | None, BaseException | None]](depth)
    stopped = threading.Event()

    def put(item: _T | None, error: BaseException | None = None) -> bool:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put((item, error), timeout=_POLL_SECONDS)
                return True
        return False

    def fill() -> None:
        try:
            if all(map(put, items)):
                put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the items are used
            put(None, error)

    threading.Thread(target=fill, name="read", daemon=True).start()
    try:
        while True:
            try:  # in short waits: a Ctrl-C just before a wait would not end that
                item, error = ready.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stopped.set()


async def prefetch_chunks(made: Iterator[_T], stopped: asyncio.Event) -> AsyncGenerator[_T, None]:
    """Yield the items in order, with one more in the making; end early once `stopped` is set.

    `made` is only touched by one thread. Its errors are raised here.
    """
    asked = queue.SimpleQueue[Future[_T | None] | None]()
    thread = threading.Thread(target=_answer, args=(made, asked), name="produce", daemon=True)
    thread.start()

    def ask() -> asyncio.Future[_T | None]:
        future = Future[_T | None]()
        asked.put(future)
        return asyncio.wrap_future(future)

    try:
        async with aclosing(one_ahead(ask, stopped)) as found:
            async for item in found:
                yield item
    finally:
        asked.put(None)
        thread.join(_JOIN_SECONDS if not stopped.is_set() else 0.1)


def _answer(made: Iterator[_T], asked: queue.SimpleQueue[Future[_T | None] | None]) -> None:
    """Make an item for each future, until there is none; in a thread of its own."""
    with closing(made) if isinstance(made, Generator) else nullcontext():
        while (future := asked.get()) is not None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(next(made, None))
                except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
                    future.set_exception(error)


async def one_ahead(
    get: Callable[[], Awaitable[_T | None]], stopped: asyncio.Event
) -> AsyncGenerator[_T, None]:
    """Yield what `get` returns until that is None, with one more requested; end early once `stopped`."""
    stopping = asyncio.ensure_future(stopped.wait())
    coming = asyncio.ensure_future(get())
    try:
        while True:
            both: set[asyncio.Future[Any]] = {coming, stopping}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done() or (found := coming.result()) is None:
                return
            coming = asyncio.ensure_future(get())
            yield found
    finally:
        stopping.cancel()
        coming.cancel()
