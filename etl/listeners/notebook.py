"""A progress bar for notebooks, in plain HTML: it needs no widgets."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias

from ..run_events import Ended, Event, Paused, Progressed, Recovered, Started, Warned
from ..text import one_line, span
from .progress import CLOCK, RunClock, RunProgress, pause_phrases, started_text

if TYPE_CHECKING:
    from collections.abc import Callable


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
