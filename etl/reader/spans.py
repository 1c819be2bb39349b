"""Which rows of a file are wanted: some spans of it, so that one pass over the file serves all of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

Span = tuple[int, int | None]  # the first row, and the one after the last; None: to the file's end


class Spans:
    """Ascending spans that don't overlap; only the last one may be open."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = [span for span in spans if span[1] is None or span[0] < span[1]]
        self._firsts = [first for first, _ in self._spans]

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def next(self, row: int) -> int | None:
        """The first wanted row from `row` on; None where there is none."""
        return next((max(row, first) for first, _ in self.within(row, None)), None)

    def within(self, first: int, stop: int | None) -> Iterator[Span]:
        """The spans that have rows among `first` to `stop - 1`, each as far as it does."""
        for one, other in self._spans[max(0, bisect_right(self._firsts, first) - 1) :]:
            if stop is not None and one >= stop:
                return
            if other is None or other > first:
                ends = [end for end in (other, stop) if end is not None]
                yield max(one, first), min(ends) if ends else None


def joined(spans: Sequence[Span]) -> list[Span]:
    """Ascending spans, some of which overlap, as spans that don't."""
    found = list[Span]()
    for first, stop in spans:
        if found and (found[-1][1] is None or first < found[-1][1]):
            before, end = found[-1]
            found[-1] = before, None if end is None or stop is None else max(end, stop)
        else:
            found.append((first, stop))
    return found
