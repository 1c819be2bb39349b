"""A run as OpenTelemetry sees it: its metrics while it goes on, and one span, over OTLP."""

from __future__ import annotations

import time
from importlib.util import find_spec
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from ..errors import ExitCode, StateError
from ..run_events import Ended, Event, Started, Summary
from .metrics import MetricsCollector, metric_families
from .summary import summary_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.sdk.metrics import MeterProvider

_ENDPOINTS: Final = tuple(f"OTEL_EXPORTER_OTLP_{kind}ENDPOINT" for kind in ("", "TRACES_", "METRICS_"))
_EXPORTER: Final = "opentelemetry.exporter.otlp.proto.http"
_EVERY_SECONDS: Final = 10.0
_SECONDS: Final = 10.0  # for what is exported at the end


def configured_telemetry(environ: Mapping[str, str]) -> TelemetryListener | None:
    """The listener, if the variables of OpenTelemetry name an endpoint and `propsync[otel]` is installed."""
    disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or not any(environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        installed = find_spec(_EXPORTER) is not None and find_spec("opentelemetry.sdk") is not None
    except ModuleNotFoundError:  # not even the package around it
        installed = False
    return TelemetryListener(environ) if installed else None


class TelemetryListener:
    """Exports the metrics of `--metrics-file` every 10 s, and at the end once more with a span of the run.

    The run waits for that at its end for 10 s at most; StateError is raised if the span didn't arrive.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._began = time.time_ns()
        self._collector = MetricsCollector()
        self._provider: MeterProvider | None = None
        self._instruments: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Note what happened; at the end, export it."""
        self._collector(event)
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
        """Have an instrument for each family of metrics that there is by now."""
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

        def observing(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
            def observe(_: CallbackOptions) -> Iterable[Observation]:
                values = self._collector.values
                samples = (own for family, *_, own in metric_families(values) if family == name)
                return [Observation(value, {"job": values.job, **own}) for s in samples for own, value in s]

            return observe

        for name, kind, text, _ in metric_families(self._collector.values):
            if name not in self._instruments:
                self._instruments.add(name)
                counter, gauge = meter.create_observable_counter, meter.create_observable_gauge
                # A collector adds the unit and `_total` itself.
                plain = name.removesuffix("_total")
                (counter if kind == "counter" else gauge)(plain, [observing(name)], description=text)

    def _resource(self) -> Any:
        from opentelemetry.sdk.resources import Resource

        named = "OTEL_SERVICE_NAME" in self._environ or "service.name=" in self._environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        return Resource.create({} if named else {"service.name": "propsync"})

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
        failed = summary.exit_code not in {ExitCode.DONE, ExitCode.REJECTS}
        span.set_status(Status(StatusCode.ERROR, summary.reason) if failed else Status(StatusCode.OK))
        span.end()
        arrived = True
        if isinstance(span, ReadableSpan):  # it may be sampled out
            exported = OTLPSpanExporter(timeout=_SECONDS / 2).export([span])
            arrived = exported is SpanExportResult.SUCCESS
        if self._provider is not None:
            self._provider.shutdown(timeout_millis=1000 * _SECONDS / 2)
        return arrived
