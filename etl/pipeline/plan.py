"""`check`: everything that `run` does, but sending; and which of its guards would stop it."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

from ..amplitude.requests import TRANSPORT_RULES, TransportName
from ..checkpoint import past_of
from ..errors import EtlError, GuardError
from ..job.spec import Job
from ..model import Chunk, Reject
from ..reader import Source
from ..run_events import Listener, Progressed, Started, Warned
from ..snapshot import DiffedBatch
from ..tally import ROW_ENDS, RowRange, Tally, counted_rows
from ..text import MASK, counted, html_table, span
from .diff_base import open_diff_base
from .figures import Figures
from .guards import check_repeat, check_rows, input_warnings, last_rows, warn_of_large_numbers
from .job_source import JobSource
from .precheck import Precheck, precheck
from .row_pipeline import RowPipeline
from .run_inputs import RunInputs, first_digests, increments_of
from .saved_plan import SavedPlan
from .send_loop import check_rejects, counts_before_sending
from .settings import Settings
from .status import destination_folder
from .user_changes import Changed, RemovedUsers, UserCount, find_removed_users

_EXAMPLES: Final = 3
_KEY_BYTES: Final = 32  # of Amplitude's API keys
_RATES: Final = (100, 500, 1_000, 5_000, 10_000)  # for which a plan says how long they take
_QUIET: Final = 1.0  # seconds after which progress is reported


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard by the name of its option: its `limit`, what was `found`, and the error if it stops the run."""

    name: str
    limit: str
    found: str
    error: EtlError | None = None


