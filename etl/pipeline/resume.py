"""How a run begins: whether an unfinished one is resumed, the checks before a new one, and their files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from ..checkpoint import Checkpoint, PastRun, Progress, StateDir, publish_rejects
from ..checkpoint.in_flight_file import (
    Flight,
    InFlightFile,
    RunMark,
    load_checkpoint,
    read_in_flight,
    uncommitted_flights,
)
from ..errors import StaleCheckpointError
from ..run_events import Noted, Warned
from ..state_files import is_there
from .diff_base import (
    DiffBase,
    invalidate_lost,
    keep_accepted,
    open_diff_base,
    remove_snapshot,
    restarted_id,
    write_snapshot,
)
from .guards import (
    Decision,
    Unfinished,
    check_repeat,
    check_rows,
    decide,
    last_rows,
    lost_hint,
    restart_message,
    stop_hint,
)
from .plan import plan_job
from .run_inputs import (
    JobFacts,
    RunInputs,
    difference,
    first_digests,
    increments_of,
    keep_rejects,
    own_rejects,
    same_content,
    source_mark,
)
from .saved_plan import SavedPlan
from .status import destination_folder


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


@dataclass
class RunOpening:
    """Opens a run: what an earlier process left, and what is found out for a new run.

    `plan` is the saved plan that is to be sent. `unfinished` is what is known of an unfinished run, and
    `flights` are its users in flight (None: unknown). `same`: the mark of a lost run that the new one
    repeats.
    """

    inputs: RunInputs
    plan: SavedPlan | None = None
    unfinished: Unfinished | None = None
    flights: tuple[Flight, ...] | None = ()
    lost: bool = False
    number: int = 1
    past: tuple[PastRun, ...] = ()
    last_rows: int | None = None
    notes: tuple[Warned | Noted, ...] = ()
    same: RunMark | None = None

    def __post_init__(self) -> None:
        self.job, self.source, self.settings = self.inputs.job, self.inputs.source, self.inputs.settings
        self.folder = self.inputs.folder
        self.expected = self.inputs.identity()
        self.facts = JobFacts.of(self.job, self.source, plan=self.plan.digest if self.plan else None)
        self.increments = increments_of(self.job)
        self.previous = read_in_flight(self.folder.in_flight)

    @contextmanager
    def open(self) -> Iterator[OpenRun]:
        """Resume the unfinished run of the folder, or begin a new one.

        Raises StaleCheckpointError where a person has to decide, TooFewRowsError or RepeatedSourceError where
        there is nothing to be sent, PlanError where that isn't what was planned; then nothing was changed.
        """
        with ExitStack() as stack:
            found = stack.enter_context(self.load() or nullcontext())
            decision = self.decide(found)
            if decision != "resume":
                if self.plan is not None:
                    self.plan.check_state(self.inputs)
                    self.plan.check_result(plan_job(self.job, self.source, settings=self.settings))
                self.prepare(found, decision)
                stack.close()
                found = None
            yield stack.enter_context(self.opened(found))

    @cached_property
    def digests(self) -> Mapping[int, str]:
        """Digests of the source's files."""
        return first_digests(self.source, needed=bool(self.increments))

    def load(self) -> Checkpoint | None:
        """The folder's checkpoint, whole; None if there is none, or if a lost one is given up."""
        try:
            return load_checkpoint(self.folder, self.previous)
        except StaleCheckpointError as error:
            if self.settings.restart:
                self.lost = True
                return None
            if not error.damaged:
                raise
            hint = lost_hint(self.job, self.increments, self.previous, same=self._same_run() is not None)
            raise StaleCheckpointError(error.message, hint=hint, damaged=True) from error

    def decide(self, found: Checkpoint | None) -> Decision:
        """Decide what to do with an unfinished run. Raises StaleCheckpointError if a person has to decide."""
        progress = None if found is None else found.progress()
        if found is None or progress is None or progress.finished:
            return "begin"
        self.flights = uncommitted_flights(self.previous, found)
        self.unfinished = unfinished = self._examine(found, progress)
        settings, how = self.settings, unfinished.difference
        decision = decide(unfinished, restart=settings.restart, on_change=settings.on_source_change)
        if self.plan is not None and decision not in {"begin", "resume"}:
            self.plan.refuse_unfinished(how or "that was given up")
        if decision == "stop":
            increments = (self.increments or ["increments"]) if unfinished.counts else []
            raise StaleCheckpointError(
                f"{self.folder.checkpoint} keeps an unfinished run {how or ''}".rstrip(),
                hint=stop_hint(unfinished, can_finish=self._can_finish(progress), increments=increments),
            )
        return decision

    def _examine(self, found: Checkpoint, progress: Progress) -> Unfinished:
        """What is known of an unfinished run."""
        facts, flights = JobFacts.read(progress.about), self.flights
        how = difference(
            progress.identity, self.expected, partial(same_content, self.source, found.digests())
        )
        with open_diff_base(facts, self.folder) as base:
            made_by = base.run_id
        other_snapshot = how is None and made_by not in {progress.base, progress.run_id}
        if other_snapshot:
            path = destination_folder(self.folder, facts.endpoint).snapshot
            how = f"that compares with another snapshot than {path}, as it is now"
        if how is None and self.plan is not None and facts.plan != self.plan.digest:
            how = "of another plan" if facts.plan else "without a plan"
        return Unfinished(
            difference=how,
            other_snapshot=other_snapshot,
            accepted=found.arrived(),
            in_flight=None if flights is None else sum(len(flight.keys) for flight in flights),
            counts=facts.counts or self.facts.counts,
            complete=progress.complete,
            in_snapshot=made_by == restarted_id(progress.run_id),
        )

    def prepare(self, found: Checkpoint | None, decision: Decision) -> None:
        """Check the source, and then finish or give up the run before; see `open`."""
        source, folder = self.source, self.folder
        if found is not None and decision == "finish":  # every row is committed
            if not own_rejects(source, folder):  # else they are what is to be sent now
                progress = found.progress()
                # Which rejects it sent isn't known without its source, but for the job's own: all of these.
                others = JobFacts.read(progress.about).resent and not is_there(folder.kept_rejects)
                publish_rejects(folder.rejects, found.rejects(), run=progress.number, stays=lambda _: others)
            write_snapshot(folder, found)
            found.finish()
        self.past = () if found is None else found.past()
        with open_diff_base(self.facts, folder) as base:
            self.number = max(base.number, found.progress().number + 1 if found is not None else 1)
            self.last_rows = last_rows(source, self.facts.endpoint, self.past, base.users)
        check_rows(source, self.settings.min_rows, self.last_rows)
        self.notes = check_repeat(self.job, source, self.past, self.digests, again=self.settings.again)
        if self.lost:
            self.same = self._same_run()
            if self.same is None:
                invalidate_lost(folder, self.previous, self.job)
        if found is not None and self.unfinished is not None and decision == "restart":
            keep_accepted(folder, found, self.flights)
            self.notes += (Warned("restarted", restart_message(self.unfinished, self.increments)),)
        elif self.unfinished is not None and decision == "begin":
            self.notes += (Noted("dropped", "an unfinished run of which nothing was accepted is dropped"),)
        self.flights = ()

    @contextmanager
    def opened(self, found: Checkpoint | None) -> Iterator[OpenRun]:
        """Continue the unfinished run that was `found`; None: begin the new one that was prepared."""
        folder, same, flights = self.folder, self.same, self.flights
        with ExitStack() as stack:
            base = stack.enter_context(open_diff_base(self.facts, folder, full=self.settings.full))
            checkpoint = found or stack.enter_context(self._new_checkpoint(base))
            progress = checkpoint.progress()
            mark = RunMark(
                run_id=progress.run_id,
                number=progress.number,
                source=source_mark(self.expected, progress.base, checkpoint.digests()),
                endpoint=self.facts.endpoint,
                counts=self.facts.counts,
            )
            if same is not None:
                mark = replace(mark, began=same.began)
            elif found is not None and self.previous is not None and self.previous.mark.run_id == mark.run_id:
                mark = replace(self.previous.mark, boot=mark.boot)
            # What a lost checkpoint had will be sent again; until then it is unknown who has what.
            mark = replace(mark, unknown=flights is None or same is not None)
            resent = math.inf if same else self.settings.concurrency if flights is None else len(flights)
            kept, users, path = flights or (), self.inputs.limits.identifications, folder.in_flight
            in_flight = InFlightFile(path, mark, users=users, kept=kept, commits=progress.commits)
            stack.enter_context(in_flight)
            own, base = destination_folder(folder, mark.endpoint), replace(base, number=mark.number)
            if found is None and base.layout is None:
                remove_snapshot(own)
            yield OpenRun(checkpoint, in_flight, base, own, resent, self.last_rows, self.notes)

    def _new_checkpoint(self, base: DiffBase) -> Checkpoint:
        keep_rejects(self.source, self.folder)
        return Checkpoint.create(
            self.folder.checkpoint,
            self.expected,
            number=self.same.number if self.same else self.number,
            base=base.run_id,
            run_id=self.same.run_id if self.same else None,
            about=asdict(self.facts),
            past=self.past,
            digests=self.digests,
        )

    def _same_run(self) -> RunMark | None:
        """The mark of the lost run, if this one would send the same, byte for byte."""
        if self.previous is None or self.previous.finished:
            return None
        with open_diff_base(self.facts, self.folder) as base:
            same = self.previous.mark.source == source_mark(self.expected, base.run_id, self.digests)
        return self.previous.mark if same else None

    def _can_finish(self, progress: Progress) -> bool:
        """Whether the files that an unfinished run began with still exist, as far as that is known."""
        for entry in progress.identity["source"]:
            if len(entry) == 1:  # a stream
                return False
            name, size, modified, _ = entry
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
