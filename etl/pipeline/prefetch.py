"""Items are made in a thread while earlier ones are used; a thread that hangs doesn't block the end.

Reading releases the interpreter's lock, so it overlaps with encoding in the next thread, and both overlap
with the event loop as far as they release it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future, wait
from contextlib import aclosing, closing, nullcontext
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeAlias, TypeVar

from ..model import Chunk

_T = TypeVar("_T")
# The chunks of a run as they get ready, until the event is set.
ChunkStream: TypeAlias = Callable[[asyncio.Event], AsyncGenerator[list[Chunk], None]]

# At the end the thread finishes its batch, or hangs in a pipe that nobody writes to.
_JOIN_SECONDS: Final = 2.0
# A Ctrl-C just before a wait doesn't end it, so waits are short.
_POLL_SECONDS: Final = 0.1


def prefetched(items: Iterator[_T]) -> Generator[_T, None, None]:
    """Yield the items in order, while a thread gets the next one, and the one after it.

    Closing the generator ends the thread, unless it is stuck in `items`.
    """
    thread = _ProducerThread(items, "read")
    coming = deque([thread.ask(), thread.ask()])
    try:
        while True:
            coming.append(thread.ask())
            first = coming.popleft()
            while wait([first], _POLL_SECONDS).not_done:
                pass
            if (item := first.result()) is None:
                return
            yield item
    finally:
        for future in coming:
            future.cancel()
        thread.end()


async def prefetch_chunks(made: Iterator[_T], stopped: asyncio.Event) -> AsyncGenerator[_T, None]:
    """Yield the items in order, with one more in the making; end early once `stopped` is set.

    `made` is only touched by one thread. Its errors are raised here.
    """
    thread = _ProducerThread(made, "produce")
    try:
        async with aclosing(one_ahead(lambda: asyncio.wrap_future(thread.ask()), stopped)) as found:
            async for item in found:
                yield item
    finally:
        thread.end()
        thread.join(_JOIN_SECONDS if not stopped.is_set() else 0.1)


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


class _ProducerThread(threading.Thread, Generic[_T]):
    """Makes the next item for each future that `ask` returns, and None after the last one."""

    def __init__(self, made: Iterator[_T], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._made, self._asked = made, SimpleQueue[Future[_T | None] | None]()
        self.start()

    def ask(self) -> Future[_T | None]:
        """The next item."""
        future = Future[_T | None]()
        self._asked.put(future)
        return future

    def end(self) -> None:
        """Make no more, once what is in the making is made."""
        self._asked.put(None)

    def run(self) -> None:
        """What the thread does."""
        with closing(self._made) if isinstance(self._made, Generator) else nullcontext():
            while (future := self._asked.get()) is not None:
                if future.set_running_or_notify_cancel():
                    try:
                        future.set_result(next(self._made, None))
                    except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
                        future.set_exception(error)
