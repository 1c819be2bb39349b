"""The tasks of a sender, and whose request goes next.

After an error the requests in flight are let end, as it would be unknown otherwise what became of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import EtlError
from .backoff import StoppedError

# So long requests in flight may take to end when the sender can't go on.
GRACE_SECONDS: Final = 2.0
# Steps of this share of a part never come back to places next to each other.
_GOLDEN: Final = 0.6180339887


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

    async def close(self, error: BaseException | None, drain: Callable[[], Awaitable[None]]) -> None:
        """Wait for `drain`, unless there is an error already, and then for all tasks."""
        try:
            try:
                if error is None:
                    await drain()
            except BaseException as raised:
                await self._group.__aexit__(type(raised), raised, raised.__traceback__)
                raise
            kind, trace = (None, None) if error is None else (type(error), error.__traceback__)
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

        def done(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            coroutine.close()  # which it may never have begun

        task.add_done_callback(done)

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


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A part of `users` identifications that waits. Its turn comes with a place, if it is to be cut there."""

    users: int
    may_cut: bool
    last: bool
    turn: asyncio.Future[int | None] = field(default_factory=asyncio.Future)


class Turns:
    """At most `count` requests at once; those that wait go in the order in which they came.

    While `single` is set they go one by one, and the smallest part first: so a single row is found with few
    requests. With `sampling` too, single rows are cut out of what waits, and go first: the rows that are
    tried then are spread over all that is known, not next to each other.
    """

    def __init__(self, count: int) -> None:
        self.single = True
        self.sampling = False
        self._count = count
        self._taken = 0
        self._waiting: list[_Waiting] = []
        self._cuts = 0

    @property
    def _has_room(self) -> bool:
        return self._taken < (1 if self.single else self._count)

    async def take(self, users: int, *, may_cut: bool, last: bool) -> int | None:
        """Wait for a turn; give it back after the request. Where turns are `single`, some come last.

        None: the part may be sent. A place: it is to be cut, and the identification there has the turn.
        """
        if not self._waiting and self._has_room:
            self._taken += 1
            return None
        mine = _Waiting(users, may_cut, last)
        self._waiting.append(mine)
        self._admit()
        try:
            return await mine.turn
        except asyncio.CancelledError:
            if mine in self._waiting:
                self._waiting.remove(mine)
            elif not mine.turn.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        """The request with the turn has its verdict, or isn't sent."""
        self._taken -= 1
        self._admit()

    def _admit(self) -> None:
        """Give the free turns to those that are next."""
        while self._waiting and self._has_room:
            chosen, place = self._waiting[0], None
            if self.single:
                chosen = min(self._waiting, key=lambda one: (one.last, one.users))
                whole = [one for one in self._waiting if one.may_cut and one.users > 1 and not one.last]
                if self.sampling and chosen.users > 1 and whole:
                    # The last of the largest is the farthest from what was refused.
                    chosen = max(reversed(whole), key=lambda one: one.users)
                    self._cuts += 1
                    place = int(chosen.users * ((_GOLDEN * self._cuts) % 1))
            self._waiting.remove(chosen)
            if not chosen.turn.done():  # its task may have been cancelled
                self._taken += 1
                chosen.turn.set_result(place)
