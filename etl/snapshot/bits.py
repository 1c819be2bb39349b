"""A set of positions, one bit each: 20 million take 2.5 MB. No I/O."""

from __future__ import annotations

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]

_BIT: Final = np.array([1 << n for n in range(8)], dtype=np.uint8)
_COUNT: Final = np.array([n.bit_count() for n in range(256)], dtype=np.uint8)  # in each byte that there is


class Bits:
    """Which of the positions 0 to n - 1 are in the set; none at first. -1 stands for no position."""

    def __init__(self, n: int) -> None:
        self._bytes = np.zeros((n + 7) // 8, dtype=np.uint8)

    def __len__(self) -> int:
        """How many are in."""
        return int(_COUNT[self._bytes].sum())

    def add(self, positions: Positions) -> None:
        """Put positions in; they may repeat."""
        some = positions[positions >= 0]
        # As an unbuffered ufunc: positions may share a byte.
        np.bitwise_or.at(self._bytes, some >> 3, _BIT[some & 7])

    def remove(self, positions: Positions) -> None:
        """Take positions out; they may repeat."""
        some = positions[positions >= 0]
        np.bitwise_and.at(self._bytes, some >> 3, ~_BIT[some & 7])

    @classmethod
    def read(cls, n: int, data: bytes) -> Self | None:
        """The inverse of `bytes`; None where it was of another number of positions."""
        found = cls(n)
        if len(data) != len(found._bytes):
            return None
        found._bytes = np.frombuffer(data, dtype=np.uint8).copy()
        return found

    def __bytes__(self) -> bytes:
        return self._bytes.tobytes()

    def unite(self, other: Bits) -> None:
        """Put in what is in another set of as many positions."""
        self._bytes |= other._bytes

    def part(self, other: Bits) -> None:
        """Take out what is in another set of as many positions."""
        self._bytes &= ~other._bytes

    def shared(self, other: Bits) -> int:
        """How many are in another set of as many positions, too."""
        return int(_COUNT[self._bytes & other._bytes].sum())

    def has(self, positions: Positions) -> NDArray[np.bool_]:
        """Which of the positions are in; the same shape, False for -1."""
        if len(self._bytes) == 0:
            return np.zeros(positions.shape, dtype=np.bool_)
        held: NDArray[np.bool_] = (self._bytes[positions >> 3] & _BIT[positions & 7]) != 0
        return held & (positions >= 0)
