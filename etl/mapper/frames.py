"""The frames that a job's transform sees: the same ones in every run, wherever it is resumed.

A frame is the readable rows among `FRAME_ROWS` rows of a file, counted from its first. What a function makes
of a row may depend on the frame; so a resumed run gives it the whole frame again, and drops what is done.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from etl.model import Batch, RowRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from etl.model import Mapped

FRAME_ROWS: Final = 8192


def framed(row_range: RowRange, size: int = FRAME_ROWS) -> RowRange:
    """All frames that have rows of the range."""
    stop = None if row_range.stop is None else _border(row_range.stop + size - 1, size)
    return RowRange(row_range.file, _border(row_range.first, size), stop)


def frames(batches: Iterable[Batch], size: int = FRAME_ROWS) -> Iterator[Batch]:
    """The rows of consecutive batches of a file, the first of which begins a frame, frame by frame."""
    parts: list[Batch] = []
    for batch in batches:
        at = batch.first
        while at < batch.stop:
            end = min(_border(at, size) + size, batch.stop)
            parts.append(batch.between(at, end))
            if end == _border(end, size):
                yield _joined(parts)
                parts = []
            at = end
    if parts:
        yield _joined(parts)


def within(mapped: Mapped, row_range: RowRange) -> Mapped:
    """Of a mapped frame the rows of the range."""
    batch = mapped.batch
    stop = batch.stop if row_range.stop is None else min(row_range.stop, batch.stop)
    return mapped.between(max(row_range.first, batch.first), stop)


def _border(row: int, size: int) -> int:
    """The first row of the frame that a row is in."""
    return (row - 1) // size * size + 1


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    runs = [part.runs for part in parts if part.runs is not None]
    originals = [part.originals for part in parts if part.originals is not None]
    return replace(
        parts[0],
        stop=parts[-1].stop,
        numbers=np.concatenate([part.numbers for part in parts]),
        rows=pa.concat_batches([part.rows for part in parts]),
        rejects=tuple(reject for part in parts for reject in part.rejects),
        runs=np.concatenate(runs) if runs else None,
        originals=pa.concat_arrays(originals) if originals else None,
    )
