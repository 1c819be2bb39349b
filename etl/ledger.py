"""Settled and unsettled stretches of a source, held rows among them, and the safe point. No I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise

from etl.model import HeldRows, Stretch


class Ledger:
    """Which rows of which file are settled.

    Stretches may be settled in any order and more than once; neighbours grow together, so that the size
    follows the number of gaps, not of rows. A settled stretch of which rows are `held` is a gap of its own:
    read from its first row to its last, it is cut into the same chunk again.
    """

    def __init__(self, settled: Iterable[Stretch] = (), held: Iterable[HeldRows] = ()) -> None:
        self._files: dict[int, list[tuple[int, int]]] = {}
        self._held = {one.stretch: one for one in held}
        for stretch in settled:
            self.settle(stretch)

    def settle(self, stretch: Stretch) -> None:
        """Every row of the stretch has its end; `stretch.stop` must be given."""
        if stretch.stop is None:
            raise ValueError("an open stretch can't be settled")
        if stretch.stop > stretch.first:
            spans = self._files.setdefault(stretch.file, [])
            _insert(spans, stretch.first, stretch.stop)

    def settled(self) -> Iterator[Stretch]:
        """The settled stretches, grown together, in order."""
        for file in sorted(self._files):
            for first, stop in self._files[file]:
                yield Stretch(file, first, stop)

    def rows(self) -> int:
        """How many rows are settled."""
        settled = sum(stop - first for spans in self._files.values() for first, stop in spans)
        return settled - sum(len(one.rows) for one in self._held.values())

    def held(self, gap: Stretch) -> HeldRows | None:
        """What is held of a gap; None where all of it is left."""
        return self._held.get(gap)

    def gaps(self, file: int) -> list[Stretch]:
        """What is left of a file, in order; the last gap is open, for nobody knows where the file ends."""
        spans = [(1, 1), *self._files.get(file, [])]
        between = [Stretch(file, one[1], other[0]) for one, other in pairwise(spans) if one[1] < other[0]]
        held = [stretch for stretch in self._held if stretch.file == file]
        return sorted([*between, *held, Stretch(file, spans[-1][1])], key=lambda gap: gap.first)

    def safe_point(self, file: int) -> int:
        """The first row of a file that isn't settled, or has an unsettled one before it."""
        return self.gaps(file)[0].first


def _insert(spans: list[tuple[int, int]], first: int, stop: int) -> None:
    """Add a span to sorted, disjoint spans, and grow together what touches."""
    index = bisect_right(spans, (first, stop))
    if index and spans[index - 1][1] >= first:
        index -= 1
        first = spans[index][0]
    end = index
    while end < len(spans) and spans[end][0] <= stop:
        stop = max(stop, spans[end][1])
        end += 1
    spans[index:end] = [(first, stop)]
