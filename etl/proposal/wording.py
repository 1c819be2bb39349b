"""How numbers and foreign text stand in comments and notes."""

from __future__ import annotations

from typing import Final

_SHOWN: Final = 60


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: `1 row`, `1,200 rows`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def shown(name: str) -> str:
    """A name as one printable line of at most 60 characters, which can't end a comment."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in name).split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."
