"""`check`: everything that `run` does, but sending."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from ..amplitude.limits import TRANSPORT_RULES, TransportName
from ..arrow.json_lines import Splice, json_lines
from ..checkpoint import StateDir
from ..errors import EtlError
from ..job import Job
from ..model import Chunk, Reject, RowRange, Tally, counted_rows
from ..reader import Source
from ..run_events import Listener, Progressed, Started, Warned
from ..snapshot import BitSet, DiffedBatch, DistinctUsers, FieldGroup
from ..subject import Subject, user_keys
from ..text import html_table, span
from .capabilities import known_limits
from .diff_base import DiffBase, destination_folder, open_diff_base
from .figures import Figures
from .guards import Guard, guards_of
from .precheck import LargeNumbers, job_warnings, precheck, source_warnings
from .removed_users import find_removed_users
from .row_pipeline import JobSource, RowPipeline
from .saved_plan import PlanInputs, SavedPlan
from .settings import Settings, at_endpoint

_EXAMPLES: Final = 3
_KEY_BYTES: Final = 32  # of Amplitude's API keys
_RATES: Final = (100, 500, 1_000, 5_000, 10_000)  # for which a plan says how long they take
_QUIET: Final = 1.0  # seconds after which progress is reported


@dataclass(frozen=True, slots=True)
class Example:
    """A user and the value to be sent. The value sent before is unknown, only that it was another."""

    user: str
    new: object


@dataclass(slots=True)
class Change:
    """How many users would get another value of a property (or family, or group).

    `changed`: known users for whom it differs. `new`: new users who have it.
    """

    changed: int = 0
    new: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True)
class Changed:
    """Users of an export, each counted once: `new` ones, known ones who `changed`, and all others.

    A user of whom only an increment is sent has not changed.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    by_property: dict[str, Change] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """What a run of the job would do, unless the server refuses rows.

    `tally.requests` and `tally.bytes` (of request bodies, before they are compressed) are those of a run
    without retries; `examples` has up to three rejects for each code, `skipped_values` counts
    values that are left out by the job's wish, by column and reason. `figures` are those of the export by
    property. `seconds` is what the rates allow, `seconds_by_rate` what other rates would.
    `users` are counted once each. `changes` None: nothing is compared. `sha256` is of the identifications, as
    they are encoded and in their order, over `batch` with zeros for the run's id.
    """

    job: str
    endpoint: str
    transport: TransportName
    files: int
    figures: Figures
    inputs: PlanInputs = field(repr=False)
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
    sha256: Any = field(default_factory=hashlib.sha256, repr=False, compare=False)

    @property
    def refused(self) -> EtlError | None:
        """The error with which a run would stop before it sent anything, or because of its rejects."""
        return next((guard.error for guard in self.guards if guard.error is not None), None)

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

    def add(self, chunk: Chunk, overhead: int) -> None:
        """Count a chunk; `overhead` is what a request body has besides the identifications, in bytes."""
        sent = chunk.users > 0
        if sent:  # each identification with a comma behind it, wherever chunks end
            for piece in (*chunk.body[1:-1], b","):
                self.sha256.update(piece)
        self.tally += Tally(
            rows=chunk.stop - chunk.first,
            accepted=chunk.users,
            unchanged=chunk.unchanged,
            merged=len(chunk.numbers) - chunk.users,
            rejected=len(chunk.rejects),
            swallowed=sum(reject.swallowed for reject in chunk.rejects),
            requests=int(sent),
            bytes=(sum(map(len, chunk.body)) + overhead) * sent,
        )
        for column, reason, count in chunk.skipped:
            by_reason = self.skipped_values.setdefault(column, {})
            by_reason[reason] = by_reason.get(reason, 0) + count
        for reject in chunk.rejects:
            self.rejects_by_code[reject.code] += 1
            self.figures.reject(reject)
            examples = self.examples.setdefault(reject.code, [])
            if len(examples) < _EXAMPLES:
                examples.append(reject)


