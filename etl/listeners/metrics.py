"""The metrics of a run: a file in Prometheus' text format; and over OTLP, with a span of the run."""

from __future__ import annotations

import math
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

from ..errors import StateError
from ..run_events import Ended, Event, Paused, Progressed, Recovered, Started, Status, Summary, not_begun
from ..state_files import check_writable, write_whole
from ..tally import ROW_ENDS
from .progress import CLOCK, RunClock
from .summary import PERCENTILES, seconds_by, summary_dict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.sdk.metrics import MeterProvider

_STATUSES: Final = ("running", *get_args(Status))
_LAST_SUCCESS: Final = "propsync_last_success_timestamp_seconds"
_LAST_RUN: Final = "propsync_last_run_timestamp_seconds"
_EXIT_CODE: Final = "propsync_exit_code"
# Samples that outlive their run.
_KEPT: Final = re.compile(
    rf'^({_LAST_SUCCESS}|{_LAST_RUN}|{_EXIT_CODE}){{job="((?:[^"\\\n]|\\.)*)"}} (\S+)$', re.MULTILINE
)
_WRITE_SECONDS: Final = 5.0
_AT_END: Final = "written at the end of a run."
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


@dataclass(slots=True)
class MetricValues:
    """The measured values: the run's `summary` so far, and whether it is `running`.

    `seconds` are those of this process, which `began` at that time of a monotonic clock; other times are in
    seconds since the epoch. `exit_code` and `last_run` are those of the latest run that ended, and
    `successes` has the time of the last success by the names of jobs.
    """

    summary: Summary = field(default_factory=lambda: not_begun(""))
    source_rows: int | None = None
    seconds: float = 0.0
    outage_seconds: float = 0.0
    running: bool = True
    exit_code: int | None = None
    last_run: float | None = None
    successes: dict[str, float] = field(default_factory=dict)
    began: float = 0.0

    def note(self, event: Event, clock: RunClock) -> None:
        """Note what happened."""
        match event:
            case Started():
                self.summary = Summary(event.job, event.resumed, 0.0, event.resumed.rows, "stopped")
                self.source_rows, self.began, self.running = event.total_rows, clock(), True
            case Progressed(tally):
                self.summary = replace(self.summary, tally=tally)
            case Paused():
                self.outage_seconds = event.outage_seconds
            case Recovered():
                self.outage_seconds = 0.0
            case Ended(summary):
                self.summary, self.running, self.outage_seconds = summary, False, 0.0
                self.exit_code, self.last_run = summary.exit_code, clock.now().timestamp()
                if summary.status == "finished":
                    self.successes[summary.job] = self.last_run
        self.seconds = clock() - self.began


class MetricsListener:
    """Keeps `path` current: at the start, every 5 s while events come, and at the end.

    The time of the last success is read from the existing file, so that it survives runs that fail; and so is
    the end of the last run, until this one ends. Raises UsageError or StateError at once if the file can't be
    written, and StateError on a later write that fails.
    """

    def __init__(self, path: Path, *, clock: RunClock = CLOCK) -> None:
        check_writable(path)
        self._path, self._clock = path, clock
        self._due = clock()
        self._values = MetricValues(began=clock())

    def __call__(self, event: Event) -> None:
        """Note what happened, and write the file if it is time."""
        values = self._values
        began = bool(values.summary.job)
        values.note(event, self._clock)
        match event:
            case Started():
                kept = _kept(self._path)
                success, code = kept[_LAST_SUCCESS].get(event.job), kept[_EXIT_CODE].get(event.job)
                values.successes = {} if success is None else {event.job: success}
                values.exit_code = None if code is None else int(code)
                values.last_run = kept[_LAST_RUN].get(event.job)
            case Ended(summary) if not began and summary.status != "finished":
                # The job's own name may be unknown, where its file can't be read.
                values.successes = _kept(self._path)[_LAST_SUCCESS]
        due = isinstance(event, Started | Ended) or self._clock() >= self._due
        if due and values.summary.job:
            self._due = self._clock() + _WRITE_SECONDS
            write_whole(self._path, metrics_text(values))


