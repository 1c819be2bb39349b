"""How a run begins: whether an unfinished one is resumed, the checks before a new one, and their files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..checkpoint import (
    Checkpoint,
    Flight,
    InFlightContents,
    InFlightFile,
    PastRun,
    Progress,
    RunMark,
    StateDir,
    publish_rejects,
    read_in_flight,
)
from ..encoder import Limits
from ..errors import StaleCheckpointError
from ..job import Job
from ..reader import Source
from ..run_events import Noted, Warned
from .diff_base import DiffBase, destination_folder, open_diff_base
from .digests import first_digests, same_content
from .invalidate import (
    JobFacts,
    base_id,
    invalidate_lost,
    keep_accepted,
    remove_snapshot,
    restarted_id,
    uncommitted_flights,
    write_snapshot,
)
from .own_rejects import keep_rejects, reads_rejects
from .precheck import check_repeat, check_rows, increments_of, last_rows
from .removed_users import forget_ids
from .settings import Settings
from .unfinished import (
    Decision,
    Difference,
    Unfinished,
    decide,
    difference,
    files_of,
    identity,
    lost_hint,
    restart_message,
    source_mark,
    stop_hint,
)


@dataclass(frozen=True, slots=True)
class OpenRun:
    """The files of a run, open. `folder` is that of its destination; `notes` are reported at its start.

    `last_rows` is how many rows the last finished run had; None if there is nothing to compare with.
    `resent` is how many chunks an earlier process may have sent that aren't committed.
    """

    checkpoint: Checkpoint
    in_flight: InFlightFile
    diff_base: DiffBase
    folder: StateDir
    resent: float = 0
    last_rows: int | None = None
    notes: tuple[Warned | Noted, ...] = ()

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.checkpoint.progress().run_id


@dataclass(frozen=True, slots=True)
class _NewRun:
    """What a new run begins with. `same`: the mark of a lost run that it repeats."""

    number: int
    past: tuple[PastRun, ...]
    last_rows: int | None
    notes: tuple[Warned | Noted, ...]
    same: RunMark | None = None


@contextmanager
def open_run(
    job: Job, source: Source, limits: Limits, folder: StateDir, settings: Settings
) -> Iterator[OpenRun]:
    """Resume the unfinished run of a folder, or begin a new one.

    Raises StaleCheckpointError where a person has to decide, TooFewRowsError or RepeatedSourceError where
    there is nothing to be sent; then nothing was changed.
    """
    opening = _Opening(job, source, limits, folder, settings)
    with opening.load() or nullcontext() as found:
        unfinished, flights = opening.examine(found)
        decision = opening.decide(found, unfinished)
        if found is not None and decision == "resume":
            with opening.resumed(found, flights) as run:
                yield run
            return
        new = opening.prepared(found, unfinished, decision, flights)
    with opening.begun(new) as run:
        yield run


def load_checkpoint(folder: StateDir, left: InFlightContents | None) -> Checkpoint | None:
    """The checkpoint of a folder; None if there is none and none is missing.

    Raises StaleCheckpointError for one that is damaged, or lacks what a process saw committed.
    """
    found = Checkpoint.load(folder.checkpoint)
    problem = None
    if found is None:
        if left is not None and not left.finished and (left.commits or left.flights or not left.known):
            problem = "is gone, and its run isn't finished"
    else:
        with ExitStack() as stack:
            stack.enter_context(found)
            progress = found.progress()
            mine = left if left is not None and left.mark.run_id == progress.run_id else None
            if mine and (mine.commits > progress.commits or (mine.finished and not progress.finished)):
                problem = "lacks what was committed last: the file beside it that ends in -wal is gone"
            if problem is None:
                stack.pop_all()
    if problem is not None:
        raise StaleCheckpointError(f"the checkpoint {folder.checkpoint} {problem}", damaged=True)
    return found


class _Opening:
    def __init__(
        self, job: Job, source: Source, limits: Limits, folder: StateDir, settings: Settings
    ) -> None:
        self._job = job
        self._source = source
        self._limits = limits
        self._folder = folder
        self._settings = settings
        self._expected = identity(job, source, limits, full=settings.full)
        self._increments = increments_of(job)
        self._left = read_in_flight(folder.in_flight)
        self._lost = False
        self._digests: Mapping[int, str] | None = None

    def load(self) -> Checkpoint | None:
        """The folder's checkpoint, whole; None if there is none, or if a lost one is given up."""
        try:
            return load_checkpoint(self._folder, self._left)
        except StaleCheckpointError as error:
            if self._settings.restart:
                self._lost = True
                return None
            if not error.damaged:
                raise
            hint = lost_hint(self._job, self._increments, self._left, same=self._same_run() is not None)
            raise StaleCheckpointError(error.message, hint=hint, damaged=True) from error

    def examine(self, found: Checkpoint | None) -> tuple[Unfinished | None, tuple[Flight, ...] | None]:
        """What is known of an unfinished run, and the users in flight (None: unknown)."""
        progress = None if found is None else found.progress()
        if found is None or progress is None or progress.finished:
            return None, ()
        facts, digests = JobFacts.read(progress.about), found.digests()
        flights = uncommitted_flights(self._left, progress, found)
        how = difference(
            progress.identity, self._expected, lambda file: same_content(self._source, digests, file)
        )
        made_by = base_id(self._folder, facts)
        if how is None and made_by not in {progress.base, progress.run_id}:
            path = destination_folder(self._folder, facts.endpoint).snapshot
            how = Difference("snapshot", f"that compares with another snapshot than {path}, as it is now")
        return Unfinished(
            difference=how,
            accepted=found.arrived(),
            in_flight=None if flights is None else sum(len(flight.keys) for flight in flights),
            counts=facts.counts or bool(self._increments),
            complete=progress.complete,
            folded=made_by == restarted_id(progress.run_id),
        ), flights

    def decide(self, found: Checkpoint | None, unfinished: Unfinished | None) -> Decision:
        """What becomes of it. Raises StaleCheckpointError where a person has to decide."""
        if found is None or unfinished is None:
            return "begin"
        settings = self._settings
        decision = decide(unfinished, restart=settings.restart, on_change=settings.on_source_change)
        if decision == "stop":
            how = unfinished.difference
            raise StaleCheckpointError(
                f"{self._folder.checkpoint} keeps an unfinished run {how.text if how else ''}".rstrip(),
                hint=stop_hint(
                    unfinished,
                    can_finish=self._can_finish(found.progress(), how),
                    increments=(self._increments or ["increments"]) if unfinished.counts else [],
                ),
            )
        return decision

    @contextmanager
    def resumed(self, found: Checkpoint, flights: tuple[Flight, ...] | None) -> Iterator[OpenRun]:
        """Continue the unfinished run."""
        progress = found.progress()
        with open_diff_base(self._job, self._folder, full=self._settings.full) as diff_base:
            mark = self._mark(progress.run_id, progress.number, progress.base, found.digests())
            if self._left is not None and self._left.mark.run_id == progress.run_id:
                mark = replace(self._left.mark, boot=mark.boot)
            mark = replace(mark, unknown=flights is None)
            with self._in_flight(mark, kept=flights or (), commits=progress.commits) as in_flight:
                resent = self._settings.concurrency if flights is None else len(flights)
                diff_base = replace(diff_base, number=progress.number)
                yield OpenRun(found, in_flight, diff_base, self._own_folder(), resent)

    def prepared(
        self,
        found: Checkpoint | None,
        unfinished: Unfinished | None,
        decision: Decision,
        flights: tuple[Flight, ...] | None,
    ) -> _NewRun:
        """Check the source, and then deal with the run before; see `open_run`."""
        job, source, settings = self._job, self._source, self._settings
        if found is not None and decision == "finish":
            self._finish(found)
        past = () if found is None else found.past()
        with open_diff_base(job, self._folder) as diff_base:
            number, users = diff_base.number, diff_base.users
        last = last_rows(source, job.destination.endpoint, past, users)
        check_rows(source, settings.min_rows, last)
        notes: list[Warned | Noted] = []
        notes += check_repeat(job, source, past, self._known_digests(), again=settings.again)
        same = self._same_run() if self._lost else None
        if self._lost and same is None:
            invalidate_lost(self._folder, self._left, job)
        if found is not None:
            number = max(number, found.progress().number + 1)
            if unfinished is not None and decision == "restart":
                keep_accepted(self._folder, found, flights)
                notes.append(Warned("restarted", restart_message(unfinished, self._increments)))
            elif unfinished is not None and decision == "begin":
                notes.append(Noted("dropped", "an unfinished run of which nothing was accepted is dropped"))
        return _NewRun(number, past, last, tuple(notes), same)

    @contextmanager
    def begun(self, new: _NewRun) -> Iterator[OpenRun]:
        """Begin a new run."""
        job, folder, same = self._job, self._folder, new.same
        keep_rejects(self._source, folder)
        with (
            open_diff_base(job, folder, full=self._settings.full) as diff_base,
            Checkpoint.create(
                folder.checkpoint,
                self._expected,
                number=same.number if same else new.number,
                base=diff_base.run_id,
                run_id=same.run_id if same else None,
                about=JobFacts.of(job, self._source).plain(),
                past=new.past,
            ) as checkpoint,
        ):
            progress, digests = checkpoint.progress(), self._known_digests()
            mark = self._mark(progress.run_id, progress.number, diff_base.run_id, digests)
            if same is not None:
                # What the lost checkpoint had will be sent again; until then it is unknown who has what.
                mark = replace(mark, began=same.began, unknown=True)
            with self._in_flight(mark) as in_flight:
                checkpoint.keep_digests(digests)
                if diff_base.layout is None:
                    remove_snapshot(self._own_folder())
                diff_base = replace(diff_base, number=progress.number)
                resent = math.inf if same else 0
                yield OpenRun(
                    checkpoint, in_flight, diff_base, self._own_folder(), resent, new.last_rows, new.notes
                )

    def _in_flight(self, mark: RunMark, **kept: Any) -> InFlightFile:
        return InFlightFile.begin(self._folder.in_flight, mark, users=self._limits.identifications, **kept)

    def _own_folder(self) -> StateDir:
        return destination_folder(self._folder, self._job.destination.endpoint)

    def _mark(self, run_id: str, number: int, base: str, digests: Mapping[int, str]) -> RunMark:
        return RunMark(
            run_id=run_id,
            number=number,
            source=source_mark(self._expected, base, digests),
            endpoint=self._job.destination.endpoint,
            counts=bool(self._increments),
        )

    def _known_digests(self) -> Mapping[int, str]:
        """Digests of the source's files, made once."""
        if self._digests is None:
            self._digests = first_digests(self._source, needed=bool(self._increments))
        return self._digests

    def _same_run(self) -> RunMark | None:
        """The mark of the lost run, if this one would send the same, byte for byte."""
        if self._left is None or self._left.finished:
            return None
        base = base_id(self._folder, JobFacts.of(self._job, self._source))
        same = self._left.mark.source == source_mark(self._expected, base, self._known_digests())
        return self._left.mark if same else None

    def _finish(self, found: Checkpoint) -> None:
        """Finish a run of which every row is committed."""
        progress = found.progress()
        facts = JobFacts.read(progress.about)
        own = destination_folder(self._folder, facts.endpoint)
        if not reads_rejects(self._source, self._folder):  # else they are what is to be sent now
            publish_rejects(self._folder.rejects, found.rejects(), run=progress.number)
        gone = write_snapshot(self._folder, found)
        if own.ids.exists():
            forget_ids(own, DiffBase(number=progress.number).header(self._job, progress.run_id), gone)
        found.finish()

    def _can_finish(self, progress: Progress, how: Difference | None) -> bool:
        """Whether the files that an unfinished run began with are still there, as far as can be told."""
        if how is not None and how.cause == "snapshot":
            return False
        for file in files_of(progress.identity):
            if file is None:
                return False
            name, size, modified = file
            if size is None or "://" in name:
                continue  # a table, or something far away
            if not any(_is_file(path, size, modified) for path in (Path(name), self._job.folder / name)):
                return False
        return True


def _is_file(path: Path, size: int, modified: int | None) -> bool:
    try:
        state = path.stat()
    except OSError:
        return False
    return (state.st_size, state.st_mtime_ns) == (size, modified)
