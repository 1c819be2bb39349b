"""How numbers, durations, sizes and foreign text are written for people: the same everywhere."""

from __future__ import annotations

from itertools import accumulate, takewhile, zip_longest
from typing import TYPE_CHECKING, Final
from unicodedata import combining, east_asian_width

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

# Stands for what is not to be shown.
MASK: Final = "\u2022\u2022\u2022"
_UNITS: Final = ("B", "KB", "MB", "GB", "TB", "PB")


def one_line(text: str) -> str:
    """Write foreign text as one printable line, so that it can't move the cursor or forge a log line."""
    return " ".join(printable(text).split())


def printable(text: str) -> str:
    """Replace every blank by a space, and every other character that can't be printed by its escape."""
    return "".join(c if c.isprintable() else " " if c.isspace() else _escape(c) for c in text)


def visible(text: str) -> str:
    """Write a line with escapes for all that can't be printed, also for a line end."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def columns(text: str) -> int:
    """Count the columns that a text takes on a terminal; a wide letter takes two."""
    return sum(2 if east_asian_width(c) in "WF" else not combining(c) for c in text)


def shortened(text: str, most: int, end: str = "\u2026") -> str:
    """Write a text in at most so many columns: what doesn't fit gives way to an ellipsis."""
    if columns(text) <= most:
        return text
    room = most - columns(end)
    fits = takewhile(lambda used: used <= room, accumulate(map(columns, text)))
    return text[: sum(1 for _ in fits)] + end


def in_columns(text: str, width: int) -> str:
    """Write a text in exactly so many columns: its end gives way to dots, or blanks follow it."""
    text = shortened(text, width, "...")
    return text + " " * (width - columns(text))


def in_table(
    rows: Sequence[Sequence[str]], *, right: Collection[int] = (), most: Sequence[int] = ()
) -> Iterator[str]:
    """Set cells below each other, two columns apart.

    Those of the places `right` end at the same column; the first places take at most `most` columns.
    """
    widths = [max(map(columns, cells)) for cells in zip(*rows, strict=True)]
    widths = [min(width, limit) for width, limit in zip_longest(widths, most, fillvalue=1 << 30)]
    for row in rows:
        cells = [
            " " * (width - columns(cell)) + cell if place in right else in_columns(cell, width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def filled(phrases: Iterable[str], width: int, joint: int = 1) -> list[list[str]]:
    """Distribute phrases over lines of at most `width` columns, `joint` columns apart.

    A phrase is never broken; one that is wider than `width` has a line of its own.
    """
    lines: list[list[str]] = []
    used = width
    for phrase in phrases:
        used += joint + columns(phrase)
        if used > width:
            lines.append([])
            used = columns(phrase)
        lines[-1].append(phrase)
    return lines


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Write a number with its noun, such as `1 row` or `1,200 rows`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def rows_text(rows: int, total: int | None, expected: int | None = None) -> str:
    """Write how many rows are done, and of how many, or of about how many, to three digits."""
    if total is not None:
        return f"{rows:,} of {counted(total, 'row')}"
    if expected is None:
        return counted(rows, "row")
    return f"{rows:,} of about {counted(max(rows, round(float(f'{expected:.3g}'))), 'row')}"


def size(count: int) -> str:
    """Write bytes in the unit that keeps them short; a KB is 1000 bytes."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 1 if unit and value < 99.95 else 0
    return f"{value:,.{digits}f} {_UNITS[unit]}"


def span(seconds: float) -> str:
    """Write a duration by its two largest units; below ten seconds with one decimal."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(min(seconds, 1e12))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400:,} d {whole % 86400 // 3600:02} h"


def share(part: int, whole: int) -> str:
    """Write a part in percent. Only nothing is 0 % and only all is 100 %, however long the table."""
    if part <= 0 or whole <= 0:
        return "0 %"
    if part >= whole:
        return "100 %"
    percent = 100 * part / whole
    if percent < 0.1:
        return "<0.1 %"
    return ">99.9 %" if percent >= 99.95 else f"{percent:.1f} %"


def per_second(rows: float, seconds: float) -> str:
    """Write a rate of rows; over no time at all it is 0."""
    return f"{rows / seconds if seconds > 0 else 0.0:,.0f} rows/s"


def address(endpoint: str) -> str:
    """Write an endpoint so that it may be shown: a user, password or query in the URL is left out."""
    from urllib.parse import urlsplit  # here, as every command loads this module

    try:
        parts = urlsplit(one_line(endpoint))
        _ = parts.port  # raises where the port is not a number, which may be half a password
    except ValueError:
        return "(not a URL)"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def shell_word(path: object) -> str:
    """Write a path for a command to be copied: one that begins with a dash is not an option there."""
    import shlex  # as above

    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") and text != "-" else text)


def html_table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """Write names and values as an HTML table for a notebook; all of the text is escaped."""
    from html import escape

    cells = "".join(
        f'<tr><th style="text-align:left">{escape(one_line(name))}</th>'
        f'<td style="text-align:left"><bdi>{escape(one_line(value))}</bdi></td></tr>'
        for name, value in rows
    )
    return f"<table><caption>{escape(one_line(title))}</caption>{cells}</table>"
