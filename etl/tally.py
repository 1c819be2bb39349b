"""The counts of a run and the ranges of its rows: the terms of `model` that a checkpoint is made of."""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import add, attrgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows `first` to `stop - 1` of file number `file` (0-based); `stop` None means to the file's end."""

    file: int
    first: int = 1
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class HeldRows:
    """The `rows` (numbers, int64, shape (h,), ascending) of a chunk that aren't committed; all others are."""

    row_range: RowRange
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of rows and requests. The law: rows = accepted + unchanged + merged + rejected.

    `bytes` are those on the wire; `uncounted` is how many more events were sent than the server counted;
    `swallowed` is the sum of the rejects'.
    """

    rows: int = 0
    accepted: int = 0
    unchanged: int = 0
    merged: int = 0
    rejected: int = 0
    requests: int = 0
    retries: int = 0
    throttled: int = 0
    bytes: int = 0
    in_doubt: int = 0
    uncounted: int = 0
    swallowed: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*map(add, _COUNTS(self), _COUNTS(other)))


_COUNTS: Final = attrgetter(*(one.name for one in fields(Tally)))

# What becomes of a row.
ROW_ENDS: Final = ("accepted", "unchanged", "merged", "rejected")


def counted_rows(tally: Tally) -> list[tuple[str, str]]:
    """Return the law of rows, by name and in digits for people."""
    return [(name, f"{getattr(tally, name):,}") for name in ("rows", *ROW_ENDS)]
