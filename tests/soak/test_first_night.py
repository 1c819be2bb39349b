"""A first night killed at random instants leaves the snapshot of an undisturbed one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from etl import Job
from etl.sandbox import SandboxOptions, running_sandbox
from tests.pipeline.making import IDENTIFICATION, rows_of, run_once, write_parquet
from tests.soak.gun import BATCH, Toll, shoot
from tests.soak.proof import Proof

LAW = "1 nothing left out: the snapshot of a first night after kill -9"


def shot_at(folder: Path, changes: str, *, rows: int, kills: int, seed: int, in_checkpoint: bool) -> Toll:
    """Shoot at a run without a snapshot; compare what it leaves with what an undisturbed one leaves."""
    source = folder / "users.parquet"
    # Every fifth user has several rows, so that their order counts, and some rows are rejects.
    export = rows_of(rows, users=rows, seed=seed, bad=997)
    for number, row in enumerate(export):
        if number % 5 and row["id"] != "x":
            row["id"] = f"user-{number:06}"
    write_parquet(source, export, row_group=rows // 5)
    data = {"name": "job", "source": "users.parquet", "partial_families": "reset", "changes": changes}
    job = Job.of(data | {"identification": IDENTIFICATION}, folder=folder)
    with running_sandbox(SandboxOptions(record=True, latency=0.01)) as sandbox:
        run_once(folder, sandbox, source, job=job, state_dir=folder / "calm", batch_size=BATCH)
        rate = rows / (kills * 0.25)
        _, toll = shoot(
            folder, sandbox, source, kills=kills, seed=seed, rate=rate, in_checkpoint=in_checkpoint, job=job
        )
    calm, shot = (
        pa.ipc.open_file(path / "snapshot.arrow").read_all()
        for path in (folder / "calm", folder / ".propsync" / "job")
    )
    if not calm.equals(shot):  # but for the metadata, which name the run
        toll.violations.append(f"{len(shot)} entries, and {len(calm)} without a kill, or others")
    left = {path.name for path in (folder / ".propsync" / "job").iterdir()}
    if left & {"checkpoint.sqlite-sent", "checkpoint.sqlite-wal"}:
        toll.violations.append(f"files are left: {sorted(left)}")
    return toll


def test_a_few_kills_leave_no_entry_out(tmp_path: Path) -> None:
    toll = shot_at(tmp_path, "property", rows=4_000, kills=2, seed=81, in_checkpoint=True)
    assert toll.violations == []
    assert toll.kills > 1


@pytest.mark.soak
@pytest.mark.parametrize("in_checkpoint", [True, False])
@pytest.mark.parametrize(("seed", "changes"), [(91, "property"), (92, "user")])
def test_dozens_of_kills_leave_no_entry_out(
    tmp_path: Path, proof: Proof, changes: str, in_checkpoint: bool, seed: int
) -> None:
    toll = shot_at(tmp_path, changes, rows=60_000, kills=30, seed=seed, in_checkpoint=in_checkpoint)
    proof.add(LAW, toll.kills, toll.violations)
    assert toll.violations == []
    assert toll.kills > 15
