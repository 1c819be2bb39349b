"""A run or a plan as one self-contained HTML page, without network and scripts."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..errors import REMEDIES, SKIP_REMEDIES
from ..run_events import Detailed, Ended, Event
from ..state_files import check_writable, write_whole
from ..tally import ROW_ENDS
from ..text import address, counted, one_line, per_second, printable, share, shortened, size, span
from .plan_text import distinct_of, effort_of, has_known_users, options_text, other_rates, value_text
from .progress import CLOCK, RunClock, workload
from .run_record import RunRecord, RunRecorder
from .summary import STAGES, WAITS, answer_seconds, answer_time, by_count, headline, seconds_by, time_spent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ..run_events import Timing

_WORDY: Final = 40  # % of a bar in which its name and share fit, also on a phone; or its share alone
_NUMBERED: Final = 18
_LONGEST: Final = 120
_LEAST_SECONDS: Final = 0.05  # which are shown as 0.1
_THINNEST: Final = 0.4  # % of a bar: one rejected row in a million must still be seen
_MOST_SHOWN: Final = 200  # of properties and of kinds of faults of a plan; the JSON has all


def _harmless(value: object) -> object:
    """Replace what can't be printed: marks that change the reading direction would survive escaping."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def brief(value: object) -> str:
    """A value on one line of at most 120 characters."""
    return shortened(one_line(value) if isinstance(value, str) else value_text(value), _LONGEST)


PAGES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    finalize=_harmless,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)


class ReportListener:
    """Writes a page about the run to `path` when it ends: to be kept, mailed and read by people.

    `command` returns, at the end, what to run next if the run is unfinished, and `past` the runs before it.
    With `mask` it has no examples of rejects; else only its owner may read it. Raises UsageError or
    StateError at once if the file can't be written, and StateError if it can't be at the end.
    """

    def __init__(
        self,
        path: Path,
        *,
        command: Callable[[], str | None] = lambda: None,
        past: Callable[[], Sequence[RunRecord]] = tuple,
        mask: bool = False,
        clock: RunClock = CLOCK,
    ) -> None:
        check_writable(path)
        for name in PAGES.list_templates():
            PAGES.get_template(name)  # now, since a new version may be installed before a long run ends
        self._path, self._command, self._past, self._mask = path, command, past, mask
        self._recorder = RunRecorder(clock=clock, mask=mask)

    def __call__(self, event: Event) -> None:
        """Note what happened; at the end, write the page."""
        self._recorder.note(event)
        if isinstance(event, Ended):
            record = self._recorder.record(event.summary)
            page = report_page(record, command=self._command(), past=self._past())
            write_whole(self._path, page, private=not self._mask)


def report_page(record: RunRecord, *, command: str | None = None, past: Sequence[RunRecord] = ()) -> str:
    """The page of a run; `command` is what to run next if it is unfinished, `past` are the runs before it."""
    summary, started = record.summary, record.started
    counts = {end: getattr(summary.tally, end) for end in ROW_ENDS}
    # Rows that the source has and the run didn't come to, as far as is known.
    total = (started.total_rows if started else None) or 0
    counts["open"] = max(total - summary.tally.rows, 0) if summary.status != "finished" else 0
    details = record.details or Detailed()
    return PAGES.get_template("run.html").render(
        record=record, counts=counts, command=command, details=details, past=past
    )


def shares_of(timing: Timing | None) -> list[tuple[str, list[tuple[str, str, float]]]]:
    """The seconds of each wait and each stage, and the length of each bar in %."""
    seconds, found = seconds_by(timing), []
    for title, names in (("while sending, waiting for", WAITS), ("busy making requests", STAGES)):
        own = {names[name]: seconds[name] for name in names if seconds.get(name, 0.0) >= _LEAST_SECONDS}
        longest = max(own.values(), default=1.0)
        rows = [(name, span(s), round(100 * s / longest, 2)) for name, s in own.items()]
        found += [(title, sorted(rows, key=lambda row: -row[2]))] if rows else []
    return found


_BarPart = tuple[str, float, float, str]  # kind, place and width in %, and the words that fit


def bar_parts(counts: Mapping[str, int], *, accepted: str = "accepted") -> list[_BarPart]:
    """The parts of a bar, each of which can be seen; `accepted` is the name of the accepted ones."""
    parts = {kind: count for kind, count in counts.items() if count > 0} or {"open": 0}
    found, x, whole = [], 0.0, sum(parts.values())
    for kind, count in parts.items():
        wide = _THINNEST + (100 - _THINNEST * len(parts)) * (count / whole if whole else 1.0)
        words = share(count, whole) if whole and wide >= _NUMBERED else ""
        if words and wide >= _WORDY:
            words = f"{accepted if kind == 'accepted' else kind} {words}"
        found.append((kind, round(x, 2), round(wide, 2), words))
        x += wide
    return found


# --- a plan --------------------------------------------------------------------------------------------


def plan_page(plan: Mapping[str, Any]) -> str:
    """The page of a plan, given as its JSON object."""
    return PAGES.get_template("plan.html").render(
        plan=plan,
        counts={end: plan[end] for end in ROW_ENDS},
        warnings=Counter(warning["message"] for warning in plan["warnings"]).items(),
    )


