"""Whether a task has all rows of its users: Spark's hash of the ids tells to which partition a row belongs.

`repartition(n, column)` puts a row into partition hash modulo n, with the 32-bit MurmurHash3 of
`org.apache.spark.sql.catalyst.expressions.Murmur3Hash` (seed 42). A task is not told n. But n divides the
difference between the hash and the partition's number for each of its rows, so their greatest common
divisor is above that number, or the rows are not partitioned that way.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_SEED: Final = np.uint32(42)
_C1, _C2 = np.uint32(0xCC9E2D51), np.uint32(0x1B873593)


class PartitionCheck:
    """Checks the rows of one task, batch by batch; `divisor` is what the number of partitions divides."""

    def __init__(self, partition: int, *, sorted_by_id: bool) -> None:
        self.divisor = 0
        self._partition = partition
        self._sorted = sorted_by_id
        self._last: str | int | None = None

    def fault(self, ids: pa.Array) -> str | None:
        """What is wrong with the rows so far, of which these come next; `ids` as Spark has them.

        With `sorted_by_id` their ids must also ascend, as UTF-8.
        """
        away = np.unique(spark_hash(ids).astype(np.int64) - self._partition)
        self.divisor = math.gcd(self.divisor, *away.tolist())
        if 0 < self.divisor <= self._partition:
            return "it has rows of users that belong to other tasks"
        if not self._sorted or not len(ids):
            return None
        whole = pa.types.is_integer(ids.type)
        given = ids.cast(pa.int64() if whole else pa.string()).fill_null(-(2**63) if whole else "")
        if self._last is not None:
            given = pa.concat_arrays([pa.array([self._last], given.type), given])
        self._last = given[-1].as_py()
        descends = pc.any(pc.greater(given[:-1], given[1:])).as_py()
        return "its ids do not ascend, so a repeated task could count rows twice" if descends else None


def spark_hash(ids: pa.Array) -> NDArray[np.int32]:
    """Spark's hash of n texts or whole numbers, shape (n,). A null hashes to the seed."""
    with np.errstate(over="ignore"):
        if not pa.types.is_integer(ids.type):
            hashes = _hash_texts(ids.cast(pa.string()))
        elif ids.type.bit_width == 64:
            words = ids.fill_null(0).to_numpy().astype(np.int64).view(np.uint32).reshape(-1, 2)
            hashes = _finish(_mix(_mix(np.full(len(ids), _SEED), words[:, 0]), words[:, 1]), np.uint32(8))
        else:  # Spark hashes the small ones as int
            words = ids.fill_null(0).to_numpy().astype(np.int32).view(np.uint32)
            hashes = _finish(_mix(np.full(len(ids), _SEED), words), np.uint32(4))
    if ids.null_count:
        hashes[ids.is_null().to_numpy(zero_copy_only=False)] = _SEED
    return hashes.view(np.int32)


def _hash_texts(texts: pa.StringArray) -> NDArray[np.uint32]:
    """Words of four bytes, little-endian; then each byte that is left as a signed number of its own."""
    _, offsets_buffer, data = texts.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    letters = np.zeros(int(offsets[-1]) + 4 if len(texts) else 4, np.uint8)
    letters[: len(letters) - 4] = np.frombuffer(data or b"", np.uint8)[: len(letters) - 4]
    starts, lengths = offsets[:-1].astype(np.int64), np.diff(offsets)
    hashes = np.full(len(texts), _SEED)
    whole = lengths // 4
    words = np.ndarray((len(letters) - 3,), "<u4", letters, strides=(1,))
    for number in range(int(whole.max(initial=0))):
        rows = np.flatnonzero(whole > number)
        hashes[rows] = _mix(hashes[rows], words[starts[rows] + 4 * number])
    for number in range(3):
        rows = np.flatnonzero(lengths - 4 * whole > number)
        signed = letters[starts[rows] + 4 * whole[rows] + number].view(np.int8).astype(np.int32)
        hashes[rows] = _mix(hashes[rows], signed.view(np.uint32))
    return _finish(hashes, lengths.astype(np.uint32))


def _mix(hashes: NDArray[np.uint32], words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    mixed = _rotate(words * _C1, 15) * _C2
    return _rotate(hashes ^ mixed, 13) * np.uint32(5) + np.uint32(0xE6546B64)


def _finish(hashes: NDArray[np.uint32], lengths: NDArray[np.uint32] | np.uint32) -> NDArray[np.uint32]:
    hashes = hashes ^ lengths
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        hashes = (hashes ^ (hashes >> np.uint32(shift))) * np.uint32(factor)
    return hashes ^ (hashes >> np.uint32(16))


def _rotate(words: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    return (words << np.uint32(bits)) | (words >> np.uint32(32 - bits))
