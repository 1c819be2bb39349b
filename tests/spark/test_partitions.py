"""Spark's hash of ids, and what it says of a task's rows. The expected hashes are those of Spark 4.3."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from etl.spark.task import PartitionCheck, spark_hash
from tests.examples import each_row


@pytest.mark.parametrize(
    ("ids", "hashes"),
    [
        (pa.array(["user-1", "ab", "äöü", ""]), [-802825514, -97053317, 746493922, 142593372]),
        (pa.array(["user-1"], pa.large_string()), [-802825514]),
        (pa.array([5], pa.int64()), [1607884268]),
        (pa.array([5], pa.int32()), [1023896466]),
        (pa.array([None, "ab"], pa.string()), [42, -97053317]),
    ],
)
def test_a_hash_is_spark_s(ids: pa.Array, hashes: list[int]) -> None:
    assert spark_hash(ids).tolist() == hashes


def test_part_of_an_array_hashes_like_its_texts() -> None:
    ids = pa.array([f"user-{n}" for n in range(100)])
    assert spark_hash(ids.slice(40, 20)).tolist() == spark_hash(ids)[40:60].tolist()


def partitions(count: int, rows: int = 5000) -> list[pa.Array]:
    ids = pa.array([f"user-{n:05}" for n in range(rows)])
    return [ids.filter(pa.array(np.mod(spark_hash(ids), count) == number)) for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_rows_where_spark_puts_them_fit(count: int) -> None:
    for number, ids in enumerate(partitions(count)):
        check = PartitionCheck(number, sorted_by_id=True)
        assert check.fault(ids.slice(0, 3)) is check.fault(ids.slice(3)) is None
        assert check.divisor % count == 0


def test_rows_anywhere_do_not() -> None:
    mixed = pa.array([f"user-{n:05}" for n in range(0, 5000, 4)])
    assert "other tasks" in str(PartitionCheck(1, sorted_by_id=False).fault(mixed))
    # Of the first partition that can't be told before the number of all is known.
    first = PartitionCheck(0, sorted_by_id=False)
    assert first.fault(mixed) is None
    assert first.divisor % 4 != 0


def test_a_partition_that_was_put_behind_others_does_not() -> None:
    """As in a union of two DataFrames that are partitioned alike."""
    for number, ids in enumerate(partitions(4)):
        assert PartitionCheck(4 + number, sorted_by_id=False).fault(ids)


@each_row(
    ("batches", "fits"),
    [
        ([["a", "b"], [], ["b", "c"]], True),
        ([["a", "c"], ["b"]], False),
        ([["b", "a"]], False),
        ([[None, "a"], ["ä"]], True),
        ([["a"], [None]], False),
        ([["Z"], ["a"]], True),
        ([[2, 10], [11]], True),
        ([[2, 10], [9]], False),
        ([[None, -5], [3]], True),
    ],
)
def test_where_it_matters_ids_must_ascend(batches: list[list[Any]], fits: bool) -> None:
    kind = pa.int64() if isinstance(batches[0][-1], int) else pa.string()
    faults = []
    for sorted_by_id in (True, False):
        check = PartitionCheck(0, sorted_by_id=sorted_by_id)
        faults.append([check.fault(pa.array(ids, kind)) for ids in batches])
    assert (not any(faults[0])) is fits
    assert not any(faults[1])
