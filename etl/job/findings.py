"""What is wrong and where: findings carry a path, faults a line, and a wrong word its nearest right one."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, TypeAlias

from etl.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Path: TypeAlias = "tuple[str | int, ...]"

MAX_COMPARED: Final = 80  # characters; nobody mistypes a longer word into a right one
MIN_BEGINNING: Final = 3  # characters of a word that was cut short
MAX_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong at a path of the job file; `line` is given where the path alone doesn't tell it."""

    path: Path
    message: str
    line: int | None = None


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be, whatever its case, or None."""
    if len(word) > MAX_COMPARED:
        return None
    folded = word.casefold()
    by_folded = {name.casefold(): name for name in known}
    found = get_close_matches(folded, by_folded, n=1, cutoff=0.7)
    if not found and len(word) >= MIN_BEGINNING:
        found = [name for name in by_folded if name.startswith(folded)]
    return by_folded[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message: "; did you mean `plan`?", or nothing."""
    name = nearest(word, known)
    return f"; did you mean `{name}`?" if name is not None else ""


def shown(text: str) -> str:
    """Text from the file as a message may show it: one line, at most 60 characters."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_SHOWN else f"{line[: MAX_SHOWN - 3]}..."


def line_of(path: Path, lines: Mapping[Path, int]) -> int | None:
    """The line where a path stands, or else what holds it.

    `$set` may be left out in a file, so its properties are looked for without it too.
    """
    for stop in range(len(path), 0, -1):
        part = path[:stop]
        line = lines.get(part) or lines.get(tuple(key for key in part if key != "$set"))
        if line is not None:
            return line
    return None


def faults(findings: Iterable[Finding], lines: Mapping[Path, int]) -> list[Fault]:
    """The faults to show, each once. Without lines (a job from a dict) the path says where."""
    shown_once = dict.fromkeys(_fault(finding, lines) for finding in findings)
    return list(shown_once)


def _fault(finding: Finding, lines: Mapping[Path, int]) -> Fault:
    if lines or not finding.path:
        return Fault(finding.message, finding.line or line_of(finding.path, lines))
    where = ".".join(str(key) for key in finding.path)
    return Fault(f"{shown(where)}: {finding.message}")
