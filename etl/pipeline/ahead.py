"""Makes things in a thread while those made before are used; a thread that is stuck holds up nobody.

Reading lets go of the interpreter's lock, so it overlaps with writing JSON in the next thread; and both
overlap with the event loop as far as they let go of it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import aclosing, closing, nullcontext, suppress
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar

from etl.model import Chunk
from etl.pipeline.cores import one_core_left

T = TypeVar("T")

# The chunks of a run as they get ready, until the event is set.
Arriving: TypeAlias = Callable[[asyncio.Event], AsyncGenerator[list[Chunk], None]]

# At the end the thread is in the middle of a batch at most - or stuck in a pipe that nobody writes to.
_PATIENCE_SECONDS = 2.0
# How often a thread that waits for room looks whether it is still wanted, and who waits for it for a Ctrl-C.
_LOOK_SECONDS = 0.1


def read_ahead(items: Iterator[T], *, depth: int = 2) -> Generator[T, None, None]:
    """Yield what `items` yields, in order, while a thread gets up to `depth` more.

    Closing the generator ends the thread, unless it is stuck in `items`.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    left = threading.Event()
    threading.Thread(target=_get, args=(items, ready, left), name="read", daemon=True).start()
    try:
        while True:
            item, error = _take(ready)
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        left.set()


def _get(
    items: Iterator[T], ready: queue.Queue[tuple[T | None, BaseException | None]], left: threading.Event
) -> None:
    try:
        with one_core_left():
            for item in items:
                if not _put(ready, (item, None), left):
                    return
        _put(ready, (None, None), left)
    except BaseException as error:  # noqa: BLE001 - raised again where the items are used
        _put(ready, (None, error), left)


def _take(ready: queue.Queue[T]) -> T:
    """The next item. In short waits: a Ctrl-C just before a wait would not end that."""
    while True:
        with suppress(queue.Empty):
            return ready.get(timeout=_LOOK_SECONDS)


def _put(ready: queue.Queue[T], item: T, left: threading.Event) -> bool:
    """Put an item as soon as there is room; False if nobody wants it any more."""
    while not left.is_set():
        with suppress(queue.Full):
            ready.put(item, timeout=_LOOK_SECONDS)
            return True
    return False


async def made_ahead(made: Iterator[T], stopped: asyncio.Event) -> AsyncGenerator[T, None]:
    """Yield what `made` yields, in order, with one more in the making; end early once `stopped` is set.

    `made` is only touched by one thread. What it raises is raised here.
    """
    asks: queue.SimpleQueue[asyncio.Future[T | None] | None] = queue.SimpleQueue()
    thread = threading.Thread(target=_make, args=(made, asks), name="produce", daemon=True)
    thread.start()
    try:
        async with aclosing(got_ahead(partial(_ask, asks), stopped)) as found:
            async for item in found:
                yield item
    finally:
        asks.put(None)
        thread.join(_PATIENCE_SECONDS if not stopped.is_set() else 0.1)


async def got_ahead(
    get: Callable[[], Awaitable[T | None]], stopped: asyncio.Event
) -> AsyncGenerator[T, None]:
    """Yield what `get` gives until that is None, with one more on its way; end early where `stopped`."""
    stopping = asyncio.ensure_future(stopped.wait())
    coming = asyncio.ensure_future(get())
    try:
        while (found := await _first(coming, stopping)) is not None:
            coming = asyncio.ensure_future(get())
            yield found
    finally:
        stopping.cancel()
        coming.cancel()


def _ask(asks: queue.SimpleQueue[asyncio.Future[T | None] | None]) -> asyncio.Future[T | None]:
    future: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
    asks.put(future)
    return future


async def _first(coming: asyncio.Future[T | None], stopping: asyncio.Task[Literal[True]]) -> T | None:
    both: set[asyncio.Future[Any]] = {coming, stopping}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    return None if stopping.done() else coming.result()


def _make(made: Iterator[T], asks: queue.SimpleQueue[asyncio.Future[T | None] | None]) -> None:
    with closing(made) if isinstance(made, Generator) else nullcontext():
        _answer_asks(made, asks)


def _answer_asks(made: Iterator[T], asks: queue.SimpleQueue[asyncio.Future[T | None] | None]) -> None:
    while (future := asks.get()) is not None:
        try:
            found, error = next(made, None), None
        except BaseException as raised:  # noqa: BLE001 - raised again where it was asked for
            found, error = None, raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            future.get_loop().call_soon_threadsafe(_answer, future, found, error)


def _answer(future: asyncio.Future[T | None], found: T | None, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(found)
    else:
        future.set_exception(error)
