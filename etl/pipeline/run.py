"""`run`: send the source of a job, from opening its checkpoint to the summary."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from ..checkpoint import publish_rejects
from ..errors import EtlError, InterruptedRunError, SourceError, StateError, UsageError
from ..job.known_job import remember_job
from ..job.spec import Job
from ..model import Chunk
from ..process import holding_signals
from ..reader import Source
from ..run_events import (
    Detailed,
    Ended,
    Ending,
    Event,
    Listener,
    Noted,
    Progressed,
    Started,
    Status,
    Summary,
    Timing,
    Warned,
    ended,
)
from ..sender.transports import HttpTransport
from ..snapshot import FinalChanges
from ..tally import RangeSet, Tally
from ..text import counted
from .diff_base import write_snapshot
from .figures import options_of
from .guards import check_rows, input_warnings
from .job_source import JobSource
from .precheck import ChangedRows, precheck
from .prefetch import ChunkStream, prefetch_chunks
from .resume import OpenRun, RunOpening
from .row_pipeline import RowPipeline
from .run_inputs import (
    RunInputs,
    background_digests,
    drop_kept_rejects,
    own_rejects,
    stays_beside,
    with_kept_rejects,
)
from .saved_plan import SavedPlan
from .send_loop import send_all
from .settings import Settings, make_transport
from .status import remove_oldest_snapshots
from .user_changes import RemovedUsers, StreamNotes, find_removed_users, open_notes
from .worker_process import may_fork, worker_process

# Bytes to be read from which on a worker process saves more time than it takes to start.
_WORTH_A_PROCESS: Final = 16 << 20
_EXAMPLES: Final = 3  # of rejects with the same code

_Result = TypeVar("_Result")


def no_listener(event: Event) -> None:
    """Ignore an event."""


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
    inputs = RunInputs.of(job, source, settings)
    folder = inputs.folder
    if settings.limit is not None and not source.repeatable:
        raise UsageError(
            "a stream is gone once it was read, so --limit would lose its other rows",
            hint="save it to a file and name that, or cut the stream itself, as with head -n",
        )
    inputs = replace(inputs, source=with_kept_rejects(source, folder))
    plan = None if settings.plan is None else SavedPlan.load(Path(settings.plan))
    if plan is not None:
        if settings.restart:
            raise UsageError(
                "--restart begins a new run, and --plan sends what was planned: give only one of them"
            )
        plan.check_inputs(inputs)
    rows, transport = JobSource(inputs.job, inputs.source), make_transport(inputs.job, key, settings)
    folder.prepare()
    with folder.hold() as lock, RunOpening(replace(inputs, source=rows.source), plan).open() as run:
        remember_job(folder.path, job, rows.source.total_rows())
        notes = (*run.diff_base.warnings, *inputs.notes)
        if plan is not None:
            plan.begin(folder)
            notes += (Noted("plan", f"the plan {plan.path} holds: {counted(plan.updates, 'update')}"),)
        run = replace(run, notes=(*notes, *run.notes))
        run_id = run.checkpoint.progress().run_id
        pipeline = RowPipeline(inputs.job, rows, run.diff_base, run_id, limits=inputs.limits)
        with (
            find_removed_users(pipeline, run.folder, record=True) as removed,
            open_notes(pipeline, run.folder) as stream_notes,
            ChangedRows(run.folder.snapshot) as kept,
        ):
            return _Run(pipeline, transport, run, removed, stream_notes, kept, settings, listener).run(lock)


@dataclass
class _Run:
    """One process' part of a job, with its checkpoint open."""

    pipeline: RowPipeline
    transport: HttpTransport
    opened: OpenRun
    removed: RemovedUsers
    stream_notes: StreamNotes
    changed: ChangedRows
    settings: Settings
    listener: Listener
    final: FinalChanges | None = None
    end: tuple[int, int] | None = None  # the place (file, row) from which on nothing is sent
    timings: list[Timing] = field(default_factory=list)  # none before anything is sent
    changes: Mapping[str, tuple[int, ...]] | None = None  # by property; known once the snapshot is written

    def __post_init__(self) -> None:
        self.source, self.checkpoint = self.pipeline.source, self.opened.checkpoint
        self.folder, self.ranges = self.opened.folder, self.find_ranges()
        self.resumed_rows, self.resumed = self.ranges.rows(), self.checkpoint.progress().tally

    def find_ranges(self) -> RangeSet:
        """Which rows are committed, and where chunks end."""
        return RangeSet(self.checkpoint.committed(), self.checkpoint.held(), self.checkpoint.limits())

    def run(self, lock: int) -> Summary:
        """Check how much has changed or left, send what is left, and finish; `lock` is its descriptor."""
        checkpoint, settings = self.checkpoint, self.settings
        if settings.limit is not None:
            self.end = self.source.end_of(settings.limit)
        if self.end is not None and self.opened.resent and self.end not in checkpoint.limits():
            raise UsageError(
                "a process of this run was killed while requests were in flight; another --limit would send "
                "their rows again in other pieces, so nothing was sent",
                hint="run it with the limit that it had, or without one",
            )
        self.removed.check(self.pipeline.diff_base.most_absent(settings.max_absent))
        self.final = self._check_changes(begun=next(self.ranges.committed(), None) is not None)
        if self.end is not None:  # before anything is sent: later processes end chunks there, too
            checkpoint.keep_limit(*self.end)
        self.ranges, digests = self.find_ranges(), checkpoint.digests()
        # The stream first: the terminal's thread would forbid a second process.
        with (
            self._open_stream(lock) as stream,
            background_digests(self.source, digests, checkpoint.keep_digests),
        ):
            self._report_start()
            status: Status = "stopped"
            try:
                if not run_async(lambda: self._send(stream)):
                    status = "interrupted"
                else:
                    changed = self.source.changed(checkpoint.digests())
                    if changed is not None:
                        raise SourceError(
                            f"the source changed while it was read: {changed}",
                            hint="run again once it is whole; what changed is sent then",
                        )
                    if self.end is None:
                        self._finish()
                    status = "finished" if self.end is None else "limited"
            except (KeyboardInterrupt, asyncio.CancelledError):
                status = "interrupted"
            finally:
                with holding_signals():
                    summary = self._report_end(status)
        if summary.status == "interrupted":
            raise InterruptedRunError(
                "interrupted; the checkpoint is kept", hint="run the same command again to resume"
            )
        return summary

    def _check_changes(self, *, begun: bool) -> FinalChanges | None:
        """Find what differs after all rows, if the source can be read twice; commit ranges without changes.

        A run that was `begun` by another process reads all of the source again, so that it decides as before.
        Raises TooManyChangesError if too many users changed, unless the run was begun.
        """
        pipeline, checkpoint, settings = self.pipeline, self.checkpoint, self.settings
        began = settings.clock.now()
        if pipeline.diff_base.run_id == checkpoint.progress().run_id:
            return None  # everything is sent, and the snapshot written
        found = precheck(pipeline, self.folder.snapshot, self.changed)
        if found is None:
            return None
        if not begun:
            found.check(pipeline.diff_base.most_changes(pipeline.job, settings.max_changes), pipeline)
        early = [] if begun or settings.limit is not None else found.committed()
        checkpoint.commit(early, Tally(), settings.clock.now() - began)
        checkpoint.keep_unchanged(bytes(found.final.unchanged))
        return found.final

    def _open_stream(self, lock: int) -> AbstractContextManager[ChunkStream]:
        """Open the chunks that are left; from a worker process if the settings ask for it, or it pays."""
        size = self.changed.size if self.changed.complete else self.source.total_bytes() or 0
        pays = self.settings.rate is None and size >= _WORTH_A_PROCESS
        wanted = pays if self.settings.processes is None else self.settings.processes == 2
        if wanted and self.source.repeatable:
            self.source.fetch()
            if may_fork():
                return worker_process(self._chunks, lock=lock)
        return nullcontext(partial(prefetch_chunks, self._chunks()))

    def _chunks(self) -> Iterator[list[Chunk]]:
        files, held, sent = len(self.source.files), self.ranges.held, self.checkpoint.sent
        left = [row_range for file in range(files) for row_range in self.ranges.gaps(file)]
        if self.end is not None:
            left = [row_range for row_range in left if (row_range.file, row_range.first) < self.end]
        yield from self.pipeline.chunks(
            left, final=self.final, changed=self.changed, sent=sent, held=held, watch=self.stream_notes.add
        )
        if self.end is None:
            yield from self.removed.chunks(self.ranges.gaps(files), held)

    async def _send(self, stream: ChunkStream) -> bool:
        def listen(event: Event) -> None:
            if isinstance(event, Progressed):
                event = replace(event, expected_rows=self.pipeline.rows.expected_rows)
            self.listener(event)

        async with self.transport as transport:
            return await send_all(
                stream, transport, self.opened, self.settings, listen, on_timing=self.timings.append
            )

    def _finish(self) -> None:
        """Publish rejects, write the snapshot, finish the checkpoint."""
        checkpoint, rows = self.checkpoint, self.checkpoint.progress().tally.rows
        if not self.source.repeatable:
            check_rows(self.source, self.settings.min_rows, self.opened.last_rows, rows)
        self.stream_notes.keep(checkpoint)
        # In this order: what is published twice is the same, what is forgotten is lost.
        checkpoint.complete()
        self._publish()
        self.changes = write_snapshot(self.folder, checkpoint)
        checkpoint.finish()
        self.opened.in_flight.finished()
        drop_kept_rejects(self.folder)
        remove_oldest_snapshots(self.folder)

    def _publish(self) -> None:
        number, stays = self.checkpoint.progress().number, stays_beside(self.source, self.folder)
        publish_rejects(self.folder.rejects, self.checkpoint.rejects(), run=number, stays=stays)

    def _report_start(self) -> None:
        source, job = self.source, self.pipeline.job
        rows, size, endpoint = source.total_rows(), source.total_bytes(), job.destination.endpoint
        self.listener(Started(job.name, endpoint, len(source.files), rows, size, self.resumed))
        for note in (*input_warnings(job, source), *self.opened.notes, *self.removed.warnings()):
            self.listener(note)

    def _report_end(self, status: Status) -> Summary:
        checkpoint = self.checkpoint
        with suppress(EtlError):  # what is on the disk counts, also if a signal came just after that
            status = "finished" if checkpoint.progress().finished else status
        # An unfinished run whose source is its own rejects file still needs that file as it is.
        if status != "finished" and not own_rejects(self.source, self.folder):
            with suppress(StateError):  # they are in the checkpoint, and published once there is room
                self._publish()
        progress = checkpoint.progress()
        summary = Summary(
            self.pipeline.job.name,
            progress.tally,
            progress.seconds,
            self.resumed_rows,
            status,
            checkpoint.rejects_by_code(),
            skipped_values=checkpoint.skipped_values(),
            timing=self.pipeline.rows.times.add_to(self.timings[0]) if self.timings else None,
            accepts_rejects=self.settings.accept_rejects,
        )
        if summary.tally.uncounted:
            text = (
                f"the server said it took {summary.tally.uncounted:,} events that it did not count; events "
                "that it had from an earlier try may be among them"
            )
            self.listener(Warned("uncounted", text))
        digests, specs = checkpoint.digests(), self.pipeline.job.identification.located()
        details = Detailed(
            tuple(
                (file.name, file.size, f"crc32 {digests[n]}" if n in digests else f"sample {file.sample}")
                for n, file in enumerate(self.source.files)
            ),
            tuple((".".join(map(str, path)), spec.column, options_of(spec)) for path, spec in specs),
            self.changes,
            tuple(checkpoint.reject_examples(_EXAMPLES)),
            str(self.folder.rejects),
        )
        self.listener(details)
        self.listener(Ended(summary))
        return summary


def run_async(make: Callable[[], Coroutine[None, None, _Result]]) -> _Result:
    """Run a coroutine to its end, also if a loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(make())
    tasks: list[asyncio.Task[_Result]] = []

    async def noted() -> _Result:
        tasks.append(asyncio.create_task(make()))
        return await tasks[0]

    with ThreadPoolExecutor(1, "propsync") as thread:
        running = thread.submit(lambda: asyncio.run(noted()))
        try:
            # In short waits: a signal that another thread was given is only seen between them.
            while wait([running], timeout=0.2).not_done:
                pass
            return running.result()
        except KeyboardInterrupt:
            # The rows under way belong to the checkpoint that the caller is about to close.
            for task in tasks:
                task.get_loop().call_soon_threadsafe(task.cancel)
            wait([running])
            raise
