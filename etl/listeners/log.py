"""A run as log lines, one an event and never more than a line, for cron and log collectors."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from etl.listeners import sentences
from etl.listeners.pace import Pace
from etl.listeners.summary import ROW_ENDS, effort, headline, notes, summary_dict, tally_dict
from etl.model import Ended, Event, Noted, Paused, Progressed, Recovered, Started, Summary, Tally, Warned
from etl.wording import address, counted, one_line, span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

Level = Literal["info", "warning", "error"]


class LogListener:
    """Writes a line to `stream` for what happens, and of what happens often only some.

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
        self._stream, self._format, self._clock, self._now = stream, log_format, clock, now
        self._progress_seconds, self._pause_seconds = progress_seconds, pause_seconds
        self._job = job
        self._total_rows: int | None = None
        self._pace = Pace(0, clock())
        self._progress_due = clock() + progress_seconds
        self._pause_due = -math.inf

    def __call__(self, event: Event) -> None:
        """Write the event's line, if it is time for one."""
        match event:
            case Started():
                self._start(event)
            case Progressed(tally):
                self._progress(tally)
            case Paused():
                self._pause(event)
            case Recovered(seconds):
                self._pause_due = -math.inf
                self._write("info", "recovered", sentences.recovered(event), {"seconds": seconds})
            case Warned(code, message):
                self._write("warning", "warned", message, {"code": code, "message": message})
            case Noted(code, message):
                self._write("info", "noted", message, {"code": code, "message": message})
            case Ended(summary):
                self._end(summary)

    def _start(self, event: Started) -> None:
        self._job, self._total_rows = event.job, event.total_rows
        self._pace = Pace(event.resumed.rows, self._clock(), window=2 * self._progress_seconds)
        self._progress_due = self._clock() + self._progress_seconds
        fields = {
            "endpoint": address(event.endpoint),
            "files": event.files,
            "total_rows": event.total_rows,
            "total_bytes": event.total_bytes,
            "resumed_rows": event.resumed.rows,
        }
        self._write("info", "started", f"started, {sentences.started(event)}", fields)

    def _progress(self, tally: Tally) -> None:
        now = self._clock()
        self._pace.note(tally.rows, now)
        if now < self._progress_due:
            return
        self._progress_due = now + self._progress_seconds
        rate, left = self._pace.rate(now), self._left(now)
        fields = {
            **tally_dict(tally),
            "total_rows": self._total_rows,
            "rows_per_second": rate,
            "seconds_left": left,
        }
        part = sentences.part(tally, self._total_rows)
        phrases = [
            sentences.done(tally, self._total_rows) + (f" ({part})" if part else ""),
            f"{rate:,.0f} rows/s",
        ]
        phrases += [f"about {span(left)} left"] if left is not None else []
        self._write("info", "progressed", ", ".join(phrases + sentences.troubles(tally)), fields)

    def _left(self, now: float) -> float | None:
        return None if self._total_rows is None else self._pace.left(self._total_rows, now)

    def _pause(self, event: Paused) -> None:
        now = self._clock()
        if now < self._pause_due:
            return
        self._pause_due = now + self._pause_seconds
        fields = {
            "reason": event.reason,
            "seconds": event.seconds,
            "outage_seconds": event.outage_seconds,
            "attempt": event.attempt,
            "status": event.status,
            "seconds_left": event.seconds_left,
        }
        self._write("warning", "paused", ", ".join(sentences.pause_phrases(event, event.seconds)), fields)

    def _end(self, summary: Summary) -> None:
        self._job = summary.job
        counts = [counted(summary.tally.rows, "row")]
        counts += [f"{getattr(summary.tally, end):,} {end}" for end in ROW_ENDS]
        phrases = ", ".join(counts + effort(summary))
        text = f"{headline(summary)}: {phrases}. {' '.join(notes(summary))}"
        self._write(_level(summary), "ended", text, summary_dict(summary))

    def _write(self, level: Level, event: str, text: str, fields: Mapping[str, object]) -> None:
        moment = self._now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._format == "json":
            line = _json({"time": moment, "level": level, "event": event, "job": self._job, **fields})
        else:
            line = one_line(f"{moment} {level.upper()} {self._job}: {text}")
        self._stream.write(line + "\n")
        self._stream.flush()


def _level(summary: Summary) -> Level:
    if summary.status == "stopped":
        return "error"
    return "warning" if summary.status == "interrupted" or summary.tally.rejected else "info"


def _json(fields: Mapping[str, object]) -> str:
    """One line of strict JSON in ASCII, whatever the stream's encoding; floats to the millisecond."""
    return json.dumps({name: _plain(value) for name, value in fields.items()}, allow_nan=False)


def _plain(value: object) -> object:
    if not isinstance(value, float):
        return value
    return round(value, 3) if math.isfinite(value) else None
