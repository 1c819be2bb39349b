"""One pass over a file hands out the batches of all gaps in it, gap by gap."""

from __future__ import annotations

from collections.abc import Iterator

from etl.model import Batch, RowRange


class OnePass:
    """`batches` ascend; one that has rows of several gaps, as frames may, is given to each of them."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._kept: Batch | None = None

    def of(self, gap: RowRange) -> Iterator[Batch]:
        """The batches with rows of a gap. Ask for gaps in order, each after the one before is used up."""
        while (batch := self._kept or next(self._batches, None)) is not None:
            self._kept = batch
            if gap.stop is not None and batch.first >= gap.stop:
                return
            if batch.stop > gap.first:
                yield batch
            if gap.stop is not None and batch.stop > gap.stop:
                return
            self._kept = None
            if batch.stop == gap.stop:
                return
