"""The rows in one loop: they arrive in chunks, are sent, and are committed in groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from ..checkpoint import Checkpoint
from ..checkpoint.in_flight_file import InFlightFile
from ..interrupts import heard_by
from ..model import Chunk
from ..run_events import Listener, Timing
from ..sender import Outcome, Sender, Transport
from .commit import Committer
from .precheck import LargeNumbers
from .prefetch import ChunkStream
from .settings import Settings


async def send_all(
    arriving: ChunkStream,
    transport: Transport,
    checkpoint: Checkpoint,
    settings: Settings,
    listener: Listener,
    in_flight: InFlightFile,
    *,
    resent: float = 0,
    on_timing: Callable[[Timing], None] = lambda _: None,
) -> bool:
    """Bring every row of the chunks to its end. False if the run was told to stop before that.

    `resent` is how many of the chunks the destination may have had from an earlier process. `on_timing` is
    called once sending is over, whichever way. Raises the first error of any chunk as it is.
    """
    sender = Sender(
        transport,
        rate=settings.rate,
        requests_per_second=settings.requests_per_second,
        slots=settings.concurrency,
        max_outage=settings.max_outage,
        backoff=settings.backoff,
        clock=settings.clock,
        listener=listener,
        record=in_flight,
        resent=resent,
    )

    with Committer(
        checkpoint,
        read_meter=sender.read_meter,
        read_latencies=sender.read_latencies,
        limit=settings.max_rejects,
        clock=settings.clock,
        listener=listener,
        tell_every=settings.progress_every,
    ) as committer:

        async def commit(chunk: Chunk, outcome: Outcome) -> None:
            if in_flight.inherited(chunk):
                outcome = _in_doubt(outcome)
            await committer.commit(chunk, outcome)
            in_flight.committed(chunk, committer.commits)

        large = LargeNumbers(listener)
        async with _stopping_at_signals(sender, enabled=settings.handle_signals):
            try:
                async with sender, aclosing(arriving(sender.stopped)) as lists:
                    async for chunks in lists:
                        for chunk in chunks:
                            if not sender.stopping:
                                large.look(chunk)
                                await sender.send(chunk, commit)
            finally:
                on_timing(sender.timing())
                await committer.flush()
        committer.judge(ended=not sender.stopping)
    return not sender.stopping


def _in_doubt(outcome: Outcome) -> Outcome:
    """The outcome of rows that an earlier process may have sent: what was refused is in doubt.

    Of the tries of this process every part remembers its own (`sender.delivery`).
    """
    sent = tuple(replace(some, end="in_doubt") if some.end == "refused" else some for some in outcome.sent)
    return replace(outcome, sent=sent)


@asynccontextmanager
async def _stopping_at_signals(sender: Sender, *, enabled: bool) -> AsyncIterator[None]:
    """At the first signal to stop let what is in flight end; at the second end at once."""
    if not enabled:
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def stop() -> None:
        if sender.stopping and task is not None:
            task.cancel()
        sender.stop()

    # Not the loop's own way, which leaves SIGTERM without a handler when it is done.
    with heard_by(lambda *_: loop.call_soon_threadsafe(stop)):
        yield
