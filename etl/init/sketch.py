"""How many different values there are, in memory that doesn't grow with them: exact while they are few."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from etl.keys import hash_texts

if TYPE_CHECKING:
    import pyarrow as pa

KEPT: Final = 1 << 15  # hashes; the estimate is within 1 % beyond that
# Any large number: with a small one, texts of a few control characters would share a hash.
_SEED: Final = 0xD1B54A32D192ED03
_SPAN: Final = 2.0**64


class Distinct:
    """Counts different texts by the smallest of their hashes; equal texts count once, whenever they come."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._hashes = np.empty(0, dtype=np.uint64)
        self._exact = True

    def add(self, texts: pa.StringArray) -> None:
        """Take in texts of shape (n,), none of them null or empty."""
        hashes = hash_texts(texts, _SEED)
        if not self._exact:
            hashes = hashes[hashes < self._hashes[-1]]
        together = np.union1d(self._hashes, hashes)
        self._exact = self._exact and len(together) <= self._kept
        self._hashes = together[: self._kept]

    @property
    def exact(self) -> bool:
        """Whether `count` is no estimate."""
        return self._exact

    @property
    def count(self) -> int:
        """How many different texts there were."""
        if self._exact:
            return len(self._hashes)
        return round((self._kept - 1) * _SPAN / float(self._hashes[-1]))
