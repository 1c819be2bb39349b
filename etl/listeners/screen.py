"""What a running job looks like on a screen of any width: lines of styled spans, nothing drawn yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from etl.listeners import sentences
from etl.wording import columns, span

if TYPE_CHECKING:
    from etl.model import Paused, Tally

Span: TypeAlias = tuple[str, str]  # text and its style, such as "bold red"; "" is plain
Line: TypeAlias = list[Span]

WIDEST_BAR: Final = 100
_CROSSING_SECONDS: Final = 4.0  # in which the block crosses a bar without an end


@dataclass(frozen=True, slots=True)
class View:
    """One moment of a run. `seconds` is how long this process runs; `wait` a pause and what is left of it."""

    tally: Tally
    total_rows: int | None
    rows_per_second: float
    seconds: float
    seconds_left: float | None = None
    wait: tuple[Paused, float] | None = None


def screen_lines(view: View, width: int, *, ascii_only: bool = False) -> list[Line]:
    """Lay a view out: the bar, how it goes, and the pause if there is one.

    A phrase moves to the next line whole. Only a phrase wider than `width` makes a longer line.
    """
    dot = ", " if ascii_only else " · "
    lines = [_bar(view, width, "#-" if ascii_only else "━─"), *_filled(_phrases(view), dot, width)]
    if view.wait is not None:
        lines += _filled([(text, "yellow") for text in sentences.pause_phrases(*view.wait)], dot, width)
    return lines


def _phrases(view: View) -> Line:
    left = view.seconds_left
    pace = [f"{view.rows_per_second:,.0f} rows/s"]
    pace.append(f"{span(view.seconds)} so far" if left is None else f"{span(left)} left")
    phrases = [(text, "") for text in [sentences.done(view.tally, view.total_rows), *pace]]
    return phrases + [(text, "yellow") for text in sentences.troubles(view.tally)]


def _bar(view: View, width: int, glyphs: str) -> Line:
    """Draw the share of rows that are committed; a block on its way to and fro where the total is unknown.

    The two parts differ in their glyphs as well, for screens without colour.
    """
    full, empty = glyphs[0], glyphs[1]
    part = sentences.part(view.tally, view.total_rows)
    after = f" {part:>7}" if part is not None else ""
    cells = max(min(width - len(after), WIDEST_BAR), 1)
    begin, end = _crossing(view.seconds, cells) if view.total_rows is None else (0, _share(view, cells))
    colour = "yellow" if view.wait is not None else "cyan"
    return [
        (empty * begin, "dim"),
        (full * (end - begin), colour),
        (empty * (cells - end), "dim"),
        (after, "bold"),
    ]


def _share(view: View, cells: int) -> int:
    total = view.total_rows or 0
    return cells if view.tally.rows >= total else cells * view.tally.rows // total


def _crossing(seconds: float, cells: int) -> tuple[int, int]:
    block = max(cells // 6, 1)
    place = seconds % (2 * _CROSSING_SECONDS) / _CROSSING_SECONDS
    begin = int((cells - block) * (place if place <= 1 else 2 - place))
    return begin, begin + block


def _filled(phrases: Line, dot: str, width: int) -> list[Line]:
    lines: list[Line] = [[phrases[0]]]
    used = columns(phrases[0][0])
    for text, style in phrases[1:]:
        if used + len(dot) + columns(text) > width:
            lines.append([(text, style)])
            used = columns(text)
        else:
            lines[-1] += [(dot, "dim"), (text, style)]
            used += len(dot) + columns(text)
    return lines
