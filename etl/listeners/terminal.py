"""The progress of a run for a person: a bar on a terminal or in a notebook, and lines above it that stay."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from html import escape
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..run_events import Ended, Event, Noted, Paused, Progressed, Recovered, Started, Warned
from ..text import filled, one_line, share, span
from .progress import CLOCK, RunClock, RunProgress, pause_phrases, started_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

WIDEST_BAR: Final = 100


def has_cursor(stream: TextIO) -> bool:
    """Whether a progress bar can be drawn there: on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}


class TerminalListener(AbstractContextManager["TerminalListener"]):
    """Draws on a terminal, and gives it back when the run ends or the `with` block is left.

    The bar doesn't stay: the summary is to take its place. It is redrawn `refreshes` times a second (0: only
    by `draw` and with every line above it).
    """

    def __init__(self, stream: TextIO, *, clock: RunClock = CLOCK, refreshes: float = 5.0) -> None:
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
                self._start(event)
            case Warned(_, message):
                self._console.print(Text.assemble(("warning: ", "bold yellow"), one_line(message)))
            case Noted(_, message):
                self._console.print(Text(one_line(message)))
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
            width=max(min(width - len(percent), WIDEST_BAR), 1),
            complete_style=colour,
            finished_style=colour,
            pulse_style=colour,
            animation_time=now - progress.began,
        )
        table = Table.grid()
        table.add_row(bar, Text(percent, "bold"))
        return Group(table, *lines)

    def _start(self, event: Started) -> None:
        self.close()
        self._console.print(Text.assemble((one_line(event.job), "bold"), f" {started_text(event)}"))
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
    joint = ", " if ascii_only else " · "
    lines = []
    for phrases in filled([*good, *problems], width, len(joint)):
        styled = [Text(phrase, "yellow" if phrase in problems else "") for phrase in phrases]
        line = Text(joint, "dim").join(styled)
        line.truncate(width, overflow="crop" if ascii_only else "ellipsis")
        lines.append(line)
    return lines


Display: TypeAlias = "Callable[[str], Callable[[str], object]]"


class NotebookListener:
    """Shows a run below the cell that runs it; `show(html)` displays, and returns how to replace it."""

    def __init__(self, show: Display | None = None, *, clock: RunClock = CLOCK) -> None:
        self._show = show or _display
        self._replace: Callable[[str], object] | None = None
        self._progress = RunProgress(clock)
        self._warnings: list[str] = []
        self._phrases: list[str] = []
        self._head = ""

    def __call__(self, event: Event) -> None:
        """Show what happened."""
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


def _display(html: str) -> Callable[[str], object]:
    """Display HTML in the notebook's cell."""
    from importlib import import_module

    display: Any = import_module("IPython.display")
    handle = display.display(display.HTML(html), display_id=True)
    return lambda new: handle.update(display.HTML(new))
