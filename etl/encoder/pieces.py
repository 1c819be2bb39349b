"""A mapped batch in smaller pieces: their lines take less memory, and the sender gets them sooner."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from etl.model import Mapped

# Smaller pieces take longer; chunks of larger ones come to the sender in bursts, and it has to catch up.
_ROWS: Final = 8192
_BYTES: Final = 1 << 23  # of source rows; lines of wide ones take the most memory of all


def pieces(mapped: Mapped, *, rows: int = _ROWS) -> Iterator[Mapped]:
    """The same in order, of `rows` readable rows each and a smaller last one; nothing is copied.

    Wide rows come in pieces of fewer.
    """
    count = mapped.batch.rows.num_rows
    rows = max(1, min(rows, count * _BYTES // max(mapped.batch.rows.nbytes, 1)))
    for start in range(0, count, rows):
        yield _piece(mapped, start, min(start + rows, count))
    if count == 0:
        yield mapped


def _piece(mapped: Mapped, start: int, end: int) -> Mapped:
    """Rows `start` to `end - 1` of the readable ones, with the rejects that stand before each of them."""
    batch = mapped.batch
    first = int(batch.numbers[start - 1]) + 1 if start else batch.first
    stop = int(batch.numbers[end - 1]) + 1 if end < len(batch.numbers) else batch.stop
    return mapped.between(first, stop)
