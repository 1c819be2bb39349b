"""`run`: the job, from its checkpoint to its summary."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from etl import amplitude
from etl.checkpoint import Checkpoint, StateFolder, publish_rejects
from etl.errors import InterruptedRunError, SourceError, StateError, UsageError
from etl.job import Job, endpoint
from etl.ledger import Ledger
from etl.model import Ended, Event, Listener, Started, Summary, Warned
from etl.pipeline.apart import Made, made_apart, may_fork
from etl.pipeline.journey import travel
from etl.pipeline.production import Production
from etl.pipeline.resume import identity, taken_up
from etl.pipeline.settings import Settings
from etl.reader import Source
from etl.sender import Identify

# Bytes of a source from which on a second process saves more time than it takes.
_WORTH_A_PROCESS: Final = 16 << 20

Status = Literal["finished", "stopped", "interrupted"]


def ignore(event: Event) -> None:
    """The listener who doesn't listen."""


def run_job(
    job: Job, source: Source, key: str, *, settings: Settings, listener: Listener = ignore
) -> Summary:
    """Send the source as the job says, taking up an unfinished run; the summary is the whole job's.

    Raises EtlError where the run can't begin or can't go on. In the latter case the listener has heard
    `Ended` with the summary so far.
    """
    job = at_endpoint(job, settings)
    production = Production.of(job, source, settings.limits)
    transport = Identify(
        job.destination.endpoint, key, connections=settings.concurrency, allow_http=settings.allow_http
    )
    folder = StateFolder(settings.state_dir or job.state_dir)
    folder.prepare()
    expected = identity(job, source, settings.limits)
    with folder.hold() as lock, taken_up(folder, expected, restart=settings.restart) as checkpoint:
        return _Run(production, transport, folder, lock, checkpoint, settings, listener).to_its_end()


class _Run:
    """One process' part of a job, with its checkpoint open."""

    def __init__(
        self,
        production: Production,
        transport: Identify,
        folder: StateFolder,
        lock: int,
        checkpoint: Checkpoint,
        settings: Settings,
        listener: Listener,
    ) -> None:
        self._production = production
        self._transport = transport
        self._folder = folder
        self._lock = lock
        self._checkpoint = checkpoint
        self._settings = settings
        self._listener = listener
        self._ledger = Ledger(checkpoint.settled())
        self._resumed_rows = self._ledger.rows()

    def to_its_end(self) -> Summary:
        # Before anyone listens: the terminal's thread would forbid a second process.
        with self._made() as made:
            return self._told(made)

    def _told(self, made: Made) -> Summary:
        self._tell_start()
        status: Status = "stopped"
        try:
            status = "finished" if self._travel(made) else "interrupted"
        except (KeyboardInterrupt, asyncio.CancelledError):
            status = "interrupted"
        finally:
            summary = self._tell_end(status)
        if status == "interrupted":
            raise InterruptedRunError("interrupted; the checkpoint is kept")
        return summary

    def _travel(self, made: Made) -> bool:
        """Send what is left; True once every row has its end and the source is still what it was."""
        if not run_async(lambda: self._send(made)):
            return False
        changed = self._production.source.changed()
        if changed is not None:
            raise SourceError(
                f"the source changed while it was read: {changed}",
                hint="run with --restart once it is whole",
            )
        # In this order: what is published twice is the same, what is forgotten is lost.
        self._publish()
        self._checkpoint.finish()
        return True

    def _made(self) -> AbstractContextManager[Made]:
        """The chunks of what is left; where it is asked for or pays, from a process of their own."""
        source = self._production.source
        gaps = [gap for file in range(len(source.files)) for gap in self._ledger.gaps(file)]
        pays = self._settings.rate is None and (source.total_bytes() or 0) >= _WORTH_A_PROCESS
        wanted = pays if self._settings.processes is None else self._settings.processes == 2
        if wanted and source.repeatable and may_fork():
            return made_apart(lambda: self._production.chunks(gaps), closing=self._lock)
        return nullcontext(self._production.chunks(gaps))

    async def _send(self, made: Made) -> bool:
        async with self._transport as transport:
            return await travel(made, transport, self._checkpoint, self._settings, self._listener)

    def _tell_start(self) -> None:
        source, job = self._production.source, self._production.job
        self._listener(
            Started(
                job.name,
                job.destination.endpoint,
                len(source.files),
                source.total_rows(),
                source.total_bytes(),
                self._checkpoint.progress().tally,
            )
        )
        for warning in warnings_of(job):
            self._listener(warning)

    def _tell_end(self, status: Status) -> Summary:
        # An unfinished run whose source is its own rejects file still needs that file as it is.
        if status != "finished" and not self._reads(self._folder.rejects):
            with suppress(StateError):  # they are in the checkpoint, and published once there is room
                self._publish()
        summary = summary_of(self._production.job, self._checkpoint, self._resumed_rows, status)
        self._listener(Ended(summary))
        return summary

    def _publish(self) -> None:
        number = self._checkpoint.progress().number
        publish_rejects(self._folder.rejects, self._checkpoint.rejects(), run=number)

    def _reads(self, path: Path) -> bool:
        with suppress(OSError):
            folder = self._production.job.folder
            return any(
                (folder / file.name).resolve() == path.resolve() for file in self._production.source.files
            )
        return False


def summary_of(job: Job, checkpoint: Checkpoint, resumed_rows: int, status: Status) -> Summary:
    """The whole job's summary, as its checkpoint tells it."""
    progress = checkpoint.progress()
    return Summary(
        job.name, progress.tally, progress.seconds, resumed_rows, status, checkpoint.rejects_by_code()
    )


def at_endpoint(job: Job, settings: Settings) -> Job:
    """The job with the settings' endpoint in place of its own, if they name one."""
    if settings.endpoint is None:
        return job
    try:
        checked = endpoint(settings.endpoint)
    except ValueError as error:
        raise UsageError(str(error), hint="give us, eu, or a base URL like https://host") from error
    return replace(job, destination=replace(job.destination, endpoint=checked))


def warnings_of(job: Job) -> list[Warned]:
    """What a user should know of a job before it is run."""
    found = []
    identification = job.identification
    unrepeatable = sorted(amplitude.UNREPEATABLE & set(identification.operators))
    if unrepeatable:
        names = ", ".join(unrepeatable)
        found.append(
            Warned("unrepeatable", f"{names}: what is sent again after a lost answer may count twice")
        )
    if set(amplitude.ID_FIELDS) <= set(identification.fields):
        found.append(Warned("linked", "user_id and device_id are both mapped: Amplitude links them for good"))
    return found


def run_async(make: Callable[[], Coroutine[None, None, bool]]) -> bool:
    """Run a coroutine to its end, also where a loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(make())
    loops: list[asyncio.AbstractEventLoop] = []

    async def noted() -> bool:
        loops.append(asyncio.get_running_loop())
        return await make()

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
                _cancel_all(loop)
            wait([running])
            raise


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    def cancel() -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel()

    loop.call_soon_threadsafe(cancel)
