"""`run`: the job, from its checkpoint to its summary."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from etl.checkpoint import Checkpoint, StateFolder, publish_rejects
from etl.ending import Ending, ended
from etl.errors import EtlError, InterruptedRunError, SourceError, StateError
from etl.interrupts import held
from etl.job import Job
from etl.model import Ended, Event, Listener, Started, Summary, Warned
from etl.pipeline.ahead import Arriving, made_ahead
from etl.pipeline.apart import Made, made_apart, may_fork
from etl.pipeline.destinations import forget_oldest
from etl.pipeline.digests import digests_meanwhile
from etl.pipeline.journey import travel
from etl.pipeline.leavers import Leavers, forget_ids
from etl.pipeline.looking import look_for_changes, look_for_leavers
from etl.pipeline.loops import run_async
from etl.pipeline.notices import source_warnings, uncounted_events, warnings_of
from etl.pipeline.own_rejects import drop_kept, reads_rejects, with_kept
from etl.pipeline.precheck import demands_rows, too_few
from etl.pipeline.production import Production
from etl.pipeline.resume import Begun, begun
from etl.pipeline.settings import Settings, at_endpoint
from etl.pipeline.streamed import StreamNotes
from etl.ranges import RangeSet
from etl.reader import Source
from etl.snapshot import Bits

if TYPE_CHECKING:
    from etl.sender.http import Http

# Bytes of a source from which on a second process saves more time than it takes.
_WORTH_A_PROCESS: Final = 16 << 20

Status = Literal["finished", "stopped", "interrupted"]


def ignore(event: Event) -> None:
    """The listener who doesn't listen."""


def run_job(
    job: Job, source: Source, key: str, *, settings: Settings, listener: Listener = ignore
) -> Summary:
    """Send the source as the job says, taking up an unfinished run; the summary is the whole job's.

    Raises EtlError where the run can't begin or can't go on. In each case the listener hears `Ended`, with
    the summary so far and the reason.
    """
    with Ending(job.name, listener) as ending:
        return ended(_run_job(job, source, key, settings=settings, listener=ending))


def _run_job(job: Job, source: Source, key: str, *, settings: Settings, listener: Listener) -> Summary:
    from etl.sender.transports import TRANSPORTS

    job = at_endpoint(job, settings)
    folder = StateFolder(settings.state_dir or job.state_dir)
    source = with_kept(source, folder)
    limits = settings.limits(job.destination.transport)
    production = Production.of(job, source, limits)
    transport = TRANSPORTS[job.destination.transport](
        job.destination.endpoint,
        key,
        connections=settings.concurrency,
        allow_http=settings.allow_http,
        trust_status=job.destination.trust_status,
    )
    folder.prepare()
    with folder.hold() as lock, begun(production, folder, settings) as run:
        return _Run(production.on(run.diff_base), transport, lock, run, settings, listener).to_its_end()


