"""How a run went over time: plots as points of inline SVG, and the same as a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ..text import span
from .summary import answer_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from .run_record import RunRecord

PLOT_WIDTH, PLOT_HEIGHT = 1000, 100
_LEAST_POINTS: Final = 4

# A line's name, its style, and its value at the end of each interval; None where nothing is known.
_Line = tuple[str, str, list[float | None]]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot with one axis from 0 to `most`, a text; `lines` have name, style and points."""

    title: str
    most: str
    label: str
    lines: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The plots of a run of `seconds`, a text; the `pauses` (place and width) lie behind each of them.

    `rows` are those of a table: until when, and the value of each plot's lines.
    """

    seconds: str
    plots: tuple[Plot, ...]
    pauses: tuple[tuple[float, float], ...]
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def timeline_of(record: RunRecord) -> Timeline | None:
    """The plots of a run; None if it was too short to tell."""
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
        (round(at / whole * PLOT_WIDTH, 1), round(max(min(seconds, whole - at) / whole * PLOT_WIDTH, 2), 1))
        for at, seconds in record.pauses
        if at < whole
    )
    columns = [(line, text) for _, lines, text in found for line in lines]
    table = [
        (span(end), *("" if values[n] is None else text(values[n] or 0) for (_, _, values), text in columns))
        for n, end in enumerate(ends)
    ]
    plots = tuple(_plot(title, lines, text, ends) for title, lines, text in found)
    heads = ("until", *(name for (name, _, _), _ in columns))
    return Timeline(span(whole), plots, pauses, heads, tuple(table))


def _plot(title: str, lines: list[_Line], text: Callable[[float], str], ends: list[float]) -> Plot:
    known = [value for _, _, values in lines for value in values if value is not None]
    top = _round_up(max(*known, 0.0))
    drawn = []
    for name, style, values in lines:
        points, before = list[str](), None
        for start, end, value in zip([0.0, *ends], ends, values, strict=False):
            if value is not None:  # after a gap it begins with its interval
                for at in (end,) if before is not None else (start, end):
                    x, y = at / ends[-1] * PLOT_WIDTH, PLOT_HEIGHT - value / top * PLOT_HEIGHT
                    points.append(f"{x:.1f},{y:.1f}")
            before = value
        drawn.append((name, style, " ".join(points)))
    said = f"{title} over {span(ends[-1])}: between {text(min(known))} and {text(max(known))}"
    return Plot(title, text(top), said, tuple(drawn))


def _round_up(value: float) -> float:
    """The next round number: 1, 2 or 5 and zeros."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * (1 + 1e-9))
