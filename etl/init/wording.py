"""How foreign text stands in comments and notes."""

from __future__ import annotations

from typing import Final

from etl.wording import one_line

_SHOWN: Final = 60


def shown(name: str) -> str:
    """A name as one printable line of at most 60 characters, which can't end a comment."""
    line = one_line(name)
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."
