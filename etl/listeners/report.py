"""A run, or what it would do, as one HTML page that needs nothing but itself: no network, no script."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..run_events import Ended, Event
from ..text import address, one_line, per_second, printable, share, size, span
from .output_file import check_writable, write_whole
from .phrases import workload
from .plan_summary import value_text
from .run_record import RunRecord, RunRecorder
from .summary import (
    ROW_ENDS,
    answer_seconds,
    answer_time,
    by_count,
    headline,
    seconds_by,
    time_spent,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

BAR_WIDTH: Final = 1000
_HEIGHT: Final = 120
_LEAST_POINTS: Final = 4
_LONGEST: Final = 120
_THINNEST: Final = 4  # of BAR_WIDTH: one rejected row in a million must still be seen
_MEANINGS: Final = {
    "accepted": "taken in by the destination",
    "unchanged": "no update needed",
    "merged": "sent together with another row of the same user",
    "rejected": "could not be sent; rejects.ndjson in the state folder has each with its reason",
}
_COLOURS: Final = {"stopped": "bad", "interrupted": "fair", "limited": "good", "finished": "good"}


def _harmless(value: object) -> object:
    """Replace what can't be printed; marks that turn the reading direction would survive escaping."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def brief(value: object) -> str:
    """A value on one line of at most 120 characters."""
    text = one_line(value) if isinstance(value, str) else value_text(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\u2026"


PAGES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    finalize=_harmless,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
PAGES.filters.update(
    number="{:,}".format, share=share, by_count=by_count, brief=brief, span=span, per_second=per_second
)


class ReportListener:
    """Writes a page about the run to `path` when it ends: to be kept, mailed and read by people.

    `command` returns, at the end, what to run next if the run is unfinished; `now` is the time of day.
    Raises UsageError or StateError at once if the file can't be written, and StateError if it can't be at the
    end.
    """

    def __init__(
        self,
        path: Path,
        *,
        command: Callable[[], str | None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        check_writable(path)
        for name in PAGES.list_templates():
            PAGES.get_template(name)  # now, since a new version may be installed before a long run ends
        self._path, self._command, self._recorder = path, command, RunRecorder(now=now)

    def __call__(self, event: Event) -> None:
        """Note what happened; at the end, write the page."""
        self._recorder.note(event)
        if isinstance(event, Ended):
            record = self._recorder.record(event.summary)
            write_whole(self._path, report_page(record, command=self._command()))


def report_page(record: RunRecord, *, command: str | None = None, past: Sequence[RunRecord] = ()) -> str:
    """The page of a run; `command` is what to run next if it is unfinished, `past` are the runs before it."""
    summary, started, tally = record.summary, record.started, record.summary.tally
    pauses = [seconds for _, seconds in record.pauses]
    where = f"{summary.status} before the first row"
    if started is not None:
        where = f"{workload(started)} to {address(started.endpoint)}"
    counts = {end: getattr(tally, end) for end in ROW_ENDS}
    parts = {end: share(n, tally.rows) if tally.rows else "" for end, n in counts.items()}
    ends = [(end, end, _MEANINGS[end], n, parts[end]) for end, n in counts.items()]
    # Rows that the source has and the run didn't come to, as far as is known.
    total = (started.total_rows if started else None) or 0
    open_rows = max(total - tally.rows, 0) if summary.status != "finished" else 0
    if open_rows:
        ends.append(("open", "not committed", "left for the next run", open_rows, ""))
    counts["open"] = open_rows
    rejected = summary.status in {"finished", "limited"} and tally.rejected
    bar, x = [], 0.0
    for kind, width in bar_widths(counts).items():
        bar.append((kind, round(x, 2), round(width, 2)))
        x += width
    timing = summary.timing
    seconds = {name: span(value) for name, value in seconds_by(timing).items()}
    seconds |= {f"answer, {name}": answer_time(s) for name, s in answer_seconds(timing).items()}
    return PAGES.get_template("run.html").render(
        summary=summary,
        headline=headline(summary),
        colour="fair" if rejected else _COLOURS[summary.status],
        started=started,
        destination=where,
        began=f"{record.began.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        ended=f"{record.ended.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        reasons=[*(summary.reason or "").splitlines(), *([summary.hint] if summary.hint else [])],
        command=command,
        bar_width=BAR_WIDTH,
        bar_label=", ".join(f"{kind} {n:,}" for kind, n in counts.items() if n) or "no rows",
        bar=bar,
        ends=ends,
        effort={
            "duration": span(summary.seconds),
            "speed": per_second(tally.rows, summary.seconds),
            "requests": f"{tally.requests:,}",
            "bytes sent": size(tally.bytes),
            "retries": f"{tally.retries:,}",
            "throttled": f"{tally.throttled:,}",
            "pauses": f"{len(pauses):,} ({span(sum(pauses))})" if pauses else "0",
            "answers in doubt": f"{tally.in_doubt:,}",
            "events not counted": f"{tally.uncounted:,}",
        },
        time_spent=time_spent(summary.timing),
        seconds=seconds,
        warnings=record.warnings,
        speed=_speed(record),
        past=past,
    )


def _speed(record: RunRecord) -> dict[str, object] | None:
    """Rows a second over the time of a run, as points of a line; None if it was too short to tell.

    The pauses of the destination are stretches behind the line.
    """
    points = record.series
    if len(points) < _LEAST_POINTS:
        return None
    steps = list(pairwise(points))
    rates = [(now[1] - before[1]) / max(now[0] - before[0], 0.001) for before, now in steps]
    most, whole = max(*rates, 1.0), points[-1][0]
    scaled = [
        f"{now[0] / whole * BAR_WIDTH:.1f},{_HEIGHT - rate / most * _HEIGHT:.1f}"
        for (_, now), rate in zip(steps, rates, strict=True)
    ]
    pauses = [
        (round(at / whole * BAR_WIDTH, 1), round(min(seconds / whole, 1) * BAR_WIDTH, 1))
        for at, seconds in record.pauses
    ]
    return {"line": " ".join(scaled), "pauses": pauses, "height": _HEIGHT, "most": most, "seconds": whole}


def bar_widths(counts: Mapping[str, int]) -> dict[str, float]:
    """Share BAR_WIDTH out: every part that isn't empty can be seen, and together they fill the bar."""
    parts = {kind: count for kind, count in counts.items() if count > 0}
    if not parts:
        return {"open": float(BAR_WIDTH)}
    free = BAR_WIDTH - _THINNEST * len(parts)
    whole = sum(parts.values())
    return {kind: _THINNEST + free * count / whole for kind, count in parts.items()}
