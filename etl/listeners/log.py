"""A run as log lines, one for each event, for cron and log collectors."""

from __future__ import annotations

import json
import logging
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from ..model import Tally
from ..run_events import Ended, Event, Noted, Paused, Progressed, Recovered, Started, Summary, Warned
from ..text import address, counted, one_line, share, span
from .phrases import (
    ProgressRate,
    pause_phrases,
    problem_phrases,
    recovered_text,
    rows_text,
    started_text,
)
from .summary import ROW_ENDS, effort, headline, notes, summary_dict, tally_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

Level = Literal["info", "warning", "error"]


class TextFormatter(logging.Formatter):
    """Writes a record of `log_record` as one line for people."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's
        """Return the time in ISO 8601, in UTC, to the millisecond."""
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        job: str = record.__dict__["job"]
        return one_line(f"{self.formatTime(record)} {record.levelname} {job}: {record.getMessage()}")


class JsonFormatter(TextFormatter):
    """Writes a record of `log_record` as one line of strict JSON in ASCII, whatever the stream's encoding."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end; floats to the millisecond, those without a value as null."""
        head = {"time": self.formatTime(record), "level": record.levelname.lower()}
        fields = {
            name: (round(value, 3) if math.isfinite(value) else None) if isinstance(value, float) else value
            for name, value in record.__dict__["fields"].items()
        }
        event, job = record.__dict__["event"], record.__dict__["job"]
        return json.dumps({**head, "event": event, "job": job, **fields}, allow_nan=False)


def log_record(
    level: Level, event: str, job: str, text: str, fields: Mapping[str, object], now: datetime
) -> logging.LogRecord:
    """Make the record of an event: `text` is for people, `fields` are for programs."""
    record = logging.LogRecord("propsync", getattr(logging, level.upper()), "", 0, text, None, None)
    record.created = now.timestamp()
    record.__dict__.update(event=event, job=job, fields=fields)
    return record


class LogListener:
    """Writes a line to `stream` for each event, and of frequent events only for some.

    Progress comes every `progress_seconds`; of one outage the first pause comes at once, then one every
    `pause_seconds`.
    JSON lines have `time` (ISO 8601, UTC), `level`, `event`, `job` and the event's fields, counts under the
    summary's keys. `job` is the name until a run begins. `clock` is in seconds and never goes back; `now` is
    the time of day.
    """

    def __init__(
        self,
        stream: TextIO,
        log_format: Literal["text", "json"] = "text",
        *,
        job: str = "",
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        progress_seconds: float = 30.0,
        pause_seconds: float = 60.0,
    ) -> None:
        self._stream, self._clock, self._now = stream, clock, now
        self._formatter = JsonFormatter() if log_format == "json" else TextFormatter()
        self._progress_seconds, self._pause_seconds = progress_seconds, pause_seconds
        self._job = job
        self._total_rows: int | None = None
        self._rate = ProgressRate(0, clock())
        self._progress_due = clock() + progress_seconds
        self._pause_due = -math.inf

    def __call__(self, event: Event) -> None:
        """Write the event's line, if it is time for one."""
        match event:
            case Started():
                self._start(event)
            case Progressed():
                self._progress(event.tally, event.expected_rows)
            case Paused():
                self._pause(event)
            case Recovered(seconds):
                self._pause_due = -math.inf
                self._write("info", "recovered", recovered_text(event), {"seconds": seconds})
            case Warned(code, message):
                self._write("warning", "warned", message, {"code": code, "message": message})
            case Noted(code, message):
                self._write("info", "noted", message, {"code": code, "message": message})
            case Ended(summary):
                self._end(summary)

    def _start(self, event: Started) -> None:
        self._job, self._total_rows = event.job, event.total_rows
        self._rate = ProgressRate(event.resumed.rows, self._clock(), window=2 * self._progress_seconds)
        self._progress_due = self._clock() + self._progress_seconds
        fields = {
            "endpoint": address(event.endpoint),
            "files": event.files,
            "total_rows": event.total_rows,
            "total_bytes": event.total_bytes,
            "resumed_rows": event.resumed.rows,
        }
        self._write("info", "started", f"started, {started_text(event)}", fields)

    def _progress(self, tally: Tally, expected: int | None) -> None:
        now, known = self._clock(), self._total_rows
        total = expected if known is None else known
        self._rate.note(tally.rows, now)
        if now < self._progress_due:
            return
        self._progress_due = now + self._progress_seconds
        rate, left = self._rate.rate(now), self._rate.left(total, now)
        numbers = {"expected_rows": total, "rows_per_second": rate, "seconds_left": left}
        fields = {**tally_dict(tally), "total_rows": known, **numbers}
        percent = "" if total is None else f" ({share(tally.rows, total)})"
        phrases = [rows_text(tally, known, expected) + percent, f"{rate:,.0f} rows/s"]
        phrases += [f"about {span(left)} left"] if left is not None else []
        self._write("info", "progressed", ", ".join(phrases + problem_phrases(tally)), fields)

    def _pause(self, event: Paused) -> None:
        now = self._clock()
        if now < self._pause_due:
            return
        self._pause_due = now + self._pause_seconds
        names = ("reason", "seconds", "outage_seconds", "attempt", "status", "seconds_left")
        fields = {name: getattr(event, name) for name in names}
        self._write("warning", "paused", ", ".join(pause_phrases(event, event.seconds)), fields)

    def _end(self, summary: Summary) -> None:
        self._job, tally = summary.job, summary.tally
        ends = [f"{getattr(tally, end):,} {end}" for end in ROW_ENDS]
        phrases = ", ".join([counted(tally.rows, "row"), *ends, *effort(summary)])
        level: Level = "warning" if summary.status == "interrupted" or tally.rejected else "info"
        text = f"{headline(summary)}: {phrases}. {' '.join(notes(summary))}"
        self._write("error" if summary.status == "stopped" else level, "ended", text, summary_dict(summary))

    def _write(self, level: Level, event: str, text: str, fields: Mapping[str, object]) -> None:
        record = log_record(level, event, self._job, text, fields, self._now())
        self._stream.write(self._formatter.format(record) + "\n")
        self._stream.flush()