# Name, type, help, and samples: the labels of each, and its value.
_Family: TypeAlias = tuple[str, str, str, "Sequence[tuple[dict[str, str], float]]"]


def metrics_text(values: MetricValues) -> str:
    """Write the whole file: every family with its help and type, every sample labelled with the job."""
    lines = []
    for name, kind, text, samples in metric_families(values):
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        for own, value in samples:
            labels = {"job": values.summary.job, **own}.items()
            shown = ",".join(f'{label}="{text.translate(_ESCAPES)}"' for label, text in labels)
            lines.append(f"{name}{{{shown}}} {value!r}")
    return "\n".join(lines) + "\n"


def metric_families(values: MetricValues) -> Iterator[_Family]:
    """Yield every family of metrics, but for optional ones without a value."""
    from importlib.metadata import PackageNotFoundError, version  # not needed without metrics

    summary, tally = values.summary, values.summary.tally
    ends, stages = {end: getattr(tally, end) for end in ROW_ENDS}, seconds_by(summary.timing)
    skipped = {name: sum(by.values()) for name, by in summary.skipped_values.items()}
    for name, text, label, found in (
        ("rows", "Committed rows by outcome, since the checkpoint began.", "outcome", ends),
        ("rejects", f"Rejected rows by the reject's code; {_AT_END}", "code", summary.rejects_by_code),
        ("skipped_values", f"Values left out of rows by the job's wish; {_AT_END}", "column", skipped),
        ("stage_seconds", f"Seconds of the run by stage and by wait; {_AT_END}", "stage", stages),
    ):
        if found:
            yield f"propsync_{name}_total", "counter", text, [({label: key}, n) for key, n in found.items()]
    for name, text in _COSTS.items():
        yield f"propsync_{name}_total", "counter", text, [({}, getattr(tally, name))]
    try:
        installed = version("propsync")
    except PackageNotFoundError:  # run from a checkout that isn't installed
        installed = "unknown"
    text = "1, for the version that wrote this."
    yield "propsync_build_info", "gauge", text, [({"version": installed}, 1)]
    for name, text, value in (
        ("propsync_source_rows", "Rows of the source.", values.source_rows),
        ("propsync_resumed_rows", "Rows that earlier runs had committed.", summary.resumed_rows),
        ("propsync_run_seconds", "How long this run has taken so far.", values.seconds),
        ("propsync_outage_seconds", _OUTAGE, values.outage_seconds),
        (_LAST_RUN, "When the latest run ended, however it did.", values.last_run),
        (_EXIT_CODE, "Exit code of the latest run that ended.", values.exit_code),
    ):
        yield name, "gauge", text, [] if value is None else [({}, value)]
    if summary.timing is not None and summary.timing.latency:
        text = f"Time to an answer, by quantile; {_AT_END}"
        quantiles = zip(PERCENTILES, summary.timing.latency, strict=True)
        latency = [({"quantile": f"0.{name[1:].rstrip('0')}"}, seconds) for name, seconds in quantiles]
        yield "propsync_answer_seconds", "gauge", text, latency
    if known := [({"job": job}, at) for job, at in values.successes.items()]:
        yield _LAST_SUCCESS, "gauge", "When a run last finished, rejects or not.", known
    status = "running" if values.running else summary.status
    states = [({"status": name}, int(name == status)) for name in _STATUSES]
    yield "propsync_run_status", "gauge", "1 for the state of the latest run, 0 for the others.", states


def _kept(path: Path) -> dict[str, dict[str, float]]:
    """The samples of earlier runs that outlive them, by metric and job; none from any other file."""
    found: dict[str, dict[str, float]] = {name: {} for name in (_LAST_SUCCESS, _LAST_RUN, _EXIT_CODE)}
    with suppress(OSError):
        for name, label, number in _KEPT.findall(path.read_bytes().decode("utf-8", "replace")):
            with suppress(ValueError):
                if math.isfinite(float(number)):
                    job = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], label)
                    found[name][job] = float(number)
    return found


# --- over OTLP ------------------------------------------------------------------------------------------

