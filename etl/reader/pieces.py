"""Pieces of a file tile it: every row is in exactly one piece, good or rejected, and cutting keeps it so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl.model import Reject
from etl.reader.spans import Spans
from etl.values import pick_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHOWN = 60
# Of a batch's values: 16,384 rows of 1 kB. Wider rows come in batches of fewer.
MOST_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `first` to `stop - 1` of one file, before it is known whose. n rows + rejects = stop - first.

    `numbers` (int64, shape (n,), ascending) are the row numbers of `rows`; `rejects` ascend by row. `runs`
    (int64, shape (n,)) is given by reject files: the number of the run that rejected each row, or -1.
    `originals` (shape (n,)) has the rows as they stand, JSON text of an object each, where the file has that.
    `text` is what `Batch` has; None where it is that of the whole file.
    """

    first: int
    stop: int
    numbers: NDArray[np.int64]
    rows: pa.RecordBatch
    rejects: tuple[Reject, ...] = ()
    runs: NDArray[np.int64] | None = None
    originals: pa.BinaryArray | None = None
    text: bool | None = None


def sound(first: int, rows: pa.RecordBatch) -> Piece:
    """A piece without rejects, `first` being the number of its first row."""
    stop = first + rows.num_rows
    return Piece(first, stop, np.arange(first, stop, dtype=np.int64), rows)


def mingled(first: int, rows: pa.RecordBatch, rejects: Sequence[Reject]) -> Piece:
    """A piece of good rows with the rejects that stood between them; a reject's `row` says where."""
    stop = first + rows.num_rows + len(rejects)
    good = np.ones(stop - first, dtype=np.bool_)
    good[[reject.row - first for reject in rejects]] = False
    return Piece(first, stop, np.flatnonzero(good) + first, rows, tuple(rejects))


def clip(piece: Piece, first: int, stop: int) -> Piece:
    """The part of the piece that lies in rows `first` to `stop - 1`."""
    first, stop = max(first, piece.first), min(stop, piece.stop)
    if (first, stop) == (piece.first, piece.stop):
        return piece
    low, high = (int(at) for at in np.searchsorted(piece.numbers, (first, stop)))
    rejects = tuple(reject for reject in piece.rejects if first <= reject.row < stop)
    return Piece(
        first,
        stop,
        piece.numbers[low:high],
        piece.rows.slice(low, high - low),
        rejects,
        runs=None if piece.runs is None else piece.runs[low:high],
        originals=None if piece.originals is None else piece.originals.slice(low, high - low),
        text=piece.text,
    )


def cut(
    pieces: Iterable[Piece], first: int, stop: int | None, limit: int, *, spans: Spans | None = None
) -> Iterator[Piece]:
    """The rows `first` to `stop - 1` of ascending pieces, in pieces of at most `limit` rows and rejects.

    A piece of wide rows has fewer, about as many as `MOST_BYTES` hold. `spans` are taken instead where given;
    a piece then has rows of one of them.
    """
    wanted = spans or Spans([(first, stop)])
    for piece in pieces:
        step = min(limit, rows_within(MOST_BYTES, piece.rows.nbytes, piece.stop - piece.first))
        for low, high in wanted.within(piece.first, piece.stop):
            end = piece.stop if high is None else high
            for start in range(low, end, step):
                yield clip(piece, start, min(start + step, end))
        if wanted.next(piece.stop) is None:
            return


def rows_within(most: int, size: int, rows: int) -> int:
    """How many of `rows` rows with `size` bytes together have `most` bytes, about; at least one."""
    return max(1, rows * most // max(size, 1))


def without(piece: Piece, rejects: Sequence[Reject]) -> Piece:
    """The piece after some of its good rows turned out to be rejects (given in ascending order)."""
    if not rejects:
        return piece
    bad = np.array([reject.row for reject in rejects], dtype=np.int64)
    keep = ~np.isin(piece.numbers, bad)
    together = tuple(sorted((*piece.rejects, *rejects), key=lambda reject: reject.row))
    rows = pick_rows(piece.rows, np.flatnonzero(keep))
    return replace(
        piece,
        numbers=piece.numbers[keep],
        rows=rows,
        rejects=together,
        runs=None if piece.runs is None else piece.runs[keep],
        originals=None if piece.originals is None else piece.originals.filter(pa.array(keep)),
    )


def shown(value: str) -> str:
    """The value between quotes, as a reason shows it: at most 60 characters of it."""
    short = value if len(value) <= SHOWN else value[: SHOWN - 1] + "…"
    return f'"{short}"'
