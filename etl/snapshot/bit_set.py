"""Sets with one bit for each member: 20 million snapshot entries take 2.5 MB. No I/O."""

from __future__ import annotations

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

_BIT: Final = np.array([1 << n for n in range(8)], dtype=np.uint8)
_COUNT: Final = np.array([n.bit_count() for n in range(256)], dtype=np.uint8)  # of the bits in each byte
_SLOTS: Final = 1 << 27  # of a key filter: 16 MB


class BitSet:
    """Which of the positions 0 to n - 1 are in the set; none at first. -1 stands for no position."""

    def __init__(self, n: int) -> None:
        self._bytes = np.zeros((n + 7) // 8, dtype=np.uint8)

    def __len__(self) -> int:
        """How many positions are in the set."""
        return int(_COUNT[self._bytes].sum())

    def add(self, positions: NDArray[np.int64]) -> None:
        """Add positions; they may repeat."""
        some = positions[positions >= 0]
        # As an unbuffered ufunc: positions may share a byte.
        np.bitwise_or.at(self._bytes, some >> 3, _BIT[some & 7])

    def remove(self, positions: NDArray[np.int64]) -> None:
        """Remove positions; they may repeat."""
        some = positions[self.has(positions)]  # to write to all of them would take memory for most pages
        np.bitwise_and.at(self._bytes, some >> 3, ~_BIT[some & 7])

    @classmethod
    def read(cls, n: int, data: bytes) -> Self | None:
        """The set that `bytes` wrote; None where it was one of another number of positions."""
        found = cls(n)
        if len(data) != len(found._bytes):
            return None
        found._bytes = np.frombuffer(data, dtype=np.uint8).copy()
        return found

    def __bytes__(self) -> bytes:
        return self._bytes.tobytes()

    def update(self, other: BitSet) -> None:
        """Add what is in another set of as many positions."""
        self._bytes |= other._bytes

    def subtract(self, other: BitSet) -> None:
        """Remove what is in another set of as many positions."""
        self._bytes &= ~other._bytes

    def shared(self, other: BitSet) -> int:
        """How many positions are also in another set of as many positions."""
        return int(_COUNT[self._bytes & other._bytes].sum())

    def has(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the positions are in the set; the same shape, False for -1."""
        if len(self._bytes) == 0:
            return np.zeros(positions.shape, dtype=np.bool_)
        held: NDArray[np.bool_] = (self._bytes[positions >> 3] & _BIT[positions & 7]) != 0
        return held & (positions >= 0)


class KeyFilter:
    """A set of keys that, rarely, also has one that was not added. It takes memory once it has a key."""

    def __init__(self) -> None:
        self._bits = BitSet(0)
        self._empty = True

    def __bool__(self) -> bool:
        return not self._empty

    def add(self, keys: NDArray[np.uint64]) -> None:
        """Add keys of shape (m,)."""
        if len(keys):
            if self._empty:
                self._bits, self._empty = BitSet(_SLOTS), False
            self._bits.add((keys % np.uint64(_SLOTS)).astype(np.int64))

    def has(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of n keys are in the set, perhaps; shape (n,)."""
        return self._bits.has((keys % np.uint64(_SLOTS)).astype(np.int64))