@dataclass(slots=True)
class Plan:
    """What a run of the job would do, unless the server refuses rows.

    `tally.requests` and `tally.bytes` (of request bodies, before they are compressed) are those of a run
    without retries; `examples` has up to three rejects for each code, `skipped_values` counts
    values that are left out by the job's wish, by column and reason. `figures` are those of the export by
    property. `seconds` is what the rates allow, `seconds_by_rate` what other rates would.
    `users` are counted once each. `changes` None: nothing is compared. `sha256` is of the identifications, as
    they are encoded and in their order, over `batch` with zeros for the run's id; None without a `proof`.
    """

    inputs: RunInputs = field(repr=False)
    figures: Figures
    sha256: Any = field(default=None, repr=False, compare=False)
    job: str = field(init=False)
    endpoint: str = field(init=False)
    transport: TransportName = field(init=False)
    files: int = field(init=False)
    tally: Tally = Tally()
    seconds: float = 0.0
    seconds_by_rate: dict[int, float] = field(default_factory=dict)
    rejects_by_code: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Reject]] = field(default_factory=dict)
    skipped_values: dict[str, dict[str, int]] = field(default_factory=dict)
    warnings: list[Warned] = field(default_factory=list)
    users: int = 0
    changes: Changed | None = None
    guards: list[Guard] = field(default_factory=list)

    def __post_init__(self) -> None:
        job = self.inputs.job
        self.job, self.files = job.name, len(self.inputs.source.files)
        self.endpoint, self.transport = job.destination.endpoint, job.destination.transport

    @property
    def refused(self) -> EtlError | None:
        """The error with which a run would stop before it sent anything, or because of its rejects."""
        return next((guard.error for guard in self.guards if guard.error is not None), None)

    def as_dict(self, *, mask: bool = False, now: datetime | None = None) -> dict[str, Any]:
        """The plan as one JSON object; with `mask`, without ids and values of any user.

        `now` is when a run would begin.
        """

        def shown(reject: Reject) -> dict[str, Any]:
            """Where it is, and why unless that may quote a value that is only sent hashed."""
            hidden = mask or any(fault.column in self.figures.hashed for fault in reject.faults)
            return {"source": reject.source, "row": reject.row, "reason": MASK if hidden else reject.reason}

        changes = self.changes and asdict(self.changes)
        for change in changes["by_property"].values() if mask and changes else ():
            for example in change["examples"]:
                example.update(user=MASK, new=MASK)
        counts, codes = ("rows", *ROW_ENDS, "requests", "bytes"), dict(self.rejects_by_code.most_common())
        ends = (now or datetime.now().astimezone()) + timedelta(seconds=min(self.seconds, 1e9))
        return {
            **{name: getattr(self, name) for name in ("job", "endpoint", "transport", "files")},
            **{name: getattr(self.tally, name) for name in counts},
            "seconds": round(self.seconds, 3),
            "ends_at": ends.isoformat(timespec="seconds"),
            "seconds_by_rate": {str(rate): round(s, 3) for rate, s in self.seconds_by_rate.items()},
            "rejects_by_code": codes,
            "reject_examples": {code: list(map(shown, self.examples[code])) for code in codes},
            "skipped_values": self.skipped_values,
            "users": self.users,
            **self.figures.as_dict(mask=mask),
            "changes": changes,
            "guards": [
                {"guard": g.name, "limit": g.limit, "found": g.found, "stops": g.error and g.error.message}
                for g in self.guards
            ],
            "warnings": [asdict(warning) for warning in self.warnings],
        }

    def save(self, path: str | Path, *, with_values: bool = False) -> SavedPlan:
        """Write the plan to a file (0600) that `run` takes; `with_values`: with ids and values of users.

        Raises UsageError for a source that can be read only once, SourceError if it has changed since,
        StateError if the file can't be written.
        """
        saved = SavedPlan.of(self, with_values=with_values)
        saved.write(Path(path))
        return saved

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        effort = [("requests", f"{self.tally.requests:,}"), ("time at the given rate", span(self.seconds))]
        said = [] if self.refused is None else [("a run would stop", self.refused.message)]
        said += [("warning", warning.message) for warning in self.warnings]
        rows = [*counted_rows(self.tally), ("users", f"{self.users:,}"), *effort, *said]
        return html_table(f"{self.job}: what a run would send", rows)

    def add(self, chunk: Chunk) -> None:
        """Count a chunk."""
        sent = chunk.users > 0
        if sent and self.sha256:  # each identification with a comma behind it, wherever chunks end
            for piece in (*chunk.body[1:-1], b","):
                self.sha256.update(piece)
        frame = TRANSPORT_RULES[self.transport].frame_bytes + _KEY_BYTES
        self.tally += counts_before_sending(chunk) + Tally(
            accepted=chunk.users,
            merged=len(chunk.numbers) - chunk.users,
            requests=int(sent),
            bytes=(sum(map(len, chunk.body)) + frame) * sent,
        )
        for column, reason, count in chunk.skipped:
            by_reason = self.skipped_values.setdefault(column, {})
            by_reason[reason] = by_reason.get(reason, 0) + count
        for reject in chunk.rejects:
            self.rejects_by_code[reject.code] += 1
            self.figures.add_reject(reject)
            examples = self.examples.setdefault(reject.code, [])
            if len(examples) < _EXAMPLES:
                examples.append(reject)

    def ask_guards(self, pipeline: RowPipeline, found: Precheck | None, removed: RemovedUsers) -> None:
        """Ask the guards of a run with this tally, in its order; those that can't stop it are left out."""
        inputs, settings, tally, base = self.inputs, self.inputs.settings, self.tally, pipeline.diff_base
        past = past_of(inputs.folder.checkpoint)
        last = last_rows(inputs.source, self.endpoint, past, base.users)
        rows = tally.rows - removed.count  # users who left count as rows, and the source has none of them

        def ask(name: str, limit: object, value: str, check: Callable[[], object]) -> None:
            error = None
            try:
                check()
            except GuardError as raised:
                error = raised
            self.guards.append(Guard(name, str(limit), value, error))

        if settings.min_rows is not None or last:
            check = partial(check_rows, inputs.source, settings.min_rows, last, rows)
            ask("min-rows", settings.min_rows or 1, counted(rows, "row"), check)
        if increments_of(inputs.job):
            digests, again = first_digests(inputs.source, needed=True), settings.again
            repeat = partial(check_repeat, inputs.job, inputs.source, past, digests, again=again)
            ask("again", "as often as asked" if again else "once", "counters", repeat)
        most = base.most_absent(settings.max_absent)
        if removed.sought and most is not None:
            left = f"{counted(removed.count, 'user')} left"
            ask("max-absent", f"{most:g}%", left, partial(removed.check, most))
        most = base.most_changes(inputs.job, settings.max_changes)
        if found is not None and most is not None:
            value = f"{found.final.changed(base.in_doubt):,} of {base.certain:,} known users changed"
            ask("max-changes", f"{most:g}%", value, partial(found.check, most, pipeline))
        limits = settings.max_rejects
        if limits.count is not None or limits.percent is not None:
            value = counted(tally.rejected + tally.swallowed, "reject")
            ask("max-rejects", limits, value, partial(check_rejects, tally, limits, ended=True))


