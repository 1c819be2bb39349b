"""The tasks of a sender: after an error, requests in flight are let end, as nobody would know of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Final

from ..errors import EtlError
from .pause import StoppedError

# So long requests in flight may take to end when the sender can't go on.
GRACE_SECONDS: Final = 2.0


class OrderlyTasks:
    """A group of tasks. An EtlError calls `stop` and lets the others end; any other error cancels them all.

    The first error is raised on the way out. After `GRACE_SECONDS` what has not ended is cancelled.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._group = asyncio.TaskGroup()
        self._running = set[asyncio.Task[None]]()
        self._error: EtlError | None = None

    async def __aenter__(self) -> None:
        await self._group.__aenter__()

    async def close(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        drain: Callable[[], Awaitable[None]],
    ) -> None:
        """Wait for `drain`, unless there is an error already, and then for all tasks."""
        try:
            try:
                if error is None:
                    await drain()
            except BaseException as raised:
                await self._group.__aexit__(type(raised), raised, raised.__traceback__)
                raise
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as errors:
            first: BaseException = errors
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise first from None
        if self._error is not None:
            raise self._error

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a task; a StoppedError is its orderly end."""
        watched = self._watched(coroutine)
        try:
            task = self._group.create_task(watched)
        except RuntimeError:  # another kind of error ends the group
            watched.close()
            coroutine.close()
            return
        self._running.add(task)
        task.add_done_callback(partial(self._forget, coroutine))

    def _forget(self, coroutine: Coroutine[Any, Any, None], task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        coroutine.close()  # which it may never have begun

    async def wait(self) -> None:
        """Wait until no task is left."""
        while self._running:
            await asyncio.wait(self._running)

    def fail(self, error: EtlError) -> None:
        """Stop in order because of this error."""
        if self._error is None:
            self._error = error
            loop = asyncio.get_running_loop()
            loop.call_later(GRACE_SECONDS, lambda: [task.cancel() for task in self._running])
        self._stop()

    async def _watched(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except StoppedError:
            self._stop()
        except EtlError as error:
            self.fail(error)
