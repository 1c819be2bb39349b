"""What was accepted of a chunk, as the checkpoint keeps it until the snapshot has it. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl.model import End, Fingerprints, RowRange, Sent


@dataclass(frozen=True, slots=True)
class Entries:
    """What the snapshot is to have of the chunk that begins at row `first` of a file.

    `keys` (shape (m, w)) and `fingerprints` (shape (m, p)) are those of its rows with this `end`, in source
    order.
    """

    file: int
    first: int
    keys: NDArray[np.uint64]
    fingerprints: Fingerprints
    end: End = "accepted"


def alike(pieces: Sequence[Sent]) -> Iterator[list[Sent]]:
    """The pieces of a chunk by their end; accepted ones come first."""
    for end in sorted({piece.end for piece in pieces}):
        yield [piece for piece in pieces if piece.end == end]


def packed(where: RowRange, pieces: Sequence[Sent]) -> tuple[int, int, int, int, bytes, bytes, End]:
    """Pieces of a chunk, all alike, as a row of the table `sent`, its users in source order."""
    order = np.argsort(np.concatenate([piece.numbers for piece in pieces]), kind="stable")
    keys = np.concatenate([piece.keys for piece in pieces])[order]
    fingerprints = np.concatenate([piece.fingerprints for piece in pieces])[order]
    size = fingerprints.dtype.itemsize
    return where.file, where.first, len(order), size, _bytes(keys), _bytes(fingerprints), pieces[0].end


def unpacked(row: tuple[Any, ...]) -> Entries:
    """The inverse of `packed`. Raises ValueError where the bytes don't fit."""
    file, first, rows, print_bytes, keys, fingerprints, end = row
    width = np.dtype(f"<u{print_bytes}")
    return Entries(
        file,
        first,
        np.frombuffer(keys, "<u8").reshape(rows, -1),
        np.frombuffer(fingerprints, width).reshape(rows, -1),
        end,
    )


def _bytes(values: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