def flat(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The values of an identification by name; properties without `user_properties.$set`."""
    for name, value in values.items():
        place = (*path, name)
        if isinstance(value, dict) and place[0] in {"groups", "user_properties"} and len(path) < 2:
            yield from flat(value, place)
        else:
            yield ".".join(part for part in place if part not in {"user_properties", "$set"}), value


# --- plots over time ------------------------------------------------------------------------------------

_PLOT_WIDTH, _PLOT_HEIGHT = 1000, 100
_LEAST_POINTS: Final = 4


# A line's name, its style, and its value at the end of each interval; None where nothing is known.
_Line = tuple[str, str, list[float | None]]


def timeline_of(record: RunRecord) -> dict[str, Any] | None:
    """The plots of a run, for the template; None if it was too short.

    `plots` have one axis from 0 to `most`, a text, and `lines` with name, style and points. The `pauses`
    (place and width) lie behind each of them. `rows` are those of a table with `heads`: until when, and the
    value of each plot's lines. `seconds` is how long the run took, a text.
    """
    points = record.series
    if len(points) < _LEAST_POINTS:
        return None
    steps = [(before, now, max(now[0] - before[0], 0.001)) for before, now in pairwise(points)]
    ends, whole = [now[0] for _, now, _ in steps], points[-1][0]
    rows: list[float | None] = [(now[1] - before[1]) / seconds for before, now, seconds in steps]
    slow: list[float | None] = [60 * (now[3] - before[3]) / seconds for before, now, seconds in steps]
    answers: list[_Line] = [
        ("median", "", [now[4] for _, now, _ in steps]),
        ("95 % within", "dashed", [now[5] for _, now, _ in steps]),
    ]
    found: list[tuple[str, list[_Line], Callable[[float], str]]] = [
        ("Rows a second", [("rows a second", "", rows)], "{:,.0f}".format)
    ]
    if any(value is not None for value in answers[0][2]):
        found.append(("Time to an answer", answers, answer_time))
    if any(slow):
        found.append(("Throttled answers (429) a minute", [("429 a minute", "", slow)], "{:,.0f}".format))
    pauses = tuple(
        (round(at / whole * _PLOT_WIDTH, 1), round(max(min(seconds, whole - at) / whole * _PLOT_WIDTH, 2), 1))
        for at, seconds in record.pauses
        if at < whole
    )
    columns = [(line, text) for _, lines, text in found for line in lines]
    table = [
        (span(end), *("" if values[n] is None else text(values[n] or 0) for (_, _, values), text in columns))
        for n, end in enumerate(ends)
    ]
    plots = [_plot(title, lines, text, ends) for title, lines, text in found]
    heads = ["until", *(name for (name, _, _), _ in columns)]
    return {"seconds": span(whole), "plots": plots, "pauses": pauses, "heads": heads, "rows": table}


def _plot(title: str, lines: list[_Line], text: Callable[[float], str], ends: list[float]) -> dict[str, Any]:
    known = [value for _, _, values in lines for value in values if value is not None]
    top = _round_up(max(*known, 0.0))
    drawn = []
    for name, style, values in lines:
        points, before = list[str](), None
        for start, end, value in zip([0.0, *ends], ends, values, strict=False):
            if value is not None:  # after a gap it begins with its interval
                for at in (end,) if before is not None else (start, end):
                    x, y = at / ends[-1] * _PLOT_WIDTH, _PLOT_HEIGHT - value / top * _PLOT_HEIGHT
                    points.append(f"{x:.1f},{y:.1f}")
            before = value
        drawn.append((name, style, " ".join(points)))
    said = f"{title} over {span(ends[-1])}: between {text(min(known))} and {text(max(known))}"
    return {"title": title, "most": text(top), "label": said, "lines": drawn}


def _round_up(value: float) -> float:
    """The next round number: 1, 2 or 5 and zeros."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * (1 + 1e-9))


# --- functions of the templates --------------------------------------------------------------------------

_WORDS: Final = (address, answer_time, brief, by_count, counted, options_text, per_second, share, size, span)
PAGES.filters |= {function.__name__: function for function in _WORDS}
PAGES.filters |= {
    "number": "{:,}".format,
    "moment": lambda at: f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
    "percent": lambda part, whole: round(100 * part / max(whole, 1), 2),
    "without_set": lambda name: name.removeprefix("$set."),
}
_FACTS: Final = (answer_seconds, bar_parts, distinct_of, effort_of, flat, has_known_users, headline)
_PARTS: Final = (other_rates, shares_of, time_spent, timeline_of, workload)
PAGES.globals |= {function.__name__: function for function in (*_FACTS, *_PARTS)}
PAGES.globals |= {"remedies": REMEDIES, "skip_remedies": SKIP_REMEDIES, "most": _MOST_SHOWN}
PAGES.globals |= {"plot_width": _PLOT_WIDTH, "plot_height": _PLOT_HEIGHT}