def plan_job(
    job: Job,
    source: Source,
    *,
    settings: Settings,
    on_rejects: Callable[[Sequence[Reject]], None] | None = None,
    listener: Listener = lambda _: None,
) -> Plan:
    """Read, map, compare and encode the whole source; send nothing, and leave the state folder alone.

    `on_rejects` is called with the rejects of each chunk, in source order; `listener` gets the progress, if
    it takes long. Raises EtlError like `run_job`.
    """
    job = at_endpoint(job, settings)
    folder = StateDir(settings.state_dir or job.state_dir)
    destination, scratch = job.destination, folder.snapshot
    with suppress(OSError):  # else the system has no folder for temporary files
        scratch = Path(tempfile.gettempdir(), "propsync")
    own, (limits, known) = (
        destination_folder(folder, destination.endpoint),
        known_limits(job, settings, folder),
    )
    rules = TRANSPORT_RULES[destination.transport]
    with open_diff_base(job, folder, full=settings.full) as diff_base:
        pipeline = RowPipeline(job, JobSource(job, source), diff_base, limits=limits)
        figures = Figures(job, pipeline.rows.splice)
        found = Plan(
            job.name,
            destination.endpoint,
            destination.transport,
            len(source.files),
            figures,
            PlanInputs(job, pipeline.source, folder, limits, full=settings.full),
        )
        progress = PlanProgress(found, pipeline.source, settings, listener)
        found.warnings += (*job_warnings(job), *source_warnings(job, pipeline.source), *diff_base.warnings)
        found.warnings += (note for note in known if isinstance(note, Warned))
        users = UserCount(diff_base, scratch, pipeline.rows.splice)
        with find_removed_users(pipeline, own, record=False) as removed, users.fresh:
            first = precheck(pipeline, scratch)
            final = None if first is None else first.final
            files = pipeline.rows.files()

            def watch(compared: DiffedBatch) -> None:
                users.add(compared)
                figures.send(compared.mapped)

            made = pipeline.chunks(files, final=final, watch=watch, look=figures.look)
            unsetting = removed.chunks([RowRange(len(source.files))]) if removed else iter(())
            large = LargeNumbers(found.warnings.append)
            for chunk in chain.from_iterable(chain(made, unsetting)):
                found.add(chunk, rules.frame_bytes + _KEY_BYTES)
                large.look(chunk)
                if on_rejects is not None:
                    on_rejects(chunk.rejects)
                progress.report()
            found.warnings += removed.warnings() if removed else ()
            found.users, found.changes = users.total()
            found.guards = guards_of(pipeline, folder, settings, found.tally, changes=first, removed=removed)
        found.seconds = settings.least_seconds(found.tally)
        found.seconds_by_rate = {
            rate: replace(settings, rate=rate).least_seconds(found.tally) for rate in _RATES
        }
        return found


class PlanProgress:
    """Reports how many rows are done, from the time on when it has taken long."""

    def __init__(self, plan: Plan, source: Source, settings: Settings, listener: Listener) -> None:
        self._plan, self._source, self._listener = plan, source, listener
        self._now, self._every = settings.clock.now, settings.progress_every
        self._due, self._started = self._now() + _QUIET, False

    def report(self) -> None:
        """Report if it is time to."""
        if self._now() < self._due:
            return
        if not self._started:
            plan, rows, size = self._plan, self._source.total_rows(), self._source.total_bytes()
            self._listener(Started(plan.job, plan.endpoint, plan.files, rows, size, Tally()))
            self._started = True
        self._listener(Progressed(self._plan.tally))
        self._due = self._now() + self._every


