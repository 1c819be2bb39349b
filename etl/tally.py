"""The counts of a run's rows by outcome, and the ranges of rows that are committed.

A checkpoint holds these. Row numbers count from 1, the first row after a header.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import accumulate
from operator import add, attrgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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

# The outcomes of a row.
ROW_ENDS: Final = ("accepted", "unchanged", "merged", "rejected")


def counted_rows(tally: Tally) -> list[tuple[str, str]]:
    """Return the law of rows, by name and in digits for people."""
    return [(name, f"{getattr(tally, name):,}") for name in ("rows", *ROW_ENDS)]


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


class RangeSet:
    """Which rows of which file are committed.

    Ranges may be committed in any order and more than once; neighbours are merged, so that the size depends
    on the number of gaps, not of rows. A committed range with `held` rows is a gap of its own: read from its
    first row to its last, it is cut into the same chunk again. No gap reaches over one of the `limits`, which
    are places (file, row) at which chunks ended.
    """

    def __init__(
        self,
        committed: Iterable[RowRange] = (),
        held: Iterable[HeldRows] = (),
        limits: Iterable[tuple[int, int]] = (),
    ) -> None:
        self._files: dict[int, list[tuple[int, int]]] = {}
        self._held = {one.row_range: one for one in held}
        self._limits = tuple(limits)
        for row_range in committed:
            self.commit(row_range)

    def commit(self, row_range: RowRange) -> None:
        """Add a range of committed rows; `stop` must be given."""
        if row_range.stop is None:
            raise ValueError("an open range can't be committed")
        if row_range.stop > row_range.first:
            _insert(self._files.setdefault(row_range.file, []), row_range.first, row_range.stop)

    def committed(self) -> Iterator[RowRange]:
        """The committed ranges, merged, in order."""
        for file in sorted(self._files):
            for first, stop in self._files[file]:
                yield RowRange(file, first, stop)

    def rows(self) -> int:
        """How many rows are committed."""
        committed = sum(stop - first for spans in self._files.values() for first, stop in spans)
        return committed - sum(len(one.rows) for one in self._held.values())

    def held(self, gap: RowRange) -> HeldRows | None:
        """The held rows of a gap; None if all of its rows are left."""
        return self._held.get(gap)

    def gaps(self, file: int) -> list[RowRange]:
        """The uncommitted ranges of a file, in order; the last is open, as the file's end is unknown."""
        limits = [(row, row) for limited, row in self._limits if limited == file]  # no rows, but a border
        spans = sorted([(1, 1), *self._files.get(file, []), *limits])
        stops = list(accumulate((stop for _, stop in spans), max))
        found = [RowRange(file, stop, first) for stop, (first, _) in zip(stops, spans[1:], strict=False)]
        gaps = [gap for gap in found if gap.first < (gap.stop or 0)]
        held = [row_range for row_range in self._held if row_range.file == file]
        return sorted([*gaps, *held, RowRange(file, stops[-1])], key=lambda gap: gap.first)

    def safe_point(self, file: int) -> int:
        """The first row of a file that isn't committed."""
        return self.gaps(file)[0].first


def _insert(spans: list[tuple[int, int]], first: int, stop: int) -> None:
    """Add a span to sorted, disjoint spans, and merge those that touch."""
    index = bisect_right(spans, (first, stop))
    if index and spans[index - 1][1] >= first:
        index -= 1
        first = spans[index][0]
    end = index
    while end < len(spans) and spans[end][0] <= stop:
        stop = max(stop, spans[end][1])
        end += 1
    spans[index:end] = [(first, stop)]
