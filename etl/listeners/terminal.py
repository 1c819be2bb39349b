"""A run on a terminal: one bar that is redrawn in place, and lines above it that stay."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from etl.listeners import sentences
from etl.listeners.pace import Pace
from etl.listeners.screen import View, screen_lines
from etl.model import Ended, Event, Noted, Paused, Progressed, Recovered, Started, Tally, Warned
from etl.wording import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from rich.console import ConsoleOptions, RenderResult


class TerminalListener:
    """Draws on a terminal, and gives it back when the run ends or the `with` block is left.

    The bar doesn't stay: the summary is to take its place. `clock` is in seconds and never goes back;
    the bar is redrawn `refreshes` times a second (0: only by `draw` and with every line above it).
    """

    def __init__(
        self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic, refreshes: float = 5.0
    ) -> None:
        self._console = Console(file=stream, highlight=False)
        self._clock, self._refreshes = clock, refreshes
        self._live: Live | None = None
        self._began = clock()
        self._pace = Pace(0, self._began)
        self._total_rows: int | None = None
        self._tally = Tally()
        self._pause: tuple[Paused, float] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, event: Event) -> None:
        """Show what happened."""
        match event:
            case Started():
                self._start(event)
            case Progressed(tally):
                self._progress(tally)
            case Paused():
                self._pause = (event, self._clock() + event.seconds)
            case Recovered():
                self._pause = None
            case Warned(_, message):
                self._say(("warning: ", "bold yellow"), (one_line(message), ""))
            case Noted(_, message):
                self._say((one_line(message), ""))
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

    def view(self) -> View:
        """Take a view of the run as it is now."""
        # Once each: the drawing thread asks, while another may be changing them.
        now, total, pause = self._clock(), self._total_rows, self._pause
        return View(
            self._tally,
            total,
            self._pace.rate(now),
            now - self._began,
            None if total is None else self._pace.left(total, now),
            None if pause is None else (pause[0], pause[1] - now),
        )

    def _start(self, event: Started) -> None:
        self.close()
        self._began = self._clock()
        self._total_rows, self._tally, self._pause = event.total_rows, event.resumed, None
        self._pace = Pace(event.resumed.rows, self._began)
        self._say((one_line(event.job), "bold"), (f" {sentences.started(event)}", ""))
        self._live = Live(
            _Bar(self.view),
            console=self._console,
            auto_refresh=self._refreshes > 0,
            refresh_per_second=self._refreshes or 1.0,
            transient=True,
            # Results go to stdout and must arrive there untouched.
            redirect_stdout=False,
        )
        self._live.start(refresh=True)

    def _progress(self, tally: Tally) -> None:
        self._tally = tally
        self._pace.note(tally.rows, self._clock())
        if self._pause is not None and self._pause[1] <= self._clock():
            self._pause = None

    def _say(self, *spans: tuple[str, str]) -> None:
        self._console.print(Text.assemble(*spans))


class _Bar:
    """The view of every moment at which it is drawn."""

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Some terminals wrap a line that reaches their last column.
        width = max(options.max_width - 1, 1)
        for spans in screen_lines(self._view(), width, ascii_only=options.ascii_only):
            line = Text.assemble(*spans)
            line.truncate(width, overflow="crop" if options.ascii_only else "ellipsis")
            yield line