class _Run:
    """One process' part of a job, with its checkpoint open."""

    def __init__(
        self,
        production: Production,
        transport: Http,
        lock: int,
        run: Begun,
        settings: Settings,
        listener: Listener,
    ) -> None:
        checkpoint = run.checkpoint
        self._production = production.within(checkpoint.progress().run_id)
        self._transport = transport
        self._run = run
        self._folder = run.folder
        self._lock = lock
        self._checkpoint = checkpoint
        self._settings = settings
        self._listener = listener
        self._ranges = RangeSet(checkpoint.committed(), checkpoint.held())
        self._resumed_rows = self._ranges.rows()
        self._resumed = checkpoint.progress().tally
        self._leavers: Leavers | None = None
        self._notes = StreamNotes(self._production, run.folder)

    def to_its_end(self) -> Summary:
        with look_for_leavers(self._production, self._folder, record=True) as leavers:
            self._leavers = leavers
            self._look_first()
            # Before anyone listens: the terminal's thread would forbid a second process.
            with self._arriving() as arriving, self._digests(), self._notes:
                return self._told(arriving)

    def _look_first(self) -> None:
        """Before a run sends anything: whether too much has changed, or too many have left."""
        if self._leavers is not None:
            self._leavers.check(self._production.diff_base.most_absent(self._settings.max_absent))
        begun = next(self._ranges.committed(), None) is not None
        self._production = look_for_changes(
            self._production, self._folder, self._checkpoint, self._settings, begun=begun
        )
        if not begun:
            self._ranges = RangeSet(self._checkpoint.committed())

    def _told(self, arriving: Arriving) -> Summary:
        self._tell_start()
        status: Status = "stopped"
        try:
            status = "finished" if self._travel(arriving) else "interrupted"
        except (KeyboardInterrupt, asyncio.CancelledError):
            status = "interrupted"
        finally:
            with held():
                summary = self._tell_end("finished" if self._has_finished() else status)
        if summary.status == "interrupted":
            raise InterruptedRunError(
                "interrupted; the checkpoint is kept", hint="run the same command again to resume"
            )
        return summary

    def _has_finished(self) -> bool:
        """What is on the disk counts, also where a signal came just after it got there."""
        with suppress(EtlError):
            return self._checkpoint.progress().finished
        return False

    def _travel(self, arriving: Arriving) -> bool:
        """Send what is left; True once every row has its end and the source is still what it was."""
        if not run_async(lambda: self._send(arriving)):
            return False
        source = self._production.source
        changed = source.changed(self._checkpoint.digests())
        if changed is not None:
            raise SourceError(
                f"the source changed while it was read: {changed}",
                hint="run again once it is whole; what changed is sent then",
            )
        if not source.repeatable:
            self._check_stream()
        self._notes.keep(self._checkpoint)
        # In this order: what is published twice is the same, what is forgotten is lost.
        self._checkpoint.complete()
        self._publish()
        self._renew()
        self._checkpoint.finish()
        self._run.in_flight.finished()
        drop_kept(self._folder)
        forget_oldest(self._folder)
        return True

    def _check_stream(self) -> None:
        """Of a stream nobody knows before its end that it has no rows."""
        last = self._run.last_rows
        if self._checkpoint.progress().tally.rows == 0 and demands_rows(self._settings, last):
            raise too_few(last)

    def _renew(self) -> None:
        diff_base, run_id = self._production.diff_base, self._checkpoint.progress().run_id
        # It may be written already, where the run was killed just after that.
        if diff_base.layout is not None and diff_base.run_id != run_id:
            left = len(self._production.source.files)
            path, job = self._folder.snapshot, self._production.job
            diff_base.renew(path, job, run_id, self._checkpoint.sent, left, self._unchanged())
            if self._leavers is not None and self._leavers.count:
                keys = (e.keys[:, 0] for e in self._checkpoint.sent((left, 0)) if e.end == "accepted")
                forget_ids(self._production, self._folder, keys)

    def _unchanged(self) -> Bits | None:
        """Whom the run found as they were; None where everybody was sent something."""
        diff_base, data = self._production.diff_base, self._checkpoint.unchanged()
        return (
            None if data is None or diff_base.snapshot is None else Bits.read(len(diff_base.snapshot), data)
        )

    def _digests(self) -> AbstractContextManager[None]:
        checkpoint = self._checkpoint
        return digests_meanwhile(self._production.source, checkpoint.digests(), checkpoint.keep_digests)

    def _arriving(self) -> AbstractContextManager[Arriving]:
        """The chunks of what is left; where it is asked for or pays, from a process of their own."""
        source = self._production.source
        pays = self._settings.rate is None and (source.total_bytes() or 0) >= _WORTH_A_PROCESS
        wanted = pays if self._settings.processes is None else self._settings.processes == 2
        if wanted and source.repeatable and may_fork():
            source.fetch()
            return made_apart(self._chunks, concurrency=self._settings.concurrency, closing=self._lock)
        return nullcontext(partial(made_ahead, self._chunks()))

    def _chunks(self) -> Made:
        files = range(len(self._production.source.files))
        gaps = [gap for file in files for gap in self._ranges.gaps(file)]
        yield from self._production.chunks(gaps, self._checkpoint.sent, self._ranges.held, self._notes.take)
        if self._leavers is not None:
            yield from self._leavers.chunks(self._ranges.gaps(len(files)), self._ranges.held)

    async def _send(self, arriving: Arriving) -> bool:
        async with self._transport as transport:
            return await travel(
                arriving,
                transport,
                self._checkpoint,
                self._settings,
                self._listener,
                self._run.in_flight,
                resent=self._run.resent,
            )

    def _tell_start(self) -> None:
        source, job = self._production.source, self._production.job
        self._listener(
            Started(
                job.name,
                job.destination.endpoint,
                len(source.files),
                source.total_rows(),
                source.total_bytes(),
                self._resumed,
            )
        )
        left = self._leavers.warnings() if self._leavers else ()
        found = (*warnings_of(job), *source_warnings(job, source))
        for note in (*found, *self._production.diff_base.warnings, *self._run.notes, *left):
            self._listener(note)

    def _tell_end(self, status: Status) -> Summary:
        # An unfinished run whose source is its own rejects file still needs that file as it is.
        if status != "finished" and not self._reads_rejects():
            with suppress(StateError):  # they are in the checkpoint, and published once there is room
                self._publish()
        summary = summary_of(self._production.job, self._checkpoint, self._resumed_rows, status)
        if summary.tally.uncounted:
            self._listener(Warned("uncounted", uncounted_events(summary.tally)))
        self._listener(Ended(summary))
        return summary

    def _publish(self) -> None:
        number = self._checkpoint.progress().number
        publish_rejects(self._folder.rejects, self._checkpoint.rejects(), run=number)

    def _reads_rejects(self) -> bool:
        return reads_rejects(self._production.source, self._folder)


def summary_of(job: Job, checkpoint: Checkpoint, resumed_rows: int, status: Status) -> Summary:
    """The whole job's summary, as its checkpoint tells it."""
    progress = checkpoint.progress()
    return Summary(
        job.name,
        progress.tally,
        progress.seconds,
        resumed_rows,
        status,
        checkpoint.rejects_by_code(),
        skipped_values=checkpoint.skipped_values(),
    )
