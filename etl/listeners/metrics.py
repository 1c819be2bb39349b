"""A file in Prometheus' text format that is whole at every instant and current to within seconds."""

from __future__ import annotations

import math
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, TypeAlias, get_args, get_type_hints

from etl.listeners.summary import ROW_ENDS
from etl.listeners.whole_file import check_writable, write_whole
from etl.model import Ended, Event, Paused, Progressed, Recovered, Started, Summary, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

STATUSES: Final = ("running", *get_args(get_type_hints(Summary)["status"]))
_LAST_SUCCESS: Final = "propsync_last_success_timestamp_seconds"
_LAST_RUN: Final = "propsync_last_run_timestamp_seconds"
_EXIT_CODE: Final = "propsync_exit_code"
# What outlives the run of which it tells.
_KEPT: Final = re.compile(rf'^({_LAST_SUCCESS}|{_LAST_RUN}|{_EXIT_CODE}){{job="((?:[^"\\]|\\.)*)"}} (\S+)$')
_OUTAGE: Final = "How long the destination has been taking no requests; 0 while it does."
_COSTS: Final = {
    "requests": "Requests sent, retries among them.",
    "retries": "Requests that sent the same bytes again.",
    "throttled": "Answers by which the destination slowed the job down.",
    "in_doubt": "Answers that left open whether the request was applied.",
    "uncounted": "Events that were sent and taken, and that the server did not count.",
    "bytes": "Bytes of request bodies sent.",
}


@dataclass(slots=True)
class Reading:
    """What the file says: `seconds` of this process, times in seconds since the epoch.

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


class MetricsListener:
    """Keeps `path` current: at the start, every `every_seconds` while events come, and at the end.

    The time of the last success is carried over from the file that is there, so that it survives runs that
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
        self._path, self._clock, self._now, self._every_seconds = path, clock, now, every_seconds
        self._began = clock()
        self._due = self._began
        self._reading = Reading("")

    def __call__(self, event: Event) -> None:
        """Take in what happened, and write the file if it is time."""
        reading = self._reading
        match event:
            case Started():
                self._start(event)
            case Progressed(tally):
                reading.tally = tally
            case Paused():
                reading.outage_seconds = event.outage_seconds
            case Recovered():
                reading.outage_seconds = 0.0
            case Ended(summary):
                self._end(summary)
        if self._clock() >= self._due:
            self._write()

    def _start(self, event: Started) -> None:
        self._began = self._due = self._clock()
        kept = _kept(self._path)
        code = kept[_EXIT_CODE].get(event.job)
        self._reading = Reading(
            event.job,
            event.resumed,
            event.resumed.rows,
            event.total_rows,
            last_success=kept[_LAST_SUCCESS].get(event.job),
            exit_code=None if code is None else int(code),
            last_run=kept[_LAST_RUN].get(event.job),
        )

    def _end(self, summary: Summary) -> None:
        reading, began = self._reading, bool(self._reading.job)
        reading.job, reading.tally, reading.status = summary.job, summary.tally, summary.status
        reading.exit_code, reading.last_run = summary.exit_code, self._now()
        reading.resumed_rows, reading.rejects_by_code = summary.resumed_rows, summary.rejects_by_code
        reading.skipped_values = summary.skipped_values
        reading.outage_seconds = 0.0
        if summary.status == "finished":
            reading.last_success = self._now()
        elif not began:
            # The job's own name may be unknown, where its file can't be read.
            reading.successes = _kept(self._path)[_LAST_SUCCESS]
            reading.last_success = reading.successes.pop(summary.job, None)
        self._due = self._clock()

    def _write(self) -> None:
        if not self._reading.job:
            return
        self._due = self._clock() + self._every_seconds
        self._reading.seconds = self._clock() - self._began
        write_whole(self._path, metrics_text(self._reading))


Labels: TypeAlias = dict[str, str]
Family: TypeAlias = tuple[str, str, str, list[tuple[Labels, float]]]  # name, type, help, samples


def metrics_text(reading: Reading) -> str:
    """Write the whole file: every family with its help and type, every sample labelled with the job."""
    lines = []
    for name, kind, text, samples in [*_counters(reading), *_gauges(reading)]:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        lines += [_sample(name, {"job": reading.job, **labels}, value) for labels, value in samples]
    return "\n".join(lines) + "\n"


def _counters(reading: Reading) -> Iterator[Family]:
    tally, codes = reading.tally, reading.rejects_by_code
    ends: list[tuple[Labels, float]] = [({"outcome": end}, getattr(tally, end)) for end in ROW_ENDS]
    yield "propsync_rows_total", "counter", "Committed rows by outcome, since the checkpoint began.", ends
    if codes:
        text = "Rejected rows by the reject's code; told at the end of a run."
        yield "propsync_rejects_total", "counter", text, [({"code": code}, codes[code]) for code in codes]
    if reading.skipped_values:
        text = "Values left out of rows by the job's wish; told at the end of a run."
        left_out: list[tuple[Labels, float]] = [
            ({"column": name}, sum(by.values())) for name, by in reading.skipped_values.items()
        ]
        yield "propsync_skipped_values_total", "counter", text, left_out
    for name, text in _COSTS.items():
        yield f"propsync_{name}_total", "counter", text, [({}, getattr(tally, name))]


def _gauges(reading: Reading) -> Iterator[Family]:
    yield (
        "propsync_build_info",
        "gauge",
        "1, for the version that wrote this.",
        [({"version": _version()}, 1)],
    )
    for name, text, value in (
        ("propsync_source_rows", "Rows of the source.", reading.source_rows),
        ("propsync_resumed_rows", "Rows that earlier runs had committed.", reading.resumed_rows),
        ("propsync_run_seconds", "How long this run has taken so far.", reading.seconds),
        ("propsync_outage_seconds", _OUTAGE, reading.outage_seconds),
    ):
        if value is not None:
            yield name, "gauge", text, [({}, value)]
    successes: list[tuple[Labels, float]] = [({"job": job}, at) for job, at in reading.successes.items()]
    successes += _if_known(reading.last_success)
    if successes:
        yield _LAST_SUCCESS, "gauge", "When a run last finished, rejects or not.", successes
    yield _LAST_RUN, "gauge", "When the latest run ended, however it did.", _if_known(reading.last_run)
    yield _EXIT_CODE, "gauge", "Exit code of the latest run that ended.", _if_known(reading.exit_code)
    states: list[tuple[Labels, float]] = [({"status": s}, int(s == reading.status)) for s in STATUSES]
    yield "propsync_run_status", "gauge", "1 for the state of the latest run, 0 for the others.", states


def _if_known(value: float | None) -> list[tuple[Labels, float]]:
    return [] if value is None else [({}, value)]


def _version() -> str:
    try:
        return version("propsync")
    except PackageNotFoundError:  # run from a checkout that isn't installed
        return "unknown"


def _sample(name: str, labels: Labels, value: float) -> str:
    shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{shown}}} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _kept(path: Path) -> dict[str, dict[str, float]]:
    """What earlier runs left in the file that outlives them, by metric and job; nothing in any other file."""
    found: dict[str, dict[str, float]] = {name: {} for name in (_LAST_SUCCESS, _LAST_RUN, _EXIT_CODE)}
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return found
    for line in text.split("\n"):
        match = _KEPT.match(line)
        with suppress(ValueError):
            if match is not None and math.isfinite(float(match[3])):
                found[match[1]][_unescaped(match[2])] = float(match[3])
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text)
