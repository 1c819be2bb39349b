"""How a run begins: what becomes of an unfinished one, what is looked at first, and the files it needs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from etl.checkpoint import (
    Checkpoint,
    Flight,
    InFlight,
    PastRun,
    Progress,
    RunMark,
    StateFolder,
    left_by,
    publish_rejects,
)
from etl.errors import StaleCheckpointError
from etl.model import Noted, Warned
from etl.pipeline.about import About
from etl.pipeline.destinations import at_destination, destination_diff_base
from etl.pipeline.diff_base import DiffBase
from etl.pipeline.digests import first_digests, same_content
from etl.pipeline.doubt import complete, forget_everyone, keep_accepted, restarted_id, snapshot_id, unsettled
from etl.pipeline.leavers import forget_ids
from etl.pipeline.lost import doubt_lost, found_whole, is_same_run, lost_remedy, source_mark
from etl.pipeline.own_rejects import keep_rejects, reads_rejects
from etl.pipeline.precheck import check_repeat, check_rows, increments_of, last_rows
from etl.pipeline.production import Production
from etl.pipeline.settings import Settings
from etl.pipeline.unfinished import (
    Decision,
    Difference,
    Unfinished,
    decide,
    difference,
    files_of,
    identity,
    remedy,
    told,
)


@dataclass(frozen=True, slots=True)
class Begun:
    """A run's files, open. `folder` is that of its destination; `notes` are to be told at its start.

    `last_rows` is how many rows the last finished run had; None where there is nothing to compare with.
    `resent` is how many chunks an earlier process may have sent that aren't committed.
    """

    checkpoint: Checkpoint
    in_flight: InFlight
    diff_base: DiffBase
    folder: StateFolder
    resent: float = 0
    last_rows: int | None = None
    notes: tuple[Warned | Noted, ...] = ()


@dataclass(frozen=True, slots=True)
class _Plan:
    """With what a new run is to begin. `same`: the mark of a lost run that it is to repeat."""

    number: int
    past: tuple[PastRun, ...]
    digests: Mapping[int, str]
    last_rows: int | None
    notes: tuple[Warned | Noted, ...]
    same: RunMark | None = None


@contextmanager
def begun(production: Production, folder: StateFolder, settings: Settings) -> Iterator[Begun]:
    """Resume the unfinished run of a folder, or begin a new one.

    Raises StaleCheckpointError where a person has to decide, TooFewRowsError or RepeatedSourceError where
    there is nothing to be sent; then all is as it was.
    """
    beginning = _Beginning(production, folder, settings)
    with beginning.load() or nullcontext() as found:
        unfinished, flights = beginning.look_at(found)
        decision = beginning.decide(found, unfinished)
        if found is not None and decision == "resume":
            with beginning.resumed(found, flights) as run:
                yield run
            return
        plan = beginning.plan(found, unfinished, decision, flights)
    with beginning.new(plan) as run:
        yield run


class _Beginning:
    def __init__(self, production: Production, folder: StateFolder, settings: Settings) -> None:
        self._production = production
        self._folder = folder
        self._settings = settings
        self._job, self._source = production.job, production.source
        self._expected = identity(self._job, self._source, production.limits, full=settings.full)
        self._left = left_by(folder.in_flight)
        self._lost: StaleCheckpointError | None = None
        self._digests: Mapping[int, str] | None = None

    def load(self) -> Checkpoint | None:
        """The folder's checkpoint, whole; None where there is none, or where a lost one is given up."""
        try:
            return found_whole(self._folder, self._left)
        except StaleCheckpointError as error:
            if not self._settings.restart:
                raise self._advised(error) from error
            self._lost = error
            return None

    def look_at(self, found: Checkpoint | None) -> tuple[Unfinished | None, tuple[Flight, ...] | None]:
        """What is known of an unfinished run, and who was in flight (None: nobody knows)."""
        progress = None if found is None else found.progress()
        if found is None or progress is None or progress.finished:
            return None, ()
        about, digests = About.read(progress.about), found.digests()
        flights = unsettled(self._left, progress, found)
        how = difference(
            progress.identity, self._expected, lambda file: same_content(self._source, digests, file)
        )
        made_by = snapshot_id(self._folder, about)
        if how is None and made_by not in {progress.base, progress.run_id}:
            path = at_destination(self._folder, about.endpoint).snapshot
            how = Difference("snapshot", f"that compares with another snapshot than {path}, as it is now")
        return Unfinished(
            difference=how,
            accepted=found.arrived(),
            in_flight=None if flights is None else sum(len(flight.keys) for flight in flights),
            counts=about.counts or bool(increments_of(self._job)),
            complete=progress.complete,
            folded=made_by == restarted_id(progress.run_id),
        ), flights

    def decide(self, found: Checkpoint | None, unfinished: Unfinished | None) -> Decision:
        """What becomes of it. Raises StaleCheckpointError where that is not for us to say."""
        if found is None or unfinished is None:
            return "begin"
        settings = self._settings
        decision = decide(unfinished, restart=settings.restart, on_change=settings.on_source_change)
        if decision == "stop":
            how, names = unfinished.difference, increments_of(self._job) if unfinished.counts else []
            raise StaleCheckpointError(
                f"{self._folder.checkpoint} keeps an unfinished run {how.words if how else ''}".rstrip(),
                hint=remedy(
                    unfinished,
                    can_finish=self._can_finish(found.progress(), how),
                    increments=names or (["increments"] if unfinished.counts else []),
                ),
            )
        return decision

    @contextmanager
    def resumed(self, found: Checkpoint, flights: tuple[Flight, ...] | None) -> Iterator[Begun]:
        """Go on with the unfinished run."""
        progress = found.progress()
        with destination_diff_base(self._job, self._folder, full=self._settings.full) as diff_base:
            mark = self._mark(progress.run_id, progress.number, progress.base, found.digests())
            if self._left is not None and self._left.mark.run_id == progress.run_id:
                mark = replace(self._left.mark, boot=mark.boot)
            mark = replace(mark, unknown=flights is None)
            with self._in_flight(mark, flights or (), progress.commits) as in_flight:
                own = at_destination(self._folder, self._job.destination.endpoint)
                most = self._settings.concurrency if flights is None else len(flights)
                yield Begun(found, in_flight, replace(diff_base, number=progress.number), own, most)

    def plan(
        self,
        found: Checkpoint | None,
        unfinished: Unfinished | None,
        decision: Decision,
        flights: tuple[Flight, ...] | None,
    ) -> _Plan:
        """Look at the source, and then do what is to be done with the run before; see `begun`."""
        if found is not None and decision == "finish":
            self._finish(found)
        past = () if found is None else found.past()
        job, source, settings = self._job, self._source, self._settings
        with destination_diff_base(job, self._folder) as diff_base:
            number, users = diff_base.number, diff_base.users
        last = last_rows(source, job.destination.endpoint, past, users)
        check_rows(source, settings.min_rows, last)
        notes: list[Warned | Noted] = []
        notes += check_repeat(job, source, past, self._known_digests(), again=settings.again)
        same = self._left.mark if self._lost and self._left and self._is_same() else None
        if self._lost is not None and same is None:
            doubt_lost(self._folder, self._left, job)
        if found is not None and unfinished is not None:
            if decision == "restart":
                keep_accepted(self._folder, found, flights)
                notes.append(Warned("restarted", told(unfinished, increments_of(job))))
            elif decision == "begin":
                notes.append(Noted("dropped", "an unfinished run of which nothing was accepted is dropped"))
            number = max(number, found.progress().number + 1)
        elif found is not None:
            number = max(number, found.progress().number + 1)
        return _Plan(number, past, self._known_digests(), last, tuple(notes), same)

    @contextmanager
    def new(self, plan: _Plan) -> Iterator[Begun]:
        """Begin a new run."""
        job, folder = self._job, self._folder
        own = at_destination(folder, job.destination.endpoint)
        keep_rejects(self._source, folder)
        with (
            destination_diff_base(job, folder, full=self._settings.full) as diff_base,
            Checkpoint.create(
                folder.checkpoint,
                self._expected,
                number=plan.same.number if plan.same else plan.number,
                base=diff_base.run_id,
                run_id=plan.same.run_id if plan.same else None,
                about=About.of(job, self._source).plain(),
                past=plan.past,
            ) as checkpoint,
        ):
            progress = checkpoint.progress()
            mark = self._mark(progress.run_id, progress.number, diff_base.run_id, plan.digests)
            if plan.same is not None:
                # What the lost checkpoint had is sent again in time; until then nobody knows who has what.
                mark = replace(mark, began=plan.same.began, unknown=True)
            with self._in_flight(mark, (), 0) as in_flight:
                checkpoint.keep_digests(plan.digests)
                if diff_base.layout is None:
                    forget_everyone(own)
                diff_base = replace(diff_base, number=progress.number)
                resent = math.inf if plan.same else 0
                yield Begun(checkpoint, in_flight, diff_base, own, resent, plan.last_rows, plan.notes)

    def _in_flight(self, mark: RunMark, kept: tuple[Flight, ...], commits: int) -> InFlight:
        users = self._production.limits.identifications
        return InFlight.begin(self._folder.in_flight, mark, users=users, kept=kept, commits=commits)

    def _mark(self, run_id: str, number: int, base: str, digests: Mapping[int, str]) -> RunMark:
        return RunMark(
            run_id=run_id,
            number=number,
            source=source_mark(self._expected, base, digests),
            endpoint=self._job.destination.endpoint,
            counts=bool(increments_of(self._job)),
        )

    def _known_digests(self) -> Mapping[int, str]:
        """Digests of the source's files, made once."""
        if self._digests is None:
            self._digests = first_digests(self._source, needed=bool(increments_of(self._job)))
        return self._digests

    def _finish(self, found: Checkpoint) -> None:
        """Finish a run of which every row has its end."""
        progress = found.progress()
        own = at_destination(self._folder, About.read(progress.about).endpoint)
        if not reads_rejects(self._source, self._folder):  # else they are what is to be sent now
            publish_rejects(self._folder.rejects, found.rejects(), run=progress.number)
        gone = complete(self._folder, found)
        if own.ids.exists():
            production = self._production.on(DiffBase(number=progress.number)).within(progress.run_id)
            forget_ids(production, own, gone)
        found.finish()

    def _is_same(self) -> bool:
        base = snapshot_id(self._folder, About.of(self._job, self._source))
        return is_same_run(self._left, source_mark(self._expected, base, self._known_digests()))

    def _advised(self, error: StaleCheckpointError) -> StaleCheckpointError:
        if not error.damaged:
            return error
        hint = lost_remedy(self._job, self._left, same=self._is_same())
        return StaleCheckpointError(error.message, hint=hint, damaged=True)

    def _can_finish(self, progress: Progress, how: Difference | None) -> bool:
        """Whether the files that an unfinished run began with are still there."""
        if how is not None and how.kind == "snapshot":
            return False
        files = files_of(progress.identity)
        return None not in files and all(self._is_there(*file) for file in files if file)

    def _is_there(self, name: str, size: int | None, modified: int | None) -> bool:
        if size is None or "://" in name:
            return True  # a table, or something far away: as far as can be told
        for path in (Path(name), self._job.folder / name):
            try:
                state = path.stat()
            except OSError:
                continue
            if (state.st_size, state.st_mtime_ns) == (size, modified):
                return True
        return False
