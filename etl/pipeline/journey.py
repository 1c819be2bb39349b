"""The journey of the rows, read top to bottom: they arrive in chunks, go in lanes, commit in groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

from etl.checkpoint import Checkpoint, InFlight
from etl.errors import EtlError
from etl.interrupts import heard_by
from etl.model import Chunk, Listener
from etl.pipeline.ahead import Arriving
from etl.pipeline.commit import Committer
from etl.pipeline.notices import LargeNumbers
from etl.pipeline.settings import Settings
from etl.sender import (
    GRACE_SECONDS,
    AdmittedRate,
    Delivery,
    Lanes,
    Outcome,
    Pause,
    Rate,
    StoppedError,
    Transport,
)


async def travel(
    arriving: Arriving,
    transport: Transport,
    checkpoint: Checkpoint,
    settings: Settings,
    listener: Listener,
    in_flight: InFlight,
    *,
    resent: float = 0,
) -> bool:
    """Bring every row of the chunks to its end. False if the run was told to stop before that.

    `resent` is how many of the chunks the destination may have had from an earlier process.
    Raises the first error of any lane as it is.
    """
    clock = settings.clock
    pause = Pause(
        clock,
        settings.waits,
        outage=settings.max_outage,
        listener=listener,
        throttle_seconds=transport.throttle_seconds,
    )
    delivery = Delivery(
        transport,
        pause=pause,
        requests=Rate(settings.requests_per_second, clock),
        identifications=Rate(settings.rate, clock) if settings.rate else AdmittedRate(clock),
        slots=settings.concurrency,
        clock=clock,
        outage=settings.max_outage,
        flights=in_flight,
        resent=resent,
    )
    with Committer(
        checkpoint,
        read_meter=delivery.read_meter,
        limit=settings.max_rejects,
        clock=clock,
        listener=listener,
        tell_every=settings.progress_every,
    ) as committer:

        async def commit(chunk: Chunk, outcome: Outcome) -> None:
            if in_flight.inherited(chunk):
                outcome = without_certainty(outcome)
            await committer.commit(chunk, outcome)
            in_flight.committed(chunk, committer.commits)

        lanes = Lanes(settings.concurrency, delivery, commit)
        async with _stopping_at_signals(pause, enabled=settings.handle_signals):
            try:
                await _send_all(arriving, lanes, pause, LargeNumbers(listener))
            finally:
                await committer.flush()
        committer.judge(ended=not pause.stopping)
    return not pause.stopping


def without_certainty(outcome: Outcome) -> Outcome:
    """What is known of rows that an earlier process may have sent: what was refused is in doubt.

    Of the tries of this process every part remembers its own (`sender.delivery`).
    """
    sent = tuple(replace(some, end="in_doubt") if some.end == "refused" else some for some in outcome.sent)
    return replace(outcome, sent=sent)


async def _send_all(arriving: Arriving, lanes: Lanes, pause: Pause, large: LargeNumbers) -> None:
    try:
        async with (
            _Orderly(pause) as group,
            aclosing(arriving(pause.stopped)) as lists,
        ):
            async for chunks in lists:
                for chunk in chunks:
                    if not pause.stopping:
                        large.look(chunk)
                        await lanes.carry(chunk, group)
            await lanes.drain()
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    group.check()


class _Orderly(asyncio.TaskGroup):
    """A group in which an error of ours lets the requests under way end: who breaks off doesn't know of them.

    Not for long: after `GRACE_SECONDS` they are cancelled.
    """

    def __init__(self, pause: Pause) -> None:
        super().__init__()
        self._pause = pause
        self._running = set[asyncio.Task[None]]()
        self._error: EtlError | None = None

    def create_task(self, coroutine: Coroutine[Any, Any, None], **how: Any) -> asyncio.Task[None]:  # type: ignore[override]
        watched = self._watched(coroutine)
        try:
            task = super().create_task(watched, **how)
        except RuntimeError:  # the group ends
            watched.close()
            raise
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: coroutine.close())  # which it may never have begun
        return task

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self._error is not None:
            raise self._error

    async def _watched(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except (EtlError, BaseExceptionGroup) as error:
            found = _first(error) if isinstance(error, BaseExceptionGroup) else error
            if not isinstance(found, EtlError):
                raise
            if self._error is None:
                self._error = found
                asyncio.get_running_loop().call_later(GRACE_SECONDS, self._cancel)
            self._pause.stop()

    def _cancel(self) -> None:
        for task in self._running:
            task.cancel()


@asynccontextmanager
async def _stopping_at_signals(pause: Pause, *, enabled: bool) -> AsyncIterator[None]:
    """At the first signal to stop let what is in flight end; at the second end at once."""
    if not enabled:
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    stop = _stopper(pause, task.cancel if task else pause.stop)
    # Not the loop's own way, which leaves SIGTERM without a handler when it is done.
    with heard_by(lambda *_: loop.call_soon_threadsafe(stop)):
        yield


def _stopper(pause: Pause, end: Callable[[], object]) -> Callable[[], None]:
    def stop() -> None:
        if pause.stopping:
            end()
        pause.stop()

    return stop


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first leaf of a group that isn't just somebody stopping."""
    leaves = list(_leaves(errors))
    return next((leaf for leaf in leaves if not isinstance(leaf, StoppedError)), leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