class UserCount:
    """Counts the users of batches as they are compared: those of rows that describe an update.

    It counts while its `fresh` users, whom the snapshot doesn't know, are open. What of them doesn't fit in
    memory is written beside `path`.
    """

    def __init__(self, diff_base: DiffBase, path: Path, splice: Splice | None = None) -> None:
        layout, n = diff_base.layout, 0 if diff_base.snapshot is None else len(diff_base.snapshot)
        self._snapshot = diff_base.snapshot
        self._splice = splice
        self._compares = layout is not None
        self._counted = np.isin(layout.names, layout.counted) if layout else np.zeros(0, np.bool_)
        self._bundles = layout.compared if layout and layout.mode == "property" else ()
        self.fresh = DistinctUsers(path, len(self._bundles))
        self._seen, self._changed = BitSet(n), BitSet(n)
        self._by_bundle = [BitSet(n) for _ in self._bundles]
        self._examples: list[list[Example]] = [[] for _ in self._bundles]

    def add(self, compared: DiffedBatch) -> None:
        """Count a batch. Rows that a later run has overtaken are rejects."""
        seen = compared.seen
        if seen is None:
            keys = user_keys(compared.mapped.identifications)[:, 0]
            nowhere = np.full(len(keys), -1, dtype=np.int64)
            positions = nowhere if self._snapshot is None else self._snapshot.find(keys)
            there = changed = np.ones(len(keys), dtype=np.bool_)
        else:
            keys, positions = seen.keys[:, 0], seen.positions[:, 0]
            there, changed = ~seen.overtaken, seen.changed(self._counted)
        self._seen.add(positions[there])
        self._changed.add(positions[there & changed])
        left = np.arange(len(keys)) if compared.rows is None else compared.rows
        fresh = positions[left] < 0
        fingerprints, columns = compared.mapped.fingerprints, len(self._bundles)
        given = np.zeros((len(left), 0), np.bool_) if fingerprints is None else fingerprints[:, :columns] != 0
        self.fresh.add(keys[left[fresh]], given[fresh])
        for number in range(columns):
            changes = compared.changes[:, number]
            if changes.any():
                self._by_bundle[number].add(positions[left[changes]])
                if len(self._examples[number]) < _EXAMPLES:
                    self._add_examples(number, compared, positions[left])

    def total(self) -> tuple[int, Changed | None]:
        """How many users there are, and how many of them are new or changed; None if nothing is compared."""
        new, new_by_bundle = self.fresh.count()
        seen, changed = len(self._seen), len(self._changed)
        found = Changed(new, changed, seen - changed)
        columns = zip(self._bundles, self._by_bundle, new_by_bundle, self._examples, strict=True)
        for bundle, known, fresh, examples in columns:
            if len(known) or fresh:
                found.by_property[bundle.name] = Change(len(known), fresh, examples)
        return new + seen, found if self._compares else None

    def _add_examples(self, number: int, compared: DiffedBatch, positions: NDArray[np.int64]) -> None:
        """Add known users of whom a bundle changes, to be looked at; of each the last row, which counts."""
        bundle, examples = self._bundles[number], self._examples[number]
        rows = np.flatnonzero(compared.changes[:, number])[::-1]
        last = rows[np.unique(positions[rows], return_index=True)[1]]
        picked = compared.mapped.identifications.take(pa.array(np.sort(last))).slice(0, _EXAMPLES)
        for line in json_lines(picked, splice=self._splice).splitlines():
            found: dict[str, Any] = orjson.loads(line)
            user = str(found[Subject.of(found).lead])
            if len(examples) < _EXAMPLES and user not in {example.user for example in examples}:
                examples.append(Example(user, _value(bundle, found)))


def _value(bundle: FieldGroup, found: dict[str, Any]) -> object:
    """The values of a bundle in an identification: one alone, several by name, or "unset"."""
    values = {}
    for path in bundle.paths:
        if path[1:2] != ("$unset",):
            value: Any = found
            for name in path:
                value = value.get(name) if isinstance(value, dict) else None
            values[path[-1]] = value
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return "unset"
    return given if len(values) > 1 else next(iter(given.values()))
