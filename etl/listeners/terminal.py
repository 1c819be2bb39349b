"""A run on a terminal: one bar that is redrawn in place, and lines above it that stay."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..run_events import Ended, Event, Noted, Started, Warned
from ..text import filled, one_line, share, span
from .progress import CLOCK, RunClock, RunProgress, pause_phrases, started_text

if TYPE_CHECKING:
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
