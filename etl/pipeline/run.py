"""`run`: the job, from its checkpoint to its summary, in the order in which the data moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Final, Literal

from ..checkpoint import StateDir, publish_rejects
from ..ending import Ending, ended
from ..errors import EtlError, InterruptedRunError, SourceError, StateError
from ..interrupts import held
from ..job import Job
from ..model import Chunk
from ..ranges import RangeSet
from ..reader import Source
from ..run_events import Ended, Event, Listener, Started, Summary, Timing, Warned
from ..sender.transports import TRANSPORTS, HttpTransport
from ..snapshot import BitSet, FinalChanges
from .diff_base import remove_oldest
from .digests import digests_meanwhile
from .notices import job_warnings, source_warnings, uncounted_events
from .own_rejects import drop_kept, reads_rejects, with_kept
from .precheck import check_changes, no_rows_error, requires_rows
from .prefetch import ChunkStream, prefetch_chunks
from .removed_users import RemovedUsers, StreamNotes, find_removed_users, forget_ids
from .resume import OpenRun, open_run
from .row_pipeline import JobSource, RowPipeline
from .send_loop import send_all
from .settings import Settings, at_endpoint
from .worker_process import may_fork, worker_process

# Bytes of a source from which on a worker process saves more time than it takes to start.
_WORTH_A_PROCESS: Final = 16 << 20

Status = Literal["finished", "stopped", "interrupted"]


def no_listener(event: Event) -> None:
    """The listener of a run to which nobody listens."""


def run_job(
    job: Job, source: Source, key: str, *, settings: Settings, listener: Listener = no_listener
) -> Summary:
    """Send the source as the job says, resuming an unfinished run; the summary is the whole job's.

    Raises EtlError if the run can't begin or can't go on. In each case the listener gets `Ended`, with the
    summary so far and the reason.
    """
    with Ending(job.name, listener) as ending:
        return ended(_run_job(job, source, key, settings, ending))


def _run_job(job: Job, source: Source, key: str, settings: Settings, listener: Listener) -> Summary:
    job = at_endpoint(job, settings)
    folder = StateDir(settings.state_dir or job.state_dir)
    limits = settings.limits(job.destination.transport)
    rows = JobSource(job, with_kept(source, folder))
    transport = TRANSPORTS[job.destination.transport](
        job.destination.endpoint,
        key,
        connections=settings.concurrency,
        allow_http=settings.allow_http,
        trust_status=job.destination.trust_status,
    )
    folder.prepare()
    with folder.hold() as lock, open_run(job, rows.source, limits, folder, settings) as run:
        pipeline = RowPipeline(job, rows, run.diff_base, run.run_id, limits=limits)
        with find_removed_users(pipeline, run.folder, record=True) as removed:
            return _Run(pipeline, transport, run, removed, settings, listener).run(lock)


class _Run:
    """One process' part of a job, with its checkpoint open."""

    def __init__(
        self,
        pipeline: RowPipeline,
        transport: HttpTransport,
        run: OpenRun,
        removed: RemovedUsers | None,
        settings: Settings,
        listener: Listener,
    ) -> None:
        self._pipeline = pipeline
        self._source = pipeline.source
        self._transport = transport
        self._run = run
        self._checkpoint = run.checkpoint
        self._removed = removed
        self._settings = settings
        self._listener = listener
        self._ranges = RangeSet(run.checkpoint.committed(), run.checkpoint.held())
        self._resumed_rows = self._ranges.rows()
        self._resumed = run.checkpoint.progress().tally
        self._final: FinalChanges | None = None
        self._notes = StreamNotes(pipeline, run.folder)
        self._timing: Timing | None = None

    def run(self, lock: int) -> Summary:
        """Check how much has changed or left, send what is left, and finish; `lock` is its descriptor."""
        if self._removed is not None:
            self._removed.check(self._pipeline.diff_base.most_absent(self._settings.max_absent))
        begun = next(self._ranges.committed(), None) is not None
        self._final = check_changes(
            self._pipeline, self._run.folder, self._checkpoint, self._settings, begun=begun
        )
        if not begun:
            self._ranges = RangeSet(self._checkpoint.committed())
        digests = self._checkpoint.digests()
        # The stream first: the terminal's thread would forbid a second process.
        with (
            self._open_stream(lock) as stream,
            digests_meanwhile(self._source, digests, self._checkpoint.keep_digests),
            self._notes,
        ):
            self._report_start()
            status: Status = "stopped"
            try:
                sent = run_async(lambda: self._send(stream))
                if sent:
                    self._finish()
                status = "finished" if sent else "interrupted"
            except (KeyboardInterrupt, asyncio.CancelledError):
                status = "interrupted"
            finally:
                with held():
                    summary = self._report_end(status)
        if summary.status == "interrupted":
            raise InterruptedRunError(
                "interrupted; the checkpoint is kept", hint="run the same command again to resume"
            )
        return summary

    def _open_stream(self, lock: int) -> AbstractContextManager[ChunkStream]:
        """The chunks of what is left; from a worker process if that is asked for, or pays."""
        pays = self._settings.rate is None and (self._source.total_bytes() or 0) >= _WORTH_A_PROCESS
        wanted = pays if self._settings.processes is None else self._settings.processes == 2
        if wanted and self._source.repeatable and may_fork():
            self._source.fetch()
            return worker_process(self._chunks, closing=lock)
        return nullcontext(partial(prefetch_chunks, self._chunks()))

    def _chunks(self) -> Iterator[list[Chunk]]:
        files = len(self._source.files)
        left = [row_range for file in range(files) for row_range in self._ranges.gaps(file)]
        held, sent = self._ranges.held, self._checkpoint.sent
        yield from self._pipeline.chunks(left, final=self._final, sent=sent, held=held, watch=self._notes.add)
        if self._removed is not None:
            yield from self._removed.chunks(self._ranges.gaps(files), held)

    async def _send(self, stream: ChunkStream) -> bool:
        run = self._run
        async with self._transport as transport:
            return await send_all(
                stream,
                transport,
                run.checkpoint,
                self._settings,
                self._listener,
                run.in_flight,
                resent=run.resent,
                on_timing=self._keep_timing,
            )

    def _keep_timing(self, timing: Timing) -> None:
        self._timing = timing

    def _finish(self) -> None:
        """Publish rejects, write the snapshot, finish the checkpoint; raises if the source has changed."""
        source, checkpoint, folder = self._source, self._checkpoint, self._run.folder
        changed = source.changed(checkpoint.digests())
        if changed is not None:
            raise SourceError(
                f"the source changed while it was read: {changed}",
                hint="run again once it is whole; what changed is sent then",
            )
        last = self._run.last_rows
        empty = not source.repeatable and not checkpoint.progress().tally.rows
        if empty and requires_rows(self._settings, last):
            raise no_rows_error(last)
        self._notes.keep(checkpoint)
        # In this order: what is published twice is the same, what is forgotten is lost.
        checkpoint.complete()
        self._publish()
        self._write_snapshot()
        checkpoint.finish()
        self._run.in_flight.finished()
        drop_kept(folder)
        remove_oldest(folder)

    def _write_snapshot(self) -> None:
        diff_base, checkpoint, folder = self._run.diff_base, self._checkpoint, self._run.folder
        # It may be written already, if the run was killed just after that.
        if diff_base.layout is None or diff_base.run_id == self._pipeline.run_id:
            return
        data, old, removed = checkpoint.unchanged(), diff_base.snapshot, len(self._source.files)
        unchanged = None if data is None or old is None else BitSet.read(len(old), data)
        header = diff_base.header(self._pipeline.job, self._pipeline.run_id)
        diff_base.renew(folder.snapshot, header, checkpoint.sent, removed, unchanged)
        if self._removed is not None and self._removed.count:
            sent = checkpoint.sent((removed, 0))
            forget_ids(folder, header, (some.keys[:, 0] for some in sent if some.end == "accepted"))

    def _publish(self) -> None:
        number = self._checkpoint.progress().number
        publish_rejects(self._run.folder.rejects, self._checkpoint.rejects(), run=number)

    def _report_start(self) -> None:
        source, job = self._source, self._pipeline.job
        rows, size = source.total_rows(), source.total_bytes()
        files, endpoint = len(source.files), job.destination.endpoint
        self._listener(Started(job.name, endpoint, files, rows, size, self._resumed))
        removed = self._removed.warnings() if self._removed else ()
        found = (*job_warnings(job), *source_warnings(job, source), *self._run.diff_base.warnings)
        for note in (*found, *self._run.notes, *removed):
            self._listener(note)

    def _report_end(self, status: Status) -> Summary:
        with suppress(EtlError):  # what is on the disk counts, also if a signal came just after that
            status = "finished" if self._checkpoint.progress().finished else status
        # An unfinished run whose source is its own rejects file still needs that file as it is.
        if status != "finished" and not reads_rejects(self._source, self._run.folder):
            with suppress(StateError):  # they are in the checkpoint, and published once there is room
                self._publish()
        progress = self._checkpoint.progress()
        timing = None if self._timing is None else self._pipeline.rows.times.add_to(self._timing)
        summary = Summary(
            self._pipeline.job.name,
            progress.tally,
            progress.seconds,
            self._resumed_rows,
            status,
            self._checkpoint.rejects_by_code(),
            skipped_values=self._checkpoint.skipped_values(),
            timing=timing,
        )
        if summary.tally.uncounted:
            self._listener(Warned("uncounted", uncounted_events(summary.tally)))
        self._listener(Ended(summary))
        return summary


def run_async(make: Callable[[], Coroutine[None, None, bool]]) -> bool:
    """Run a coroutine to its end, also if a loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(make())
    loops: list[asyncio.AbstractEventLoop] = []

    async def noted() -> bool:
        loops.append(asyncio.get_running_loop())
        return await make()

    def cancel_all(loop: asyncio.AbstractEventLoop) -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel()

    with ThreadPoolExecutor(1, "propsync") as thread:
        running = thread.submit(lambda: asyncio.run(noted()))
        try:
            # In short waits: a signal that another thread was given is only seen between them.
            while wait([running], timeout=0.2).not_done:
                pass
            return running.result()
        except KeyboardInterrupt:
            # The rows under way belong to the checkpoint that the caller is about to close.
            for loop in loops:
                loop.call_soon_threadsafe(cancel_all, loop)
            wait([running])
            raise
