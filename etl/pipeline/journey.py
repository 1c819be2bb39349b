"""The journey of the rows, read top to bottom: they arrive in chunks, go in lanes, settle in groups."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager

from etl.checkpoint import Checkpoint
from etl.model import Listener
from etl.pipeline.ahead import Arriving
from etl.pipeline.notices import LargeNumbers
from etl.pipeline.settings import Settings
from etl.pipeline.settling import Settler
from etl.sender import AdmittedRate, Delivery, Lanes, Pause, Rate, StoppedError, Transport


async def travel(
    arriving: Arriving,
    transport: Transport,
    checkpoint: Checkpoint,
    settings: Settings,
    listener: Listener,
    *,
    resumed: bool = False,
) -> bool:
    """Bring every row of the chunks to its end. False if the run was told to stop before that.

    Of a run that was `resumed`, the destination may have had the chunks that were under way when it ended.
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
        resent=settings.concurrency if resumed else 0,
    )
    with Settler(
        checkpoint,
        read_meter=delivery.read_meter,
        limit=settings.max_rejects,
        clock=clock,
        listener=listener,
        tell_every=settings.progress_every,
    ) as settler:
        lanes = Lanes(settings.concurrency, delivery, settler.settle)
        async with _stopping_at_signals(pause, enabled=settings.handle_signals):
            try:
                await _send_all(arriving, lanes, pause, LargeNumbers(listener))
            finally:
                await settler.flush()
        settler.judge(ended=not pause.stopping)
    return not pause.stopping


async def _send_all(arriving: Arriving, lanes: Lanes, pause: Pause, large: LargeNumbers) -> None:
    try:
        async with (
            asyncio.TaskGroup() as group,
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


@asynccontextmanager
async def _stopping_at_signals(pause: Pause, *, enabled: bool) -> AsyncIterator[None]:
    """At the first SIGINT or SIGTERM let what is in flight end; at the second end at once."""
    if not enabled:
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    stop = _stopper(pause, task.cancel if task else pause.stop)
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


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