_ENDPOINTS: Final = tuple(f"OTEL_EXPORTER_OTLP_{kind}ENDPOINT" for kind in ("", "TRACES_", "METRICS_"))
_EXPORTER: Final = "opentelemetry.exporter.otlp.proto.http"
_EVERY_SECONDS: Final = 10.0
_SECONDS: Final = 10.0  # for what is exported at the end


def configured_telemetry(environ: Mapping[str, str]) -> TelemetryListener | None:
    """The listener, if the variables of OpenTelemetry name an endpoint and `propsync[otel]` is installed."""
    disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or not any(environ.get(name) for name in _ENDPOINTS):
        return None
    with suppress(ModuleNotFoundError):  # not even the package around it
        if find_spec(_EXPORTER) and find_spec("opentelemetry.sdk"):
            return TelemetryListener(environ)
    return None


class TelemetryListener:
    """Exports the metrics of `--metrics-file` every 10 s, and at the end once more with a span of the run.

    The run waits for that at its end for 10 s at most; StateError is raised if the span didn't arrive.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._began = time.time_ns()
        self._values = MetricValues(began=CLOCK())
        self._provider: MeterProvider | None = None
        self._instruments: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Note what happened; at the end, export it."""
        self._values.note(event, CLOCK)
        # Not before the start: threads would forbid the second process of the run.
        if isinstance(event, Started | Ended):
            self._observe()
        if isinstance(event, Ended):
            arrived: list[bool] = []
            thread = Thread(target=lambda: arrived.append(self._export(event.summary)), daemon=True)
            thread.start()
            thread.join(_SECONDS)
            if arrived != [True]:
                raise StateError("the telemetry of the run was not delivered to the OTLP endpoint")

    def _observe(self) -> None:
        """Create an instrument for each family of metrics that has none yet."""
        import logging

        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.metrics import Observation
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        if self._provider is None:
            logging.getLogger("opentelemetry").disabled = True
            exporter = OTLPMetricExporter(timeout=_SECONDS / 2)
            reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1000 * _EVERY_SECONDS)
            self._provider = MeterProvider([reader], self._resource(), shutdown_on_exit=False)
        meter = self._provider.get_meter("propsync")

        def observe(_: CallbackOptions, *, family: str) -> Iterator[Observation]:
            job = self._values.summary.job
            for name, _kind, _text, samples in metric_families(self._values):
                if name == family:
                    yield from (Observation(value, {"job": job, **own}) for own, value in samples)

        for name, kind, text, _ in metric_families(self._values):
            if name not in self._instruments:
                self._instruments.add(name)
                counter, gauge = meter.create_observable_counter, meter.create_observable_gauge
                # A collector adds the unit and `_total` itself.
                plain = name.removesuffix("_total")
                callbacks = [partial(observe, family=name)]
                (counter if kind == "counter" else gauge)(plain, callbacks, description=text)

    def _resource(self) -> Any:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource

        # The name that OpenTelemetry's own variables give wins.
        return Resource.create({"service.name": "propsync"}).merge(OTELResourceDetector().detect())

    def _export(self, summary: Summary) -> bool:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.propagate import extract
        from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
        from opentelemetry.sdk.trace.export import SpanExportResult
        from opentelemetry.trace import Status, StatusCode

        parent = extract(
            {name.lower(): self._environ.get(name, "") for name in ("TRACEPARENT", "TRACESTATE")}
        )
        tracer = TracerProvider(resource=self._resource(), shutdown_on_exit=False).get_tracer("propsync")
        span = tracer.start_span(f"propsync run {summary.job}", parent, start_time=self._began)
        for name, value in summary_dict(summary).items():
            if isinstance(value, str | int | float):
                span.set_attribute(f"propsync.{name}", value)
        wrong = Status(StatusCode.ERROR, summary.reason)
        span.set_status(wrong if summary.failed else Status(StatusCode.OK))
        span.end()
        exporter = OTLPSpanExporter(timeout=_SECONDS / 2)
        # It may be sampled out.
        arrived = not isinstance(span, ReadableSpan) or exporter.export([span]) is SpanExportResult.SUCCESS
        if self._provider is not None:
            self._provider.shutdown(timeout_millis=1000 * _SECONDS / 2)
        return arrived
