"""What an OTLP receiver gets of a run; parsed by the exporter's own protobuf types."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.test_every_end import ENDS, Night
from tests.acceptance.test_every_end import night as night
from tests.serving import Receiver, running_receiver

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with running_receiver() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
        yield running


def parsed(receiver: Receiver, path: str, kind: type[Any]) -> list[Any]:
    found = []
    for request in receiver.requests:
        if request.path == path:
            zipped = request.headers.get("content-encoding") == "gzip"
            found.append(kind.FromString(gzip.decompress(request.body) if zipped else request.body))
    return found


def attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@pytest.mark.parametrize("end", ["all is well", "rows came back", "nothing gets through", "no key"])
def test_a_run_is_a_span_and_metrics(night: Night, receiver: Receiver, end: str) -> None:
    prepare, code, status, _ = ENDS[end]
    finished = night(*prepare(night))
    assert finished.code == code
    (spans,) = parsed(receiver, "/v1/traces", ExportTraceServiceRequest)
    (resource,) = spans.resource_spans
    assert attributes(resource.resource.attributes)["service.name"] == "propsync"
    (span,) = resource.scope_spans[0].spans
    told = attributes(span.attributes)
    assert span.name == "propsync run job"
    assert span.start_time_unix_nano < span.end_time_unix_nano
    for key in ("exit_code", "status", "rows", "accepted", "rejected"):
        assert told[f"propsync.{key}"] == finished.summary[key]
    assert (span.status.code, span.status.message) == (
        (1, "") if code in {0, 3} else (2, finished.summary["reason"])
    )
    last = parsed(receiver, "/v1/metrics", ExportMetricsServiceRequest)[-1]
    assert values(last)["propsync_exit_code"] == {(): code}
    assert values(last)["propsync_run_status"][("status", status),] == 1
    rows = {outcome: int(count) for ((_, outcome),), count in values(last)["propsync_rows"].items()}
    assert rows == {name: finished.summary[name] for name in rows}


def values(request: Any) -> dict[str, dict[Any, float]]:
    """The points of each metric by their labels, which have the job."""
    found: dict[str, dict[Any, float]] = {}
    for metric in request.resource_metrics[0].scope_metrics[0].metrics:
        points = getattr(metric, metric.WhichOneof("data")).data_points
        for point in points:
            labels = attributes(point.attributes)
            assert labels.pop("job") == "job"
            value = getattr(point, point.WhichOneof("value"))
            found.setdefault(metric.name, {})[tuple(labels.items())] = value
    return found


def test_every_metric_of_the_file_is_exported(night: Night, receiver: Receiver) -> None:
    night()
    exported = set(values(parsed(receiver, "/v1/metrics", ExportMetricsServiceRequest)[-1]))
    lines = (night.folder / "night.prom").read_text().splitlines()
    written = {line.split()[2].removesuffix("_total") for line in lines if line.startswith("# TYPE")}
    written = {
        name for name in written if any(line.startswith((f"{name}{{", f"{name}_total{{")) for line in lines)
    }
    assert exported == written


def test_the_span_belongs_to_the_trace_of_its_caller(
    night: Night, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    monkeypatch.setenv("TRACEPARENT", f"00-{trace}-{parent}-01")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "nightly")
    night()
    (spans,) = parsed(receiver, "/v1/traces", ExportTraceServiceRequest)
    (span,) = spans.resource_spans[0].scope_spans[0].spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (trace, parent)
    assert attributes(spans.resource_spans[0].resource.attributes)["service.name"] == "nightly"


def test_a_receiver_that_refuses_is_a_warning(night: Night, receiver: Receiver) -> None:
    receiver.statuses = [400] * 9
    finished = night()
    assert finished.code == 3
    assert "the telemetry of the run was not delivered to the OTLP endpoint" in finished.err


@pytest.mark.parametrize("variable", ["OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER"])
def test_what_is_switched_off_stays_away(
    night: Night, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "true" if variable == "OTEL_SDK_DISABLED" else "always_off")
    finished = night()
    assert "not delivered" not in finished.err
    assert ("/v1/metrics" in receiver.paths) == (variable == "OTEL_TRACES_SAMPLER")
    assert "/v1/traces" not in receiver.paths


def test_without_the_extra_nothing_changes(
    night: Night, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry.exporter")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("etl.listeners.metrics._EXPORTER", "opentelemetry.exporter.absent.http")
    assert night().code == 3
    assert receiver.requests == []
