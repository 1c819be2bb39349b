"""A file in Prometheus' text format that is whole at every moment and current to within seconds."""

from __future__ import annotations

import math
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, TypeAlias, get_args, get_type_hints

from ..model import Tally
from ..run_events import Ended, Event, Paused, Progressed, Recovered, Started, Summary, Timing
from .output_file import check_writable, write_whole
from .summary import PERCENTILES, ROW_ENDS, seconds_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

STATUSES: Final = ("running", *get_args(get_type_hints(Summary)["status"]))
_LAST_SUCCESS: Final = "propsync_last_success_timestamp_seconds"
_LAST_RUN: Final = "propsync_last_run_timestamp_seconds"
_EXIT_CODE: Final = "propsync_exit_code"
# Samples that outlive their run.
_KEPT: Final = re.compile(rf'^({_LAST_SUCCESS}|{_LAST_RUN}|{_EXIT_CODE}){{job="((?:[^"\\]|\\.)*)"}} (\S+)$')
_OUTAGE: Final = "How long the destination has been taking no requests; 0 while it does."
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_COSTS: Final = {
    "requests": "Requests sent, retries among them.",
    "retries": "Requests that sent the same bytes again.",
    "throttled": "Answers by which the destination slowed the job down.",
    "in_doubt": "Answers that left open whether the request was applied.",
    "uncounted": "Events that were sent and taken, and that the server did not count.",
    "bytes": "Bytes of request bodies sent.",
}


# What the values have of a summary, under the same names.
_OF_SUMMARY: Final = {one.name for one in fields(Summary)} - {"reason", "hint", "accepts_rejects"}


@dataclass(slots=True)
class MetricValues:
    """The content of the file: `seconds` of this process, times in seconds since the epoch.

    `exit_code` and `last_run` are those of the latest run that ended, and `successes` has the time of the
    last success by the names of other jobs.
    """

    job: str
    tally: Tally = field(default_factory=Tally)
    resumed_rows: int = 0
    source_rows: int | None = None
    seconds: float = 0.0
    outage_seconds: float = 0.0
    status: str = "running"
    rejects_by_code: Mapping[str, int] = field(default_factory=dict)
    skipped_values: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    last_success: float | None = None
    exit_code: int | None = None
    last_run: float | None = None
    successes: dict[str, float] = field(default_factory=dict)
    timing: Timing | None = None


class MetricsCollector:
    """Keeps the values of a run current; clocks as for `MetricsListener`."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time
    ) -> None:
        self._clock, self._now, self._began = clock, now, clock()
        self.values = MetricValues("")

    def __call__(self, event: Event) -> None:
        """Note what happened."""
        values = self.values
        match event:
            case Started():
                self._began = self._clock()
                self.values = MetricValues(event.job, event.resumed, event.resumed.rows, event.total_rows)
            case Progressed(tally):
                values.tally = tally
            case Paused():
                values.outage_seconds = event.outage_seconds
            case Recovered():
                values.outage_seconds = 0.0
            case Ended(summary):
                self.values = MetricValues(
                    **{name: getattr(summary, name) for name in _OF_SUMMARY},
                    source_rows=values.source_rows,
                    last_success=self._now() if summary.status == "finished" else values.last_success,
                    last_run=self._now(),
                )
        self.values.seconds = self._clock() - self._began


class MetricsListener:
    """Keeps `path` current: at the start, every `every_seconds` while events come, and at the end.

    The time of the last success is read from the file that is there, so that it survives runs that
    fail; and how the last run ended, until this one has. `clock` is in seconds and never goes back; `now` is
    in seconds since the epoch.
    Raises UsageError or StateError at once if the file can't be written, and StateError on a later write
    that fails.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        every_seconds: float = 5.0,
    ) -> None:
        check_writable(path)
        self._path, self._clock, self._every_seconds = path, clock, every_seconds
        self._due = clock()
        self._collector = MetricsCollector(clock=clock, now=now)

    def __call__(self, event: Event) -> None:
        """Note what happened, and write the file if it is time."""
        began = bool(self._collector.values.job)
        self._collector(event)
        values = self._collector.values
        match event:
            case Started():
                kept = _kept(self._path)
                code = kept[_EXIT_CODE].get(event.job)
                values.last_success = kept[_LAST_SUCCESS].get(event.job)
                values.exit_code = None if code is None else int(code)
                values.last_run = kept[_LAST_RUN].get(event.job)
            case Ended(summary) if not began and summary.status != "finished":
                # The job's own name may be unknown, where its file can't be read.
                values.successes = _kept(self._path)[_LAST_SUCCESS]
                values.last_success = values.successes.pop(summary.job, None)
        due = isinstance(event, Started | Ended) or self._clock() >= self._due
        if due and values.job:
            self._due = self._clock() + self._every_seconds
            write_whole(self._path, metrics_text(values))


