"""What is remembered of a finished run, for the next one: how much it was, and of what. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

# The latest of so many destinations are remembered.
MOST_PAST: Final = 32


@dataclass(frozen=True, slots=True)
class PastRun:
    """The last finished run to an endpoint: of an export, or (`resent`) of rejects.

    `rows` are those of its source. `counted`: increments of it arrived, or may have. `marks` has a text for
    the content of each file, None where nobody knows it.
    """

    endpoint: str
    resent: bool
    rows: int
    number: int
    counted: bool
    marks: tuple[str | None, ...] = ()

    def overlap(self, marks: Sequence[str | None]) -> Literal["all", "some", "none"]:
        """How much of a source with these marks the run had: all, and no more than that, or some files."""
        mine, theirs = (Counter(mark for mark in some if mark is not None) for some in (self.marks, marks))
        if not (mine & theirs):
            return "none"
        whole = mine == theirs and None not in self.marks and None not in marks
        return "all" if whole else "some"


def mark_of(entry: Sequence[object], digest: str | None) -> str | None:
    """A text for a file's content; `entry` is its name, size, time and sample.

    Without a digest of the whole, only a file whose size and time are known counts as the same. None where
    they aren't known either.
    """
    _, size, modified, _ = entry
    if digest is not None:
        return f"{size}:{digest}"
    return None if size is None or modified is None else ":".join(map(str, entry))
