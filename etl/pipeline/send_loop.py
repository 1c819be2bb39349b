"""Chunks are sent, and committed as they end: many chunks in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from ..checkpoint import Checkpoint
from ..errors import TooManyRejectsError
from ..model import Chunk, CommittedRows
from ..process import handling_signals
from ..run_events import Listener, Progressed, Timing
from ..sender import Outcome, Sender, Transport
from ..tally import RowRange, Tally
from ..text import counted
from .guards import warn_of_large_numbers
from .prefetch import ChunkStream
from .settings import RejectLimit, Settings

if TYPE_CHECKING:
    from .resume import OpenRun


async def send_all(
    stream: ChunkStream,
    transport: Transport,
    run: OpenRun,
    settings: Settings,
    listener: Listener,
    *,
    on_timing: Callable[[Timing], None],
) -> bool:
    """Send chunks until every row has an outcome; return False if the run is stopped before that.

    `on_timing` is called once sending is over, whichever way. Raises the first error of any chunk as it is.
    """
    in_flight = run.in_flight
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
        resent=run.resent,
    )
    with Committer(run.checkpoint, settings, listener, sender.read_meter, sender.read_latencies) as committer:

        async def commit(chunk: Chunk, outcome: Outcome) -> None:
            # What was refused of rows that an earlier process may have sent is in doubt. Of the tries of
            # this process every part remembers its own (`sender.delivery`).
            if in_flight.inherited(chunk):
                ends = (replace(one, end="in_doubt") if one.end == "refused" else one for one in outcome.sent)
                outcome = replace(outcome, sent=tuple(ends))
            await committer.commit(chunk, outcome)
            in_flight.committed(chunk, committer.commits)

        large = set[str]()
        async with _stopping_at_signals(sender) if settings.handle_signals else nullcontext():
            try:
                async with sender, aclosing(stream(sender.stopped)) as lists:
                    async for chunks in lists:
                        for chunk in chunks:
                            if not sender.stopping:
                                warn_of_large_numbers(chunk, large, listener)
                                await sender.send(chunk, commit)
            finally:
                on_timing(sender.timing())
                await committer.flush()
        check_rejects(committer.tally, settings.max_rejects, ended=not sender.stopping)
    return not sender.stopping


@asynccontextmanager
async def _stopping_at_signals(sender: Sender) -> AsyncIterator[None]:
    """At the first signal to stop let what is in flight end; at the second end at once."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def stop() -> None:
        if sender.stopping and task is not None:
            task.cancel()
        sender.stop()

    # Not the loop's own way, which leaves SIGTERM without a handler when it is done.
    with handling_signals(lambda *_: loop.call_soon_threadsafe(stop)):
        yield


# --- committing -------------------------------------------------------------------------------------------


class Committer(AbstractContextManager["Committer"]):
    """Commits chunks in groups: while one transaction is written, the next one gathers.

    `read_meter` returns the counts of requests since its last call, `read_latencies` the times to their
    answers. `tally` is the whole job's, and `commits` counts the transactions. Use it as a context manager:
    only its thread uses the checkpoint meanwhile.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: Settings,
        listener: Listener,
        read_meter: Callable[[], Tally],
        read_latencies: Callable[[], Mapping[float, int]] = dict,
    ) -> None:
        progress = checkpoint.progress()
        self.tally, self.commits = progress.tally, progress.commits
        self._checkpoint, self._settings, self._listener = checkpoint, settings, listener
        self._read_meter, self._read_latencies = read_meter, read_latencies
        self._last, self._reported = settings.clock.now(), float("-inf")
        self._waiting = list[CommittedRows]()
        self._error: BaseException | None = None
        self._writing, self._thread = asyncio.Lock(), ThreadPoolExecutor(1, "commit")

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    async def commit(self, chunk: Chunk, outcome: Outcome) -> None:
        """Return once the chunk is committed durably. Raises StateError, or TooManyRejectsError."""
        mine = committed_rows(chunk, outcome)
        self._waiting.append(mine)
        async with self._writing:
            if any(committed is mine for committed in self._waiting):
                await self.flush()
            if self._error is not None:  # the transaction of another chunk had this one in it
                raise self._error
        check_rejects(self.tally, self._settings.max_rejects, ended=False)

    async def flush(self) -> None:
        """Write all that waits, and the counts of requests, in one transaction."""
        group, self._waiting = self._waiting, []
        meter, now = self._read_meter(), self._settings.clock.now()
        seconds, self._last = now - self._last, now
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._write, group, meter, seconds)
        self.commits += 1
        self.tally = sum((committed.tally for committed in group), self.tally + meter)
        if now - self._reported >= self._settings.progress_every:
            self._reported = now
            self._listener(Progressed(self.tally, latencies=self._read_latencies()))

    def _write(self, group: list[CommittedRows], meter: Tally, seconds: float) -> None:
        """Write a transaction, in the thread. Once one failed none is written: it may build on that one."""
        if self._error is not None:
            raise self._error
        try:
            self._checkpoint.commit(group, meter, seconds)
        except BaseException as error:
            self._error = error
            raise


def check_rejects(tally: Tally, limit: RejectLimit, *, ended: bool) -> None:
    """Raise TooManyRejectsError if there are more rejects than the limit."""
    if limit.exceeded(tally.rejected + tally.swallowed, tally.rows, ended=ended):
        lines = counted(tally.swallowed, "line")
        doubt = f", and {lines} behind an unclosed quote in them count as well"
        raise TooManyRejectsError(
            f"{tally.rejected:,} of {tally.rows:,} rows were rejected{doubt if tally.swallowed else ''}; "
            f"the limit is {limit}",
            hint="see the rejects for the reasons and fix the job or the export, or allow more with "
            "--max-rejects; then run the same command again",
        )


def counts_before_sending(chunk: Chunk) -> Tally:
    """The rows of a chunk, and the end of those that aren't sent."""
    held = 0 if chunk.held is None else len(chunk.held)
    return Tally(
        rows=len(chunk.numbers) if chunk.again else chunk.stop - chunk.first - held,
        unchanged=chunk.unchanged,
        rejected=len(chunk.rejects),
        swallowed=sum(reject.swallowed for reject in chunk.rejects),
    )


def committed_rows(chunk: Chunk, outcome: Outcome) -> CommittedRows:
    """The rows of a chunk as they are committed: what became of those that were sent, and all others."""
    return CommittedRows(
        RowRange(chunk.file, chunk.first, chunk.stop),
        counts_before_sending(chunk) + outcome.tally,
        chunk.rejects + outcome.rejects,
        chunk.unsent + outcome.sent,
        skipped=chunk.skipped,
        held=chunk.held,
        again=chunk.again,
    )
