"""Spark's hash of ids, and what it says of a task's rows. The expected hashes are those of Spark 4.3."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from etl.spark.partitions import PartitionCheck, spark_hash


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
    found = spark_hash(ids)
    assert found is not None
    assert found.tolist() == hashes


def test_part_of_an_array_hashes_like_its_texts() -> None:
    ids = pa.array([f"user-{n}" for n in range(100)])
    whole = spark_hash(ids)
    part = spark_hash(ids.slice(40, 20))
    assert whole is not None
    assert part is not None
    assert part.tolist() == whole[40:60].tolist()


def partitions(count: int, rows: int = 5000) -> list[pa.Array]:
    ids = pa.array([f"user-{n:05}" for n in range(rows)])
    hashes = spark_hash(ids)
    assert hashes is not None
    return [ids.filter(pa.array(np.mod(hashes, count) == number)) for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_rows_where_spark_puts_them_fit(count: int) -> None:
    for number, ids in enumerate(partitions(count)):
        check = PartitionCheck(number, sorted_by_id=True)
        assert check.fits(ids.slice(0, 3))
        assert check.fits(ids.slice(3))


def test_rows_anywhere_do_not() -> None:
    mixed = pa.array([f"user-{n:05}" for n in range(0, 5000, 4)])
    assert not PartitionCheck(1, sorted_by_id=False).fits(mixed)
    # Of the first partition nothing can be told; another one shows it.
    assert PartitionCheck(0, sorted_by_id=False).fits(mixed)


def test_a_partition_that_was_put_behind_others_does_not() -> None:
    """As in a union of two DataFrames that are partitioned alike."""
    for number, ids in enumerate(partitions(4)):
        assert not PartitionCheck(4 + number, sorted_by_id=False).fits(ids)


@pytest.mark.parametrize(
    ("batches", "fits"),
    [
        ([["a", "b"], ["b", "c"]], True),
        ([["a", "c"], ["b"]], False),
        ([["b", "a"]], False),
        ([[None, "a"], ["ä"]], True),
        ([["Z"], ["a"]], True),
    ],
)
def test_where_it_matters_ids_must_ascend(batches: list[list[str | None]], fits: bool) -> None:
    check = PartitionCheck(0, sorted_by_id=True)
    assert all(check.fits(pa.array(ids, pa.string())) for ids in batches) is fits
    check = PartitionCheck(0, sorted_by_id=False)
    assert all(check.fits(pa.array(ids, pa.string())) for ids in batches)
