"""The snapshot holds what is known to have arrived, and of whom nobody knows it forgets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from etl.changes import Snapshot
from etl.checkpoint import Entries, StateFolder
from etl.job import Job
from etl.model import End
from etl.pipeline.basis import basis_of

KEYS = np.arange(1, 6, dtype=np.uint64).reshape(-1, 1)
LEFT = 9  # the number of a file that isn't there


def entries(keys: NDArray[np.uint64], end: End = "accepted", file: int = 0) -> Entries:
    return Entries(file, 1, keys, np.full((len(keys), 1), 7, dtype=np.uint32), end)


def known(folder: StateFolder) -> list[int]:
    with Snapshot.open(folder.snapshot) or pytest.fail("no snapshot") as snapshot:
        return [int(key) for _, keys in snapshot.sorted_keys() for key in keys]


def test_who_is_in_doubt_or_has_left_is_forgotten(tmp_path: Path) -> None:
    job = Job.of({"identification": {"user_id": "id", "user_properties": {"plan": "plan"}}})
    folder = StateFolder(tmp_path)
    with basis_of(job, folder) as basis:
        basis.renew(folder.snapshot, job, "one", [entries(KEYS)], LEFT)
    assert known(folder) == [1, 2, 3, 4, 5]
    with basis_of(job, folder) as basis:
        changed = [entries(KEYS[:1]), entries(KEYS[1:2], "in_doubt"), entries(KEYS[3:4], file=LEFT)]
        changed += [entries(KEYS[4:5], "refused", file) for file in (0, LEFT)]
        basis.renew(folder.snapshot, job, "two", changed, LEFT)
    assert known(folder) == [1, 3, 5]