def plan_job(
    job: Job,
    source: Source,
    *,
    settings: Settings,
    on_rejects: Callable[[Sequence[Reject]], None] | None = None,
    listener: Listener = lambda _: None,
    proof: bool = True,
) -> Plan:
    """Read, map, compare and encode the whole source; send nothing, and leave the state folder alone.

    `on_rejects` is called with the rejects of each chunk, in source order; `listener` gets the progress, if
    it takes long. Only a plan with a `proof` can be saved, or held against a saved one. Raises EtlError like
    `run_job`.
    """
    inputs = RunInputs.of(job, source, settings)
    job, scratch = inputs.job, inputs.folder.snapshot
    with suppress(OSError):  # else the system has no folder for temporary files
        scratch = Path(tempfile.gettempdir(), "propsync")
    with open_diff_base(job, inputs.folder, full=settings.full) as base:
        rows = JobSource(job, source)
        inputs = replace(inputs, source=rows.source)
        pipeline = RowPipeline(job, rows, base, limits=inputs.limits, sizes_only=not proof)
        figures, users = Figures(rows), UserCount(base, scratch, rows)
        found = Plan(inputs, figures, hashlib.sha256() if proof else None)
        report = _progress_of(found, listener)
        found.warnings += (*input_warnings(job, rows.source), *base.warnings)
        found.warnings += (note for note in inputs.notes if isinstance(note, Warned))
        own = destination_folder(inputs.folder, found.endpoint)
        with find_removed_users(pipeline, own, record=False) as removed, users.fresh:
            first = precheck(pipeline, scratch)

            def watch(compared: DiffedBatch) -> None:
                users.add(compared)
                figures.add_sent(compared.mapped)

            made = pipeline.planned(None if first is None else first.final, figures.add, watch)
            large = set[str]()
            for chunk in chain.from_iterable(chain(made, removed.chunks([RowRange(found.files)]))):
                found.add(chunk)
                warn_of_large_numbers(chunk, large, found.warnings.append)
                if on_rejects is not None:
                    on_rejects(chunk.rejects)
                report()
            found.warnings += removed.warnings()
            found.users, found.changes = users.total()
            found.ask_guards(pipeline, first, removed)
    found.seconds = settings.least_seconds(found.tally)
    found.seconds_by_rate = {n: replace(settings, rate=n).least_seconds(found.tally) for n in _RATES}
    return found


def _progress_of(plan: Plan, listener: Listener) -> Callable[[], None]:
    """What is called after each chunk, and reports how many rows are done once it has taken long."""
    source, settings = plan.inputs.source, plan.inputs.settings
    now, started = settings.clock.now, False
    due = now() + _QUIET

    def report() -> None:
        nonlocal due, started
        if now() < due:
            return
        if not started:
            rows, size, started = source.total_rows(), source.total_bytes(), True
            listener(Started(plan.job, plan.endpoint, plan.files, rows, size, Tally()))
        listener(Progressed(plan.tally))
        due = now() + settings.progress_every

    return report
