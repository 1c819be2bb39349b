"""Commits chunks as they end: many in one transaction, which each of them waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass, field

from ..checkpoint import Checkpoint
from ..errors import TooManyRejectsError
from ..model import Chunk, CommittedRows, RowRange, Tally
from ..run_events import Listener, Progressed
from ..sender import Clock, Outcome
from .settings import RejectLimit


@dataclass(slots=True, eq=False)
class Committer(AbstractContextManager["Committer"]):
    """Groups what is to be committed: while one transaction is written, the next one gathers.

    `read_meter` gives what the requests since its last call came to, `read_latencies` how long their answers
    took. `tally` is the whole job's. To be used
    as a context manager: its one thread is the only one that touches the checkpoint meanwhile. `commits` is
    how many transactions there were.
    """

    checkpoint: Checkpoint
    _: KW_ONLY
    read_meter: Callable[[], Tally]
    limit: RejectLimit
    clock: Clock
    listener: Listener
    tell_every: float
    read_latencies: Callable[[], Mapping[float, int]] = dict
    tally: Tally = field(init=False)
    commits: int = field(init=False)
    _last: float = field(init=False)
    _reported: float = float("-inf")
    _waiting: list[CommittedRows] = field(default_factory=list)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _error: BaseException | None = None
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "commit"))

    def __post_init__(self) -> None:
        progress = self.checkpoint.progress()
        self._last, self.tally, self.commits = self.clock.now(), progress.tally, progress.commits

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
        self.judge(ended=False)

    async def flush(self) -> None:
        """Write all that waits, and what requests came to, in one transaction."""
        group, self._waiting = self._waiting, []
        meter, now = self.read_meter(), self.clock.now()
        seconds, self._last = now - self._last, now
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._write, group, meter, seconds)
        self.commits += 1
        self.tally = sum((committed.tally for committed in group), self.tally + meter)
        if now - self._reported >= self.tell_every:
            self._reported = now
            self.listener(Progressed(self.tally, latencies=self.read_latencies()))

    def _write(self, group: list[CommittedRows], meter: Tally, seconds: float) -> None:
        """Write a transaction, in the thread. Once one failed none is written: it may build on that one."""
        if self._error is not None:
            raise self._error
        try:
            self.checkpoint.commit(group, meter, seconds)
        except BaseException as error:
            self._error = error
            raise

    def judge(self, *, ended: bool) -> None:
        """Raise TooManyRejectsError if there are more rejects than the limit."""
        check_rejects(self.tally, self.limit, ended=ended)


def check_rejects(tally: Tally, limit: RejectLimit, *, ended: bool) -> None:
    """Raise TooManyRejectsError if there are more rejects than the limit."""
    if limit.exceeded(tally.rejected + tally.swallowed, tally.rows, ended=ended):
        lines = f"{tally.swallowed:,} line{'s' * (tally.swallowed != 1)}"
        doubt = f", and {lines} that follow a quote in them which is not closed count as well"
        raise TooManyRejectsError(
            f"{tally.rejected:,} of {tally.rows:,} rows were rejected{doubt if tally.swallowed else ''}; "
            f"the limit is {limit}",
            hint="see the rejects for the reasons and fix the job or the export, or allow more with "
            "--max-rejects; then run the same command again",
        )


def committed_rows(chunk: Chunk, outcome: Outcome) -> CommittedRows:
    """The rows of a chunk as they are committed: what became of those that were sent, and all others."""
    held = 0 if chunk.held is None else len(chunk.held)
    rows = Tally(
        rows=len(chunk.numbers) if chunk.again else chunk.stop - chunk.first - held,
        unchanged=chunk.unchanged,
        rejected=len(chunk.rejects),
        swallowed=sum(reject.swallowed for reject in chunk.rejects),
    )
    row_range = RowRange(chunk.file, chunk.first, chunk.stop)
    return CommittedRows(
        row_range,
        rows + outcome.tally,
        chunk.rejects + outcome.rejects,
        chunk.unsent + outcome.sent,
        skipped=chunk.skipped,
        held=chunk.held,
        again=chunk.again,
    )
