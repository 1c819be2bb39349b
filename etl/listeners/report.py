"""A run, or what it would do, as one HTML page that needs nothing but itself: no network, no script."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..remedies import REMEDIES
from ..run_events import Detailed, Ended, Event
from ..text import address, one_line, per_second, printable, share, size, span
from .output_file import check_writable, write_whole
from .phrases import workload
from .plan_summary import value_text
from .plots import PLOT_HEIGHT, PLOT_WIDTH, timeline_of
from .run_record import RunRecord, RunRecorder, masked_reason
from .summary import (
    ROW_ENDS,
    STAGES,
    WAITS,
    answer_seconds,
    answer_time,
    by_count,
    headline,
    seconds_by,
    time_spent,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..run_events import Timing

BAR_WIDTH: Final = 1000
_WORDY: Final = 40  # % of a bar in which its name and share fit, also on a phone; or its share alone
_NUMBERED: Final = 18
_LONGEST: Final = 120
_REASON: Final = 2_000
_LEAST_SECONDS: Final = 0.05  # which are shown as 0.1
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
    number="{:,}".format,
    share=share,
    size=size,
    by_count=by_count,
    brief=brief,
    span=span,
    per_second=per_second,
)


class ReportListener:
    """Writes a page about the run to `path` when it ends: to be kept, mailed and read by people.

    `command` returns, at the end, what to run next if the run is unfinished, and `past` the runs before it;
    `now` is the time of day. With `mask` it has no examples of rejects; else only its owner may read it.
    Raises UsageError or StateError at once if the file can't be written, and StateError if it can't be at the
    end.
    """

    def __init__(
        self,
        path: Path,
        *,
        command: Callable[[], str | None] = lambda: None,
        past: Callable[[], Sequence[RunRecord]] = tuple,
        mask: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        check_writable(path)
        for name in PAGES.list_templates():
            PAGES.get_template(name)  # now, since a new version may be installed before a long run ends
        self._path, self._command, self._past, self._mask = path, command, past, mask
        self._recorder = RunRecorder(now=now, mask=mask)

    def __call__(self, event: Event) -> None:
        """Note what happened; at the end, write the page."""
        self._recorder.note(event)
        if isinstance(event, Ended):
            record = self._recorder.record(event.summary)
            page = report_page(record, command=self._command(), past=self._past())
            write_whole(self._path, page, private=not self._mask)


def report_page(
    record: RunRecord,
    *,
    command: str | None = None,
    past: Sequence[RunRecord] = (),
    mask: bool = False,
) -> str:
    """The page of a run; `command` is what to run next if it is unfinished, `past` are the runs before it.

    With `mask` it has no examples of rejects.
    """
    summary = masked_reason(record.summary) if mask else record.summary
    started, tally = record.started, record.summary.tally
    details = record.details or Detailed()
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
    pauses = [seconds for _, seconds in record.pauses]
    return PAGES.get_template("run.html").render(
        summary=summary,
        headline=headline(summary),
        colour="fair" if rejected else _COLOURS[summary.status],
        started=started,
        destination=where,
        began=f"{record.began.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        ended=f"{record.ended.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        reasons=[line[:_REASON] for line in [*(summary.reason or "").splitlines(), summary.hint] if line],
        command=command,
        bar_label=", ".join(f"{kind} {n:,}" for kind, n in counts.items() if n) or "no rows",
        bar=bar_parts(counts),
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
        shares=_shares(summary.timing),
        answers={f"answer, {name}": answer_time(s) for name, s in answer_seconds(summary.timing).items()},
        warnings=record.warnings,
        timeline=timeline_of(record),
        plot_width=PLOT_WIDTH,
        plot_height=PLOT_HEIGHT,
        paused_for=record.paused_for,
        details=details,
        examples=() if mask else details.examples,
        left_out=defaultdict(int, record.left_out),
        remedies=REMEDIES,
        past=past,
    )


def _shares(timing: Timing | None) -> list[tuple[str, list[tuple[str, str, float]]]]:
    """Where the time went: for the waits and for the stages the seconds, and how long each bar is in %."""
    seconds, found = seconds_by(timing), []
    for title, names in (("while sending, waiting for", WAITS), ("busy making requests", STAGES)):
        own = {names[name]: seconds[name] for name in names if seconds.get(name, 0.0) >= _LEAST_SECONDS}
        longest = max(own.values(), default=1.0)
        rows = [(name, span(s), round(100 * s / longest, 2)) for name, s in own.items()]
        found += [(title, sorted(rows, key=lambda row: -row[2]))] if rows else []
    return found


def bar_parts(
    counts: Mapping[str, int], *, accepted: str = "accepted"
) -> list[tuple[str, float, float, str]]:
    """The parts of a bar: kind, place and width in %, and the words that fit; `accepted` are named so."""
    found, x, whole = [], 0.0, sum(counts.values())
    for kind, width in bar_widths(counts).items():
        wide, part = 100 * width / BAR_WIDTH, share(counts.get(kind, 0), whole)
        words = (
            f"{accepted if kind == 'accepted' else kind} {part}"
            if wide >= _WORDY
            else part
            if wide >= _NUMBERED
            else ""
        )
        found.append((kind, round(x, 2), round(wide, 2), words if whole else ""))
        x += wide
    return found


def bar_widths(counts: Mapping[str, int]) -> dict[str, float]:
    """Share BAR_WIDTH out: every part that isn't empty can be seen, and together they fill the bar."""
    parts = {kind: count for kind, count in counts.items() if count > 0}
    if not parts:
        return {"open": float(BAR_WIDTH)}
    free = BAR_WIDTH - _THINNEST * len(parts)
    whole = sum(parts.values())
    return {kind: _THINNEST + free * count / whole for kind, count in parts.items()}
