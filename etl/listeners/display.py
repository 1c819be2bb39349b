"""What a run shows while it goes on: a bar on a terminal or in a notebook, and log lines elsewhere."""

from __future__ import annotations

import json
import math
import os
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ..run_events import Ended, Event, Noted, Paused, Progressed, Recovered, Started, Warned
from ..text import address, filled, one_line, share, span
from .progress import CLOCK, RunClock, RunProgress, pause_phrases, started_text
from .summary import effort, headline, notes, row_phrases, summary_dict, tally_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from typing import TextIO

    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

_WIDEST_BAR: Final = 100
_PROGRESS_SECONDS, _PAUSE_SECONDS = 30.0, 60.0  # between two log lines
Level: TypeAlias = Literal["info", "warning", "error"]
_ENDS: Final[Mapping[str, Level]] = {"stopped": "error", "interrupted": "warning"}


# --- on a terminal, by rich, which is imported only here ---------------------------------------------------


def has_cursor(stream: TextIO) -> bool:
    """Whether a progress bar can be drawn there: on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}


class TerminalListener(AbstractContextManager["TerminalListener"]):
    """Draws on a terminal, and gives it back when the run ends or the `with` block is left.

    The bar doesn't stay: the summary is to take its place. It is redrawn `refreshes` times a second (0: only
    by `draw` and with every line above it).
    """

    def __init__(self, stream: TextIO, *, clock: RunClock = CLOCK, refreshes: float = 5.0) -> None:
        from rich.console import Console

        self._console = Console(file=stream, highlight=False)
        self._clock, self._refreshes = clock, refreshes
        self._live: Live | None = None
        self._progress = RunProgress(clock)

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, event: Event) -> None:
        """Show what happened."""
        self._progress.note(event)
        match event:
            case Started():
                self.close()
                self._print((one_line(event.job), "bold"), f" {started_text(event)}")
                self._start_bar()
            case Warned(_, message):
                self._print(("warning: ", "bold yellow"), one_line(message))
            case Noted(_, message):
                self._print(one_line(message))
            case Ended():
                self.close()

    def close(self) -> None:
        """Take the bar away and show the cursor again; closing twice does no harm."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def draw(self) -> None:
        """Draw the bar anew."""
        if self._live is not None:
            self._live.refresh()

    def _drawn(self) -> Group:
        """The run as it is now: the bar, how it goes, and the pause if there is one."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        now, progress, pause = self._clock(), self._progress, self._progress.pause
        total, rows = progress.whole, progress.tally.rows
        # Some terminals wrap a line that reaches their last column.
        width, ascii_only = max(self._console.width - 1, 1), self._console.options.ascii_only
        pace = progress.pace_phrases()
        pace += [f"{span(now - progress.began)} so far"] if len(pace) == 1 else []
        good = [progress.rows_text(), *pace]
        # Read once, since the thread that draws asks while another may be changing it.
        waiting = [] if pause is None else pause_phrases(pause[0], pause[1] - now)
        lines = _laid_out(good, progress.problem_phrases(), width, ascii_only)
        lines += _laid_out([], waiting, width, ascii_only)
        percent = "" if total is None else f" {share(rows, total):>7}"
        colour = "yellow" if waiting else "cyan"
        bar = ProgressBar(
            total=total,  # without one the bar only moves
            completed=rows,
            width=max(min(width - len(percent), _WIDEST_BAR), 1),
            complete_style=colour,
            finished_style=colour,
            pulse_style=colour,
            animation_time=now - progress.began,
        )
        table = Table.grid()
        table.add_row(bar, Text(percent, "bold"))
        return Group(table, *lines)

    def _print(self, *parts: str | tuple[str, str]) -> None:
        """A line above the bar; of a pair the second is a style."""
        from rich.text import Text

        self._console.print(Text.assemble(*parts))

    def _start_bar(self) -> None:
        from rich.live import Live

        self._live = Live(
            get_renderable=self._drawn,
            console=self._console,
            auto_refresh=self._refreshes > 0,
            refresh_per_second=self._refreshes or 1.0,
            transient=True,
            redirect_stdout=False,  # results go to stdout and must arrive there untouched
        )
        self._live.start(refresh=True)


def _laid_out(good: list[str], problems: list[str], width: int, ascii_only: bool) -> list[Text]:
    """Phrases in lines; a phrase moves to the next line whole."""
    from rich.text import Text

    joint = ", " if ascii_only else " · "
    lines = []
    for phrases in filled([*good, *problems], width, len(joint)):
        styled = [Text(phrase, "yellow" if phrase in problems else "") for phrase in phrases]
        line = Text(joint, "dim").join(styled)
        line.truncate(width, overflow="crop" if ascii_only else "ellipsis")
        lines.append(line)
    return lines


# --- in a notebook ----------------------------------------------------------------------------------------


_Show: TypeAlias = "Callable[[str], Callable[[str], object]]"


class NotebookListener:
    """Shows a run below the cell that runs it; `show(html)` displays, and returns how to replace it."""

    def __init__(self, show: _Show | None = None, *, clock: RunClock = CLOCK) -> None:
        self._show = show or _show_in_cell
        self._replace: Callable[[str], object] | None = None
        self._progress = RunProgress(clock)
        self._warnings: list[str] = []
        self._phrases: list[str] = []
        self._head = ""

    def __call__(self, event: Event) -> None:
        """Show what happened."""
        from html import escape  # here, as with rich

        self._progress.note(event)
        match event:
            case Started():
                self._head, self._phrases = f"{event.job} {started_text(event)}", []
            case Progressed():
                self._phrases = [*self._progress.pace_phrases(), *self._progress.problem_phrases()]
            case Paused():
                self._phrases = pause_phrases(event, event.seconds)
            case Recovered():
                self._phrases = []
            case Warned(_, message):
                self._warnings.append(f"warning: {message}")
            case Ended(summary):
                self._progress.tally = summary.tally
                self._phrases = [f"{summary.status} after {span(summary.seconds)}"]
        whole, rows = self._progress.whole, self._progress.tally.rows
        place = f' value="{rows}" max="{max(whole, rows, 1)}"' if whole else ""
        bar = f'<progress{place} style="width:24em"></progress>'
        lines = [", ".join([self._progress.rows_text(), *self._phrases]), *self._warnings]
        text = "<br>".join(escape(one_line(line)) for line in lines)
        html = f"<div>{escape(one_line(self._head))}<br>{bar}<br>{text}</div>"
        if self._replace is None:
            self._replace = self._show(html)
        else:
            self._replace(html)


def _show_in_cell(html: str) -> Callable[[str], object]:
    from importlib import import_module

    display: Any = import_module("IPython.display")
    handle = display.display(display.HTML(html), display_id=True)
    return lambda new: handle.update(display.HTML(new))


# --- as log lines ------------------------------------------------------------------------------------------


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
                self._log_progress(now)
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

    def _log_progress(self, now: float) -> None:
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
