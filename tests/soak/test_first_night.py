"""A first night killed at random instants leaves the snapshot of an undisturbed one."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest

from etl import Job
from etl.checkpoint import Checkpoint
from etl.sandbox import SandboxOptions, running_sandbox
from tests.pipeline.making import IDENTIFICATION, rows_of, run_once, write_parquet
from tests.soak.gun import BATCH, LANES, Toll, run_and_kill
from tests.soak.proof import Proof

LAW = "1 nothing left out: the snapshot of a first night after kill -9"


def shot_at(folder: Path, changes: str, *, rows: int, statements: tuple[int, int], seed: int) -> Toll:
    """Kill each process as it gives the checkpoint one of these statements, until one comes through.

    Only kills after something was accepted count: before that there is no entry to be lost.
    """
    source, state, chance, toll = (
        folder / "users.parquet",
        folder / ".propsync" / "job",
        random.Random(seed),
        Toll(),
    )
    # Every fifth user has several rows, so that their order counts, and some rows are rejects.
    export = rows_of(rows, users=rows, seed=seed, bad=997)
    for number, row in enumerate(export):
        if number % 5 and row["id"] != "x":
            row["id"] = f"user-{number:06}"
    write_parquet(source, export, row_group=rows // 5)
    data = {"name": "job", "source": "users.parquet", "partial_families": "reset", "changes": changes}
    job = Job.of(data | {"identification": IDENTIFICATION}, folder=folder)
    with running_sandbox(SandboxOptions(latency=0.01)) as sandbox:
        run_once(folder, sandbox, source, job=job, state_dir=folder / "calm", batch_size=BATCH)
        while run_and_kill((folder, sandbox.url, source, None, chance.randrange(*statements), job), None):
            with Checkpoint.load(state / "checkpoint.sqlite") or pytest.fail("no checkpoint") as left:
                toll.kills += next(left.sent(), None) is not None
        run_once(folder, sandbox, source, job=job, batch_size=BATCH, concurrency=LANES)
    # A process that only has to write the snapshot then begins a run of its own, which confirms each entry.
    calm, shot = (
        pa.ipc.open_file(path / "snapshot.arrow").read_all().drop_columns(["run"])
        for path in (folder / "calm", state)
    )
    if not calm.equals(shot):
        toll.violations.append(f"{len(shot)} entries, and {len(calm)} without a kill, or others")
    if (state / "checkpoint.sqlite-sent").exists():
        toll.violations.append("what was sent is left when the snapshot has it")
    return toll


def test_a_few_kills_leave_no_entry_out(tmp_path: Path) -> None:
    toll = shot_at(tmp_path, "property", rows=4_000, statements=(60, 100), seed=81)
    assert toll.violations == []
    assert toll.kills


@pytest.mark.soak
@pytest.mark.parametrize(("seed", "changes"), [(91, "property"), (92, "user")])
def test_dozens_of_kills_leave_no_entry_out(tmp_path: Path, proof: Proof, changes: str, seed: int) -> None:
    toll = shot_at(tmp_path, changes, rows=60_000, statements=(50, 120), seed=seed)
    proof.add(LAW, toll.kills, toll.violations)
    assert toll.violations == []
    assert toll.kills > 10
