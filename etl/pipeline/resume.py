"""How a run begins: whether an unfinished one is resumed, the checks before a new one, and their files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

from ..checkpoint import Checkpoint, PastRun, Progress, StateDir, publish_rejects
from ..checkpoint.in_flight_file import Flight, InFlightContents, InFlightFile, RunMark, read_in_flight
from ..encoder import Limits
from ..errors import StaleCheckpointError
from ..job import Job
from ..reader import Source
from ..run_events import Noted, Warned
from ..state_files import is_there
from .destination_folder import destination_folder
from .diff_base import DiffBase, open_diff_base
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
from .plan import plan_job
from .precheck import check_repeat, check_rows, increments_of, last_rows
from .saved_plan import PlanInputs, SavedPlan
from .settings import Settings
from .source_files import first_digests, keep_rejects, reads_rejects, same_content
from .unfinished import (
    Decision,
    Difference,
    Unfinished,
    decide,
    difference,
    entries_of,
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


@contextmanager
def open_run(
    job: Job,
    source: Source,
    limits: Limits,
    folder: StateDir,
    settings: Settings,
    plan: SavedPlan | None = None,
) -> Iterator[OpenRun]:
    """Resume the unfinished run of a folder, or begin a new one; `plan` is what it is to keep to.

    Raises StaleCheckpointError where a person has to decide, TooFewRowsError or RepeatedSourceError where
    there is nothing to be sent, PlanError where that isn't what was planned; then nothing was changed.
    """
    opening = _Opening(job, source, limits, folder, settings, plan)
    with opening.load() or nullcontext() as found:
        unfinished, flights = opening.examine(found)
        decision = opening.decide(found, unfinished)
        if plan is not None and decision != "resume":
            plan.check_state(PlanInputs(job, source, folder, limits, full=settings.full))
            plan.check_result(plan_job(job, source, settings=settings))
        if found is not None and decision == "resume":
            with opening.resumed(found, flights) as run:
                yield run
            return
        opening.prepare(found, unfinished, decision, flights)
    with opening.begun() as run:
        yield run


def load_checkpoint(folder: StateDir, left: InFlightContents | None) -> Checkpoint | None:
    """The checkpoint of a folder; None if there is none and none is missing.

    Raises StaleCheckpointError for one that is damaged, or lacks what a process saw committed.
    """
    found = Checkpoint.load(folder.checkpoint)
    problem = None
    if found is None:
        if left is not None and not left.finished and (left.commits or left.flights or left.mark.unknown):
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


@dataclass
class _Opening:
    """What a run begins with; `prepare` finds out the fields with defaults, for a new run.

    `same`: the mark of a lost run that the new one repeats.
    """

    job: Job
    source: Source
    limits: Limits
    folder: StateDir
    settings: Settings
    plan: SavedPlan | None = None
    lost: bool = False
    number: int = 1
    past: tuple[PastRun, ...] = ()
    last_rows: int | None = None
    notes: tuple[Warned | Noted, ...] = ()
    same: RunMark | None = None

    def __post_init__(self) -> None:
        self.expected = identity(self.job, self.source, self.limits, full=self.settings.full)
        self.increments = increments_of(self.job)
        self.left = read_in_flight(self.folder.in_flight)

    @cached_property
    def digests(self) -> Mapping[int, str]:
        """Digests of the source's files."""
        return first_digests(self.source, needed=bool(self.increments))

    def load(self) -> Checkpoint | None:
        """The folder's checkpoint, whole; None if there is none, or if a lost one is given up."""
        try:
            return load_checkpoint(self.folder, self.left)
        except StaleCheckpointError as error:
            if self.settings.restart:
                self.lost = True
                return None
            if not error.damaged:
                raise
            hint = lost_hint(self.job, self.increments, self.left, same=self._same_run() is not None)
            raise StaleCheckpointError(error.message, hint=hint, damaged=True) from error

    def examine(self, found: Checkpoint | None) -> tuple[Unfinished | None, tuple[Flight, ...] | None]:
        """What is known of an unfinished run, and the users in flight (None: unknown)."""
        progress = None if found is None else found.progress()
        if found is None or progress is None or progress.finished:
            return None, ()
        facts, digests = JobFacts.read(progress.about), found.digests()
        flights = uncommitted_flights(self.left, progress, found)
        how = difference(
            progress.identity, self.expected, lambda file: same_content(self.source, digests, file)
        )
        made_by = base_id(self.folder, facts)
        if how is None and made_by not in {progress.base, progress.run_id}:
            path = destination_folder(self.folder, facts.endpoint).snapshot
            how = Difference("snapshot", f"that compares with another snapshot than {path}, as it is now")
        if how is None and self.plan is not None and facts.plan != self.plan.digest:
            how = Difference("plan", "of another plan" if facts.plan else "without a plan")
        return Unfinished(
            difference=how,
            accepted=found.arrived(),
            in_flight=None if flights is None else sum(len(flight.keys) for flight in flights),
            counts=facts.counts or bool(self.increments),
            complete=progress.complete,
            folded=made_by == restarted_id(progress.run_id),
        ), flights

    def decide(self, found: Checkpoint | None, unfinished: Unfinished | None) -> Decision:
        """What becomes of it. Raises StaleCheckpointError where a person has to decide."""
        if found is None or unfinished is None:
            return "begin"
        settings, how = self.settings, unfinished.difference
        decision = decide(unfinished, restart=settings.restart, on_change=settings.on_source_change)
        if self.plan is not None and decision not in {"begin", "resume"}:
            raise self.plan.unfinished(how.text if how else "that was given up")
        if decision == "stop":
            can_finish = self._can_finish(found.progress())
            increments = (self.increments or ["increments"]) if unfinished.counts else []
            raise StaleCheckpointError(
                f"{self.folder.checkpoint} keeps an unfinished run {how.text if how else ''}".rstrip(),
                hint=stop_hint(unfinished, can_finish=can_finish, increments=increments),
            )
        return decision

    @contextmanager
    def resumed(self, found: Checkpoint, flights: tuple[Flight, ...] | None) -> Iterator[OpenRun]:
        """Continue the unfinished run."""
        progress, users = found.progress(), self.limits.identifications
        with open_diff_base(self.job, self.folder, full=self.settings.full) as diff_base:
            mark = self._mark(progress, progress.base, found.digests())
            if self.left is not None and self.left.mark.run_id == progress.run_id:
                mark = replace(self.left.mark, boot=mark.boot)
            mark, path = replace(mark, unknown=flights is None), self.folder.in_flight
            with InFlightFile(
                path, mark, users=users, kept=flights or (), commits=progress.commits
            ) as in_flight:
                resent = self.settings.concurrency if flights is None else len(flights)
                diff_base = replace(diff_base, number=progress.number)
                own = destination_folder(self.folder, self.job.destination.endpoint)
                yield OpenRun(found, in_flight, diff_base, own, resent)

    def prepare(
        self,
        found: Checkpoint | None,
        unfinished: Unfinished | None,
        decision: Decision,
        flights: tuple[Flight, ...] | None,
    ) -> None:
        """Check the source, and then deal with the run before; see `open_run`."""
        job, source, folder = self.job, self.source, self.folder
        if found is not None and decision == "finish":  # every row is committed
            if not reads_rejects(source, folder):  # else they are what is to be sent now
                progress = found.progress()
                # Which rejects it sent isn't known without its source, but for the job's own: all of these.
                others = JobFacts.read(progress.about).resent and not is_there(folder.kept_rejects)
                publish_rejects(folder.rejects, found.rejects(), run=progress.number, stays=lambda _: others)
            write_snapshot(folder, found)
            found.finish()
        self.past = () if found is None else found.past()
        with open_diff_base(job, folder) as diff_base:
            self.number, users = diff_base.number, diff_base.users
        self.last_rows = last_rows(source, job.destination.endpoint, self.past, users)
        check_rows(source, self.settings.min_rows, self.last_rows)
        self.notes = check_repeat(job, source, self.past, self.digests, again=self.settings.again)
        if self.lost:
            self.same = self._same_run()
            if self.same is None:
                invalidate_lost(folder, self.left, job)
        if found is not None:
            self.number = max(self.number, found.progress().number + 1)
            if unfinished is not None and decision == "restart":
                keep_accepted(folder, found, flights)
                self.notes += (Warned("restarted", restart_message(unfinished, self.increments)),)
            elif unfinished is not None and decision == "begin":
                text = "an unfinished run of which nothing was accepted is dropped"
                self.notes += (Noted("dropped", text),)

    @contextmanager
    def begun(self) -> Iterator[OpenRun]:
        """Begin the new run that was prepared."""
        job, folder, same = self.job, self.folder, self.same
        keep_rejects(self.source, folder)
        with (
            open_diff_base(job, folder, full=self.settings.full) as diff_base,
            Checkpoint.create(
                folder.checkpoint,
                self.expected,
                number=same.number if same else self.number,
                base=diff_base.run_id,
                run_id=same.run_id if same else None,
                about=asdict(
                    replace(JobFacts.of(job, self.source), plan=self.plan.digest if self.plan else None)
                ),
                past=self.past,
            ) as checkpoint,
        ):
            progress = checkpoint.progress()
            mark = self._mark(progress, diff_base.run_id, self.digests)
            if same is not None:
                # What the lost checkpoint had will be sent again; until then it is unknown who has what.
                mark = replace(mark, began=same.began, unknown=True)
            with InFlightFile(folder.in_flight, mark, users=self.limits.identifications) as in_flight:
                checkpoint.keep_digests(self.digests)
                own = destination_folder(folder, job.destination.endpoint)
                if diff_base.layout is None:
                    remove_snapshot(own)
                diff_base, resent = replace(diff_base, number=progress.number), math.inf if same else 0
                yield OpenRun(checkpoint, in_flight, diff_base, own, resent, self.last_rows, self.notes)

    def _mark(self, progress: Progress, base: str, digests: Mapping[int, str]) -> RunMark:
        return RunMark(
            run_id=progress.run_id,
            number=progress.number,
            source=source_mark(self.expected, base, digests),
            endpoint=self.job.destination.endpoint,
            counts=bool(self.increments),
        )

    def _same_run(self) -> RunMark | None:
        """The mark of the lost run, if this one would send the same, byte for byte."""
        if self.left is None or self.left.finished:
            return None
        base = base_id(self.folder, JobFacts.of(self.job, self.source))
        same = self.left.mark.source == source_mark(self.expected, base, self.digests)
        return self.left.mark if same else None

    def _can_finish(self, progress: Progress) -> bool:
        """Whether the files that an unfinished run began with are still there, as far as can be told."""
        for entry in entries_of(progress.identity):
            if len(entry) == 1:  # a stream
                return False
            name, size, modified, _ = cast("tuple[str, int | None, int | None, str]", entry)
            if size is None or "://" in name:
                continue  # a table, or something far away
            found = False
            for path in (Path(name), self.job.folder / name):
                with suppress(OSError):
                    state = path.stat()
                    found |= (state.st_size, state.st_mtime_ns) == (size, modified)
            if not found:
                return False
        return True
