"""What a night holds in memory depends on partitions and on what changed, not on how many users there are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest

from etl.snapshot import DiffedBatch, FieldGroup, FinalChanges, Layout, SnapshotWriter
from etl.subject import user_keys
from tests.snapshot.builders import differ_for, header, layout_for, mapped_of, opened
from tests.snapshot.test_diff import JOBS, SCHEMA, user

USERS, PARTITION = 400_000, 1_000_000
POOLS: list[pa.MemoryPool] = []  # they stay as long as any buffer
GROUPS = tuple(FieldGroup(name, ((name,),)) for name in "abcdefghijkl")


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes that numpy, Python and Arrow together may have taken for this."""
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.system_memory_pool())
    POOLS.append(pool)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] + (pool.max_memory() or 0)
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)


@pytest.mark.parametrize("mode", ["property", "user"])
@pytest.mark.parametrize("strangers", [0, 500])
def test_a_snapshot_is_renewed_in_the_memory_of_one_partition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Literal["property", "user"], strangers: int
) -> None:
    monkeypatch.setattr("etl.snapshot.sorted_file.PARTITION_BYTES", PARTITION)
    layout, path, chance = Layout(mode, GROUPS), tmp_path / "snapshot.arrow", np.random.default_rng(6)
    keys = chance.integers(0, 2**64, (USERS, 1), np.uint64)
    prints = np.ones((USERS, len(layout.names)), layout.dtype)
    with SnapshotWriter(path, layout, header()) as first:
        first.add(keys, prints)
        first.finish()
    others = np.concatenate([keys[:500], chance.integers(0, 2**64, (strangers, 1), np.uint64)])
    with opened(path) as old, SnapshotWriter(path, layout, header(2), old=old) as renewal:
        assert len(old.partitions) > 4
        renewal.add(others, prints[: len(others)] * 2)
        assert peak_of(renewal.finish) < 1.2 * PARTITION
    with opened(path) as new:
        assert len(new) == USERS + strangers
        wholes = np.concatenate([part.rows.column("whole") for part in new.partitions])
        assert np.unique(wholes, return_counts=True)[1].min() == len(others)


def test_a_look_keeps_a_few_bits_of_each_entry(tmp_path: Path) -> None:
    job, path = JOBS["property"], tmp_path / "snapshot.arrow"
    layout = layout_for(job)
    batches = mapped_of(job, [user(number, plan="changed") for number in range(100)], SCHEMA)
    with SnapshotWriter(path, layout, header()) as first:
        prints = np.ones((USERS, len(layout.names)), layout.dtype)
        first.add(np.random.default_rng(6).integers(0, 2**64, (USERS, 1), np.uint64), prints)
        first.add(user_keys(batches[0].identifications), prints[:100])
        first.finish()
    with opened(path) as snapshot, FinalChanges(snapshot, layout, tmp_path / "x") as warm:
        compared: list[DiffedBatch] = list(differ_for(job, snapshot).each(batches))

        def look(final: FinalChanges) -> None:
            for some in compared:
                assert some.seen is not None
                assert some.ids is not None
                final.add(some.seen, some.ids)
            final.finish()
            assert final.changed() == 100

        def look_anew() -> None:
            with FinalChanges(snapshot, layout, tmp_path / "y") as final:
                look(final)

        look(warm)  # what is imported and found once
        bits = len(layout.names) + 5
        assert peak_of(look_anew) < USERS * bits // 8 + 300_000
