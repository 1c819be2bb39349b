"""Rows come back by bucket, in the order in which they were added, from memory as from the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from etl.snapshot.spill import BUCKETS, Spill, lowest_keys

SCHEMA = pa.schema([("key", pa.uint64()), ("number", pa.int64())])


@pytest.mark.parametrize("held", [0, 20_000, 10**9])
def test_rows_of_a_bucket_come_back_in_their_order(tmp_path: Path, held: int) -> None:
    keys = np.random.default_rng(7).integers(0, 2**64 - 1, 5000, dtype=np.uint64)
    keys[::3] = keys[0]
    with Spill(tmp_path / "rows", SCHEMA, held_bytes=held) as rows:
        for start in range(0, 5000, 500):
            part = slice(start, start + 500)
            columns = [pa.array(keys[part]), pa.array(np.arange(5000)[part])]
            rows.add(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
        assert rows.rows == 5000
        assert list(tmp_path.iterdir()) == []  # whatever is on the disk has no name
        for first, stop in ((0, BUCKETS), (0, 1), (3, 17), (BUCKETS - 1, BUCKETS)):
            low, high = lowest_keys(first, stop)
            inside = [(key, n) for n, key in enumerate(keys.tolist()) if low <= key < high]
            taken = rows.taken(first, stop)
            found = list(zip(taken["key"].to_pylist(), taken["number"].to_pylist(), strict=True))
            assert sorted(found) == sorted(inside)
            same = [n for key, n in found if key == keys[0]]
            assert same == sorted(same)


def test_nothing_comes_back_where_nothing_was_added(tmp_path: Path) -> None:
    with Spill(tmp_path / "rows", SCHEMA) as rows:
        assert rows.taken(0, BUCKETS).num_rows == 0
