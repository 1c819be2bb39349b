from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pyte
import pytest

from etl.listeners.display import TerminalListener, has_cursor
from etl.run_events import Ended, Paused, Progressed, Recovered, Warned
from etl.tally import Tally
from etl.text import columns

from .events import HOSTILE, Clock, started, summary

if TYPE_CHECKING:
    from collections.abc import Iterator


class Terminal(io.StringIO):
    """A stream that says it is a terminal; `screen` is what a terminal emulator shows after all of it."""

    def __init__(self, width: int, encoding: str = "utf-8") -> None:
        super().__init__()
        self.width, self._encoding = width, encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        screen = pyte.Screen(self.width, 30)
        pyte.Stream(screen).feed(self.getvalue().replace("\n", "\r\n"))
        lines = [line.rstrip() for line in screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines


class Played:
    """A listener that draws only when told, its clock and its terminal."""

    def __init__(self, width: int, encoding: str = "utf-8") -> None:
        self.clock, self.terminal = Clock(), Terminal(width, encoding)
        self.tell = TerminalListener(self.terminal, clock=self.clock, refreshes=0)

    def screen(self) -> list[str]:
        self.tell.draw()
        return self.terminal.screen


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture(params=[40, 80, 120])
def played(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    monkeypatch.setenv("COLUMNS", str(request.param))
    played = Played(request.param)
    yield played
    played.tell.close()


def shows_cursor(terminal: Terminal) -> bool:
    written = terminal.getvalue()
    return written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


RESUMED = Tally(rows=500_000, accepted=499_990, rejected=10)
LATER = Tally(rows=600_000, accepted=599_980, rejected=20, retries=3, throttled=1)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    monkeypatch.setenv("COLUMNS", "80")
    played = Played(80)
    yield played
    played.tell.close()


def test_a_resumed_run_begins_where_it_stands_and_its_rate_at_nothing(wide: Played) -> None:
    wide.tell(started(resumed=RESUMED))
    wide.clock.forward(10)
    screen = wide.screen()
    assert "500,000 rows committed before" in " ".join(screen)
    assert screen[-2].endswith("━  25.0 %")
    assert screen[-1] == "500,000 of 2,000,000 rows · 0 rows/s · 10 s so far · 10 rejected"


def test_says_how_it_goes(wide: Played) -> None:
    wide.tell(started(resumed=RESUMED))
    wide.clock.forward(10)
    wide.tell(Progressed(LATER))
    bar, *lines = wide.screen()[-3:]
    assert bar == f"{'━' * 21}╺{'━' * 49}  30.0 %"
    assert f"\x1b[36m{'━' * 21}" in wide.terminal.getvalue()
    assert lines == [
        "600,000 of 2,000,000 rows · 10,000 rows/s · 2 min 20 s left · 20 rejected",
        "3 retries · 1 throttled",
    ]


def test_a_pause_counts_down_and_goes_with_the_recovery(wide: Played) -> None:
    wide.tell(started())
    wide.tell(Paused("destination slows us down", 15.0, 0.0))
    assert wide.screen()[-1] == "destination slows us down · next try in 15 s"
    wide.clock.forward(3)
    assert wide.screen()[-1] == "destination slows us down · next try in 12 s"
    wide.clock.forward(13)
    assert wide.screen()[-1] == "destination slows us down · trying again"
    wide.tell(Recovered(16.0))
    assert not any("destination" in line for line in wide.screen()[1:])


def test_an_answer_on_its_way_never_hides_a_pause_that_lasts(wide: Played) -> None:
    wide.tell(started())
    wide.tell(Paused("destination is away", 60.0, 30.0))
    wide.tell(Progressed(LATER))
    assert wide.screen()[-1] == "destination is away · next try in 1 min 00 s · away for 30 s"
    wide.clock.forward(61)
    wide.tell(Progressed(LATER))
    assert not any("destination" in line for line in wide.screen()[1:])


def test_an_unknown_total_promises_no_end(wide: Played) -> None:
    wide.tell(started(total_rows=None))
    wide.clock.forward(10)
    wide.tell(Progressed(LATER))
    screen = " ".join(wide.screen())
    assert "600,000 rows · 60,000 rows/s · 10 s so far" in screen
    assert "%" not in screen
    assert "left" not in screen


def test_an_estimate_of_the_total_gives_a_percentage_and_an_end(wide: Played) -> None:
    wide.tell(started(total_rows=None))
    wide.clock.forward(10)
    wide.tell(Progressed(LATER, expected_rows=2_399_876))
    bar, line, _ = wide.screen()[-3:]
    assert bar.endswith("━  25.0 %")
    assert line.startswith("600,000 of about 2,400,000 rows · 60,000 rows/s · 30 s left")


def test_redrawing_leaves_no_remains_at_any_width(played: Played) -> None:
    played.tell(started(resumed=RESUMED))
    for second in range(1, 20):
        played.clock.forward(1)
        played.tell(Progressed(Tally(rows=500_000 + 7 * 10 ** (second // 3), accepted=1, retries=second)))
        if second % 5 == 0:
            played.tell(Warned("w", f"number {second} is odd in more ways than a narrow line holds"))
        if second % 4 == 0:
            played.tell(Paused("destination slows us down and says why at length", 9.0, second))
        played.tell.draw()
    screen = played.screen()
    text = " ".join(screen)
    assert text.count("rows/s") == 1
    assert text.count("next try in") == 1
    assert text.count("%") == 1
    assert text.count("warning:") == 3
    assert max(columns(line) for line in screen) <= played.terminal.width


def test_the_bar_goes_at_the_end_and_warnings_stay(played: Played) -> None:
    played.tell(started())
    played.tell(Warned("w", "remember this"))
    played.tell(Progressed(LATER))
    played.tell.draw()
    played.tell(Ended(summary()))
    played.tell(Warned("listener_failed", "and this"))
    assert played.terminal.screen[-2:] == ["warning: remember this", "warning: and this"]
    assert shows_cursor(played.terminal)


def test_a_run_that_breaks_gives_the_terminal_back(wide: Played) -> None:
    with contextlib.suppress(RuntimeError), wide.tell as tell:
        tell(started())
        assert any("%" in line for line in wide.screen())
        raise RuntimeError
    assert shows_cursor(wide.terminal)
    assert not any("%" in line for line in wide.terminal.screen)


def test_foreign_words_never_steer_the_terminal(wide: Played) -> None:
    wide.tell(started(HOSTILE))
    wide.tell(Warned("w", HOSTILE))
    wide.tell(Paused(HOSTILE, 5.0, 0.0))
    text = " ".join(wide.screen())
    assert "\x1b[2J" not in wide.terminal.getvalue()
    assert text.count("[bold red]&amp;") == 3


def test_no_color_has_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    played = Played(80)
    played.tell(started(resumed=RESUMED))
    played.tell(Warned("w", "plain"))
    played.tell(Paused("destination slows us down", 5.0, 0.0))
    bar = played.screen()[-3]
    played.tell.close()
    assert "\x1b[3" not in played.terminal.getvalue()
    assert re.fullmatch("━{17}╸ {50,}25.0 %", bar)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    played = Played(80, encoding="ascii")
    played.tell(started(resumed=RESUMED))
    played.tell(Paused("destination slows us down", 5.0, 0.0))
    screen = played.screen()
    played.tell.close()
    assert all(line.isascii() for line in screen)
    assert re.fullmatch("-{17} -{50,}  25.0 %", screen[-3])


@pytest.mark.parametrize(("term", "expected"), [("xterm", True), ("dumb", False), ("unknown", False)])
def test_draws_only_where_a_cursor_moves(term: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    assert has_cursor(Terminal(80)) is expected
    assert not has_cursor(io.StringIO())


def test_only_a_terminal_needs_rich() -> None:
    code = """
import io, sys, etl.listeners.metrics, etl.listeners.report
from etl.listeners.display import LogListener, NotebookListener
from etl.run_events import Warned
LogListener(io.StringIO(), as_json=False)(Warned("code", "message"))
NotebookListener(lambda html: print)(Warned("code", "message"))
print("rich" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert said == "False\n"
