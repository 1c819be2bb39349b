"""What was accepted of a chunk, as the checkpoint keeps it until the snapshot has it. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl.model import Prints, Sent, Stretch


@dataclass(frozen=True, slots=True)
class Entries:
    """What the snapshot is to have of the chunk that begins at row `first` of a file.

    `keys` (shape (m, w)) and `prints` (shape (m, p)) are those of its accepted rows, in source order. With
    p = 0 they are rows that may have arrived or not: nobody knows what these users have.
    """

    file: int
    first: int
    keys: NDArray[np.uint64]
    prints: Prints


def alike(pieces: Sequence[Sent]) -> Iterator[list[Sent]]:
    """The pieces of a chunk by how many prints their rows have; those in doubt come last."""
    for width in sorted({piece.prints.shape[1] for piece in pieces}, reverse=True):
        yield [piece for piece in pieces if piece.prints.shape[1] == width]


def packed(where: Stretch, pieces: Sequence[Sent]) -> tuple[int, int, int, int, bytes, bytes]:
    """Pieces of a chunk, all alike, as a row of the table `sent`, its users in source order."""
    order = np.argsort(np.concatenate([piece.numbers for piece in pieces]), kind="stable")
    keys = np.concatenate([piece.keys for piece in pieces])[order]
    prints = np.concatenate([piece.prints for piece in pieces])[order]
    size = prints.dtype.itemsize
    return where.file, where.first, len(order), size, _bytes(keys), _bytes(prints)


def unpacked(row: tuple[Any, ...]) -> Entries:
    """The inverse of `packed`. Raises ValueError where the bytes don't fit."""
    file, first, rows, print_bytes, keys, prints = row
    width = np.dtype(f"<u{print_bytes}")
    return Entries(
        file,
        first,
        np.frombuffer(keys, "<u8").reshape(rows, -1),
        np.frombuffer(prints, width).reshape(rows, len(prints) // (rows * print_bytes)),
    )


def _bytes(values: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
