"""A run as log lines, one for each event, for cron and log collectors."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from datetime import UTC
from typing import TYPE_CHECKING, Final, Literal

from ..run_events import Ended, Event, Noted, Paused, Progressed, Recovered, Started, Warned
from ..text import address, one_line, share, span
from .progress import CLOCK, RunClock, RunProgress, pause_phrases, started_text
from .summary import effort, headline, notes, row_phrases, summary_dict, tally_dict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import TextIO

_PROGRESS_SECONDS, _PAUSE_SECONDS = 30.0, 60.0
Level = Literal["info", "warning", "error"]
_ENDS: Final[Mapping[str, Level]] = {"stopped": "error", "interrupted": "warning"}


def json_line(level: Level, event: str, job: str, fields: Mapping[str, object], now: datetime) -> str:
    """Write an event as one line of strict JSON, which is ASCII, whatever the stream's encoding.

    Floats are to the millisecond, those without a value null.
    """
    values = {
        name: (round(value, 3) if math.isfinite(value) else None) if isinstance(value, float) else value
        for name, value in fields.items()
    }
    data = {"time": _in_utc(now), "level": level, "event": event, "job": job, **values}
    return json.dumps(data, allow_nan=False)


def _in_utc(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class LogListener:
    """Writes a line to `stream` for each event, and of frequent events only for some.

    Progress comes every 30 s; of one outage the first pause comes at once, then one every 60 s.
    JSON lines have `time` (ISO 8601, UTC), `level`, `event`, `job` and the event's fields, counts under the
    summary's keys. `job` is the name until a run begins.
    """

    def __init__(self, stream: TextIO, *, as_json: bool, job: str = "", clock: RunClock = CLOCK) -> None:
        self._stream, self._as_json, self._job, self._clock = stream, as_json, job, clock
        self._progress = RunProgress(clock, window=2 * _PROGRESS_SECONDS)
        self._progress_due = clock() + _PROGRESS_SECONDS
        self._pause_due = -math.inf

    def __call__(self, event: Event) -> None:
        """Write the event's line, if it is time for one."""
        self._progress.note(event)
        now = self._clock()
        match event:
            case Started():
                self._job, self._progress_due = event.job, now + _PROGRESS_SECONDS
                known = {name: getattr(event, name) for name in ("files", "total_rows", "total_bytes")}
                fields = {"endpoint": address(event.endpoint), **known, "resumed_rows": event.resumed.rows}
                self._write("info", "started", f"started, {started_text(event)}", fields)
            case Progressed() if now >= self._progress_due:
                self._progress_due = now + _PROGRESS_SECONDS
                self._tell_progress(now)
            case Paused() if now >= self._pause_due:
                self._pause_due = now + _PAUSE_SECONDS
                text = ", ".join(pause_phrases(event, event.seconds))
                self._write("warning", "paused", text, asdict(event))
            case Recovered(seconds):
                self._pause_due = -math.inf
                text = f"the destination takes requests again after {span(seconds)}"
                self._write("info", "recovered", text, asdict(event))
            case Warned(_, message):
                self._write("warning", "warned", message, asdict(event))
            case Noted(_, message):
                self._write("info", "noted", message, asdict(event))
            case Ended(summary):
                self._job = summary.job
                phrases = ", ".join([*row_phrases(summary.tally), *effort(summary)])
                text = f"{headline(summary)}: {phrases}. {' '.join(notes(summary))}"
                poor: Level = "warning" if summary.tally.rejected else "info"
                self._write(_ENDS.get(summary.status, poor), "ended", text, summary_dict(summary))

    def _tell_progress(self, now: float) -> None:
        progress = self._progress
        tally, total, rate, left = progress.tally, progress.whole, progress.pace.rate(now), progress.left()
        numbers = {"expected_rows": total, "rows_per_second": rate, "seconds_left": left}
        fields = {**tally_dict(tally), "total_rows": progress.total, **numbers}
        percent = "" if total is None else f" ({share(tally.rows, total)})"
        phrases = [progress.rows_text() + percent, *progress.pace_phrases("about {} left")]
        self._write("info", "progressed", ", ".join(phrases + progress.problem_phrases()), fields)

    def _write(self, level: Level, event: str, text: str, fields: Mapping[str, object]) -> None:
        if self._as_json:
            line = json_line(level, event, self._job, fields, self._clock.now())
        else:
            line = one_line(f"{_in_utc(self._clock.now())} {level.upper()} {self._job}: {text}")
        self._stream.write(line + "\n")
        self._stream.flush()
