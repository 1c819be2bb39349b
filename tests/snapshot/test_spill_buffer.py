"""Rows come back by bucket, in the order in which they were added, from memory as from the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from etl.snapshot.spill_buffer import BUCKET_KEYS, BUCKETS, DistinctUsers, SpillBuffer

SCHEMA = pa.schema([("key", pa.uint64()), ("number", pa.int64())])


@pytest.mark.parametrize("held", [0, 20_000, 10**9])
def test_rows_of_a_bucket_come_back_in_their_order(tmp_path: Path, held: int) -> None:
    keys = np.random.default_rng(7).integers(0, 2**64 - 1, 5000, dtype=np.uint64)
    keys[::3] = keys[0]
    with SpillBuffer(tmp_path / "rows", SCHEMA, held_bytes=held) as rows:
        for start in range(0, 5000, 100):
            part = slice(start, start + 100)
            rows.add(keys[part], pa.array(np.arange(5000)[part]))
        assert rows.rows == 5000
        assert list(tmp_path.iterdir()) == []  # whatever is on the disk has no name
        for first, stop in ((0, BUCKETS), (0, 1), (3, 17), (BUCKETS - 1, BUCKETS)):
            low, high = first * BUCKET_KEYS, stop * BUCKET_KEYS
            inside = [(key, n) for n, key in enumerate(keys.tolist()) if low <= key < high]
            taken = rows.read(first, stop)
            found = list(zip(taken["key"].to_pylist(), taken["number"].to_pylist(), strict=True))
            assert sorted(found) == sorted(inside)
            same = [n for key, n in found if key == keys[0]]
            assert same == sorted(same)


def test_nothing_comes_back_where_nothing_was_added(tmp_path: Path) -> None:
    with SpillBuffer(tmp_path / "rows", SCHEMA) as rows:
        assert rows.read(0, BUCKETS).num_rows == 0


@pytest.mark.parametrize("held", [0, 10**9])
@pytest.mark.parametrize("columns", [0, 9])
def test_users_are_counted_once_and_marked_by_any_of_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int, columns: int
) -> None:
    monkeypatch.setattr(SpillBuffer.__init__, "__kwdefaults__", {"held_bytes": held})
    chance = np.random.default_rng(8)
    keys = chance.integers(0, 40, 200, dtype=np.uint64) << np.uint64(57)
    marks = chance.random((200, columns)) < 0.05
    with DistinctUsers(tmp_path / "x", columns) as users:
        users.add(keys[:0], marks[:0])
        for start in range(0, 200, 50):
            users.add(keys[start : start + 50], marks[start : start + 50])
        found = users.count()
    marked = [len(np.unique(keys[marks[:, column]])) for column in range(columns)]
    assert found == (len(np.unique(keys)), marked)
