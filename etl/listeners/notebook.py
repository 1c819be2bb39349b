"""A progress bar for notebooks, in plain HTML: it needs no widgets."""

from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING, Any

from ..model import Tally
from ..run_events import Ended, Event, Paused, Progressed, Recovered, Started, Warned
from ..text import one_line, span
from .phrases import ProgressRate, pause_phrases, problem_phrases, rows_text, started_text

if TYPE_CHECKING:
    from collections.abc import Callable


class NotebookListener:
    """Shows a run below the cell that runs it; `show(html)` displays, and returns how to replace it."""

    def __init__(
        self,
        show: Callable[[str], Callable[[str], object]] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._show, self._clock = show or _display, clock
        self._replace: Callable[[str], object] | None = None
        self._rate = ProgressRate(0, clock())
        self._total: int | None = None
        self._warnings: list[str] = []
        self._head = self._bar = self._rows = ""

    def __call__(self, event: Event) -> None:
        """Show what happened."""
        match event:
            case Started():
                self._head, self._total = f"{event.job} {started_text(event)}", event.total_rows
                self._rate = ProgressRate(event.resumed.rows, self._clock())
                self._draw(event.resumed, [])
            case Progressed(tally, expected):
                self._rate.note(tally.rows, self._clock())
                rate, left = self._rate.rate(self._clock()), self._rate.left(self._total, self._clock())
                pace = [f"{rate:,.0f} rows/s", *([] if left is None else [f"{span(left)} left"])]
                self._draw(tally, [*pace, *problem_phrases(tally)], expected)
            case Paused():
                self._draw(None, pause_phrases(event, event.seconds))
            case Recovered():
                self._draw(None, [])
            case Warned(_, message):
                self._warnings.append(f"warning: {message}")
            case Ended(summary):
                self._draw(summary.tally, [f"{summary.status} after {span(summary.seconds)}"])

    def _draw(self, tally: Tally | None, phrases: list[str], expected: int | None = None) -> None:
        """Draw the bar anew; None: with the rows that it has."""
        if tally is not None:
            total = self._total or expected
            place = f' value="{tally.rows}" max="{max(total, tally.rows, 1)}"' if total else ""
            self._bar = f'<progress{place} style="width:24em"></progress>'
            self._rows = rows_text(tally, self._total, expected)
        lines = [", ".join([self._rows, *phrases]), *self._warnings]
        text = "<br>".join(escape(one_line(line)) for line in lines)
        html = f"<div>{escape(one_line(self._head))}<br>{self._bar}<br>{text}</div>"
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
