"""Parts of a chunk: some of its identifications, sent by themselves. No I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..arrow.originals import take_rows
from ..model import Chunk

# The objects of a chunk of one row, and of what carries it; about.
_FEW_ARRAYS: Final = 16 << 10
_FEW_CUTS: Final = 8  # a chunk that lacks fewer rows is put together of slices, not of rows
_NO_ROWS: Final = pa.record_batch([], names=[])


def without_rejects(chunk: Chunk) -> Chunk:
    """All identifications of a chunk, without the rejects that it commits with."""
    return replace(chunk, rejects=(), unsent=(), skipped=())


def places(part: Chunk) -> NDArray[np.int64]:
    """Where each identification stands in its chunk: its first row's number; ascending, shape (k,)."""
    if len(part.numbers) == part.users:
        return part.numbers
    return part.numbers[np.unique(part.owners, return_index=True)[1]]


def without_rows(chunk: Chunk) -> Chunk:
    """What is needed to commit rows of a chunk, without what is sent. It owns what it has."""
    return replace(
        chunk,
        body=(),
        ends=chunk.ends[:0].copy(),
        keys=chunk.keys[:0].copy(),
        numbers=chunk.numbers.copy(),
        owners=chunk.owners[:0].copy(),
        rows=_NO_ROWS,
        fingerprints=None,
    )


def bytes_of(part: Chunk) -> int:
    """About how much memory a part keeps that owns what it has."""
    return sum(map(len, part.body)) + int(part.rows.nbytes) + _FEW_ARRAYS


def halves(part: Chunk) -> tuple[Chunk, Chunk]:
    """The first and second half of a part with two identifications or more."""
    middle = part.users // 2
    return only(part, np.arange(middle)), only(part, np.arange(middle, part.users))


def only(part: Chunk, chosen: NDArray[np.int64]) -> Chunk:
    """The identifications at the ascending positions `chosen`; the same bytes for each as before.

    The result owns its bytes and rows, so that holding a few identifications holds no batch.
    """
    starts = np.concatenate([[0], part.ends[:-1]]) + 1
    body = part.body[0] if len(part.body) == 1 else b"".join(part.body)
    # Neighbours stay side by side: a chunk without a few of its identifications is cut in a few places.
    k = len(chosen)
    cuts = np.flatnonzero(np.diff(chosen) != 1)
    firsts, lasts = chosen[np.append(0, cuts + 1)[:k]], chosen[np.append(cuts, k - 1)[:k]]
    pieces = [body[start:end] for start, end in zip(starts[firsts], part.ends[lasts], strict=True)]
    is_chosen = np.zeros(part.users, dtype=np.bool_)
    is_chosen[chosen] = True
    mask = is_chosen[part.owners]
    return replace(
        part,
        body=(b"[" + b",".join(pieces) + b"]",),
        ends=np.cumsum(part.ends[chosen] - starts[chosen] + 1),
        keys=part.keys[chosen],
        numbers=part.numbers[mask],
        owners=np.searchsorted(chosen, part.owners[mask]),
        rows=_rows(part.rows, np.flatnonzero(mask)),
        rejects=(),
        unsent=(),
        skipped=(),
        fingerprints=None if part.fingerprints is None else part.fingerprints[mask],
    )


def _rows(rows: pa.RecordBatch, chosen: NDArray[np.int64]) -> pa.RecordBatch:
    """The rows at the ascending positions `chosen`; a copy."""
    cuts = np.flatnonzero(np.diff(chosen) != 1)
    if not len(chosen) or len(cuts) >= _FEW_CUTS:
        return take_rows(rows, chosen)
    firsts, lasts = chosen[np.append(0, cuts + 1)], chosen[np.append(cuts, len(chosen) - 1)]
    slices = zip(firsts.tolist(), lasts.tolist(), strict=True)
    # With nothing behind it, as a single slice would be given back as it is.
    parts = [*(rows.slice(first, last - first + 1) for first, last in slices), rows.slice(0, 0)]
    return pa.concat_batches(parts)


def others(part: Chunk, *taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of the part's identifications that aren't among those taken, ascending."""
    left = np.ones(part.users, dtype=np.bool_)
    left[np.concatenate(taken)] = False
    return np.flatnonzero(left)
