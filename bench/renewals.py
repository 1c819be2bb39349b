"""How long it takes to write a snapshot, without anything else.

    python -m bench.renewals SNAPSHOT

`some`: anew, with every 50th user changed; `everybody`: from nothing, with the same users. In seconds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data import EVERY
from bench.environments import CACHE
from etl.job import load_job
from etl.snapshot import Layout, Snapshot, SnapshotWriter, layout_of

_ROWS = 16_384


def renewals(path: Path) -> dict[str, float]:
    """Both, of the snapshot at `path`, which stays as it is."""
    with Snapshot.open(path) or sys.exit("no snapshot") as old:
        job = load_job(CACHE / f"{old.mode}.yml", environ={})
        layout = layout_of(job.identification, job.changes) or sys.exit("nothing is compared")
        # An export is in no order that a snapshot knows of.
        keys = np.random.default_rng(5).permutation(np.concatenate([keys for _, keys in old.sorted_keys()]))
        some = keys[::EVERY].copy()
        return {
            "some": _seconds(path.with_name("copy.arrow"), layout, old, some, before=old),
            "everybody": _seconds(path.with_name("copy.arrow"), layout, old, keys, before=None),
        }


def _seconds(
    copy: Path, layout: Layout, old: Snapshot, keys: NDArray[np.uint64], *, before: Snapshot | None
) -> float:
    fingerprints = (
        np.random.default_rng(6).integers(1, 2**32, (_ROWS, len(layout.names))).astype(layout.dtype)
    )
    start = time.perf_counter()
    with SnapshotWriter(copy, layout, old.header, old=before) as renewal:
        for first in range(0, len(keys), _ROWS):
            rows = keys[first : first + _ROWS].reshape(-1, 1)
            renewal.add(rows, fingerprints[: len(rows)])
        entries = renewal.finish()
    seconds = time.perf_counter() - start
    if entries != len(old):
        raise RuntimeError(f"{entries:,} entries of {len(old):,}")
    copy.unlink()
    return seconds


if __name__ == "__main__":
    print(json.dumps(renewals(Path(sys.argv[1]))))
