"""The snapshot holds what is known to have arrived, and of whom nobody knows it no value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from etl.checkpoint import SentEntries, StateDir
from etl.job.spec import Job
from etl.model import End
from etl.pipeline.diff_base import open_diff_base
from etl.snapshot import Snapshot, layout_of
from etl.snapshot.snapshot_entries import entries_in

JOB = Job.of({"identification": {"user_id": "id", "user_properties": {"plan": "plan"}}})
KEYS = np.arange(1, 6, dtype=np.uint64).reshape(-1, 1)
LEFT = 9  # the number of a file that isn't there


def entries(keys: NDArray[np.uint64], end: End = "accepted", file: int = 0) -> SentEntries:
    return SentEntries(file, 1, keys, np.full((len(keys), 1), 7, dtype=np.uint32), end)


def known(folder: StateDir) -> dict[int, int]:
    """The print of each user, 0 for one that nobody knows."""
    layout = layout_of(JOB.identification, JOB.changes)
    assert layout is not None
    with Snapshot.open(folder.snapshot) or pytest.fail("no snapshot") as snapshot:
        found = entries_in(snapshot.between(0, 2**64), layout, snapshot.names)
        return dict(zip(found.keys.tolist(), found.fingerprints[:, 0].tolist(), strict=True))


def test_of_who_is_in_doubt_nothing_is_known_and_who_has_left_is_forgotten(tmp_path: Path) -> None:
    job = JOB
    folder = StateDir(tmp_path)
    with open_diff_base(job, folder) as diff_base:
        diff_base.rewrite(folder.snapshot, diff_base.header(job, "one"), lambda: [entries(KEYS)], LEFT)
    assert known(folder) == dict.fromkeys([1, 2, 3, 4, 5], 7)
    with open_diff_base(job, folder) as diff_base:
        changed = [entries(KEYS[:1]), entries(KEYS[1:2], "in_doubt"), entries(KEYS[3:4], file=LEFT)]
        # Whoever is in doubt while being unset is kept, to be unset again.
        changed += [entries(KEYS[2:3], "in_doubt", LEFT)]
        changed += [entries(KEYS[4:5], "refused", file) for file in (0, LEFT)]
        diff_base.rewrite(folder.snapshot, diff_base.header(job, "two"), lambda: changed, LEFT)
    assert known(folder) == {1: 7, 2: 0, 3: 0, 5: 7}