Labels: TypeAlias = dict[str, str]
Samples: TypeAlias = "Sequence[tuple[Labels, float]]"
Family: TypeAlias = tuple[str, str, str, Samples]  # name, type, help, samples


def metrics_text(values: MetricValues) -> str:
    """Write the whole file: every family with its help and type, every sample labelled with the job."""
    lines = []
    for name, kind, text, samples in metric_families(values):
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        for own, value in samples:
            labels = {"job": values.job, **own}
            escaped = {name: text.translate(_ESCAPES) for name, text in labels.items()}
            shown = ",".join(f'{label}="{text}"' for label, text in escaped.items())
            lines.append(f"{name}{{{shown}}} {value!r}")
    return "\n".join(lines) + "\n"


def metric_families(values: MetricValues) -> list[Family]:
    """Return every family that has a value or always is there."""
    return [*_counters(values), *_gauges(values)]


def _counters(values: MetricValues) -> Iterator[Family]:
    tally, codes = values.tally, values.rejects_by_code
    ends = [({"outcome": end}, getattr(tally, end)) for end in ROW_ENDS]
    yield "propsync_rows_total", "counter", "Committed rows by outcome, since the checkpoint began.", ends
    if codes:
        text = "Rejected rows by the reject's code; written at the end of a run."
        yield "propsync_rejects_total", "counter", text, [({"code": code}, codes[code]) for code in codes]
    if values.skipped_values:
        text = "Values left out of rows by the job's wish; written at the end of a run."
        skipped = [({"column": name}, sum(by.values())) for name, by in values.skipped_values.items()]
        yield "propsync_skipped_values_total", "counter", text, skipped
    if values.timing is not None:
        text = "Seconds of the run by stage and by wait; written at the end of a run."
        stages = [({"stage": stage}, seconds) for stage, seconds in seconds_by(values.timing).items()]
        yield "propsync_stage_seconds_total", "counter", text, stages
    for name, text in _COSTS.items():
        yield f"propsync_{name}_total", "counter", text, [({}, getattr(tally, name))]


def _gauges(values: MetricValues) -> Iterator[Family]:
    try:
        installed = version("propsync")
    except PackageNotFoundError:  # run from a checkout that isn't installed
        installed = "unknown"
    text = "1, for the version that wrote this."
    yield "propsync_build_info", "gauge", text, [({"version": installed}, 1)]
    for name, text, value in (
        ("propsync_source_rows", "Rows of the source.", values.source_rows),
        ("propsync_resumed_rows", "Rows that earlier runs had committed.", values.resumed_rows),
        ("propsync_run_seconds", "How long this run has taken so far.", values.seconds),
        ("propsync_outage_seconds", _OUTAGE, values.outage_seconds),
        (_LAST_RUN, "When the latest run ended, however it did.", values.last_run),
        (_EXIT_CODE, "Exit code of the latest run that ended.", values.exit_code),
    ):
        yield name, "gauge", text, [] if value is None else [({}, value)]
    if values.timing is not None and values.timing.latency:
        text = "Time to an answer, by quantile; written at the end of a run."
        quantiles = zip(PERCENTILES, values.timing.latency, strict=True)
        latency = [({"quantile": f"0.{name[1:].rstrip('0')}"}, seconds) for name, seconds in quantiles]
        yield "propsync_answer_seconds", "gauge", text, latency
    successes = {**values.successes, values.job: values.last_success}
    known: Samples = [({"job": job}, at) for job, at in successes.items() if at is not None]
    if known:
        yield _LAST_SUCCESS, "gauge", "When a run last finished, rejects or not.", known
    states = [({"status": status}, int(status == values.status)) for status in STATUSES]
    yield "propsync_run_status", "gauge", "1 for the state of the latest run, 0 for the others.", states


def _kept(path: Path) -> dict[str, dict[str, float]]:
    """The samples of earlier runs that outlive them, by metric and job; none from any other file."""
    found: dict[str, dict[str, float]] = {name: {} for name in (_LAST_SUCCESS, _LAST_RUN, _EXIT_CODE)}
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return found
    for line in text.split("\n"):
        match = _KEPT.match(line)
        with suppress(ValueError):
            if match is not None and math.isfinite(float(match[3])):
                job = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], match[2])
                found[match[1]][job] = float(match[3])
    return found
