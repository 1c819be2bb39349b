"""Night after night killed at random instants: the profiles are as if everything had been sent."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from etl import Job
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.pipeline.making import IDENTIFICATION, law_holds, rows_of, run_once, write_csv, write_parquet
from tests.soak.gun import BATCH, LANES, Toll, shoot
from tests.soak.proof import Proof

OPTIONS = SandboxOptions(record=True, latency=0.01)
LAW = "1 nothing left out: kill -9 night after night, with a snapshot"


def job_in(folder: Path, night: int) -> Job:
    """The job; from the third night on with a property more."""
    folder.mkdir(exist_ok=True)
    more = {"language": "plan"} if night > 1 else {}
    data = {"name": "job", "source": "users.csv", "partial_families": "reset"}
    return Job.of(data | {"identification": IDENTIFICATION | more}, folder=folder)


def first_export(rows: int, seed: int) -> list[dict[str, str]]:
    """Rows of whom one in ten names a user who has another row."""
    export = rows_of(rows, users=rows, seed=seed, bad=997)
    for number, row in enumerate(export):
        if number % 10 and row["id"] != "x":
            row["id"] = f"user-{number:06}"
    return export


def changed(rows: Sequence[dict[str, str]], share: float, seed: int) -> list[dict[str, str]]:
    """The export of another night: some rows have another plan or score, few are gone, few are new."""
    chance = random.Random(seed)
    export = [
        row | {chance.choice(["plan", "score"]): str(seed)} if chance.random() < share else row
        for row in rows
    ]
    export = [row for row in export if chance.random() > 0.01]
    return export + [row | {"id": f"new-{seed}-{row['id']}"} for row in export[: len(export) // 50]]


def shot_at(
    folder: Path, *, rows: int, nights: int, kills: int, seed: int, kind: str, in_checkpoint: bool = False
) -> Toll:
    """Shoot at each night, and compare with a sandbox that gets each night in full and undisturbed."""
    export, total = first_export(rows, seed), Toll()
    with running_sandbox(OPTIONS) as sandbox, running_sandbox() as full:
        for night in range(nights):
            source = folder / f"users.{kind}"
            if kind == "csv":
                write_csv(source, export)
            else:
                write_parquet(source, export, row_group=rows // 7)
            job = job_in(folder, night)
            everything = replace(job, changes=replace(job.changes, by="off"))
            run_once(folder, full, source, job=everything, state_dir=folder / "full", batch_size=BATCH)
            toll = _one_night(
                folder, sandbox, source, job, kills=kills, seed=seed + night, calm=in_checkpoint
            )
            if sandbox.profiles.as_json() != full.profiles.as_json():
                toll.violations.append(f"night {night}: the profiles aren't as if all had been sent")
            total = Toll(total.kills + toll.kills, violations=total.violations + toll.violations)
            export = changed(export, 0.3, seed + night)
        if sandbox.stats.concurrent_users:
            total.violations.append("a user was in two requests at once")
    return total


def _one_night(
    folder: Path, sandbox: Sandbox, source: Path, job: Job, *, kills: int, seed: int, calm: bool
) -> Toll:
    rows = sum(1 for _ in source.open("rb")) if source.suffix == ".csv" else 20_000
    rate = rows / (kills * 0.25)
    summary, toll = shoot(
        folder, sandbox, source, kills=kills, seed=seed, rate=rate, in_checkpoint=calm, job=job
    )
    if not law_holds(summary):
        toll.violations.append("the law of rows is broken")
    requests = sandbox.stats.requests
    again = run_once(folder, sandbox, source, batch_size=BATCH, concurrency=LANES, job=job)
    # Only those go again who have several rows that differ.
    if again.tally.accepted + again.tally.merged > summary.tally.rows // 4 or not law_holds(again):
        toll.violations.append(f"{sandbox.stats.requests - requests} requests for what was sent already")
    return toll


@pytest.mark.parametrize(
    ("kind", "in_checkpoint"), [("csv", False), pytest.param("parquet", True, marks=pytest.mark.soak)]
)
def test_a_few_kills_a_night_leave_nobody_out(tmp_path: Path, kind: str, in_checkpoint: bool) -> None:
    toll = shot_at(tmp_path, rows=6_000, nights=2, kills=2, seed=61, kind=kind, in_checkpoint=in_checkpoint)
    assert toll.violations == []
    assert toll.kills > 1


@pytest.mark.soak
@pytest.mark.parametrize(("seed", "kind"), [(71, "csv"), (72, "parquet")])
def test_a_hundred_kills_leave_nobody_out(tmp_path: Path, proof: Proof, seed: int, kind: str) -> None:
    toll = shot_at(tmp_path, rows=90_000, nights=5, kills=12, seed=seed, kind=kind)
    proof.add(LAW, toll.kills, toll.violations)
    assert toll.violations == []
    assert toll.kills > 40


@pytest.mark.soak
def test_deaths_inside_the_checkpoint_s_writes_leave_nobody_out(tmp_path: Path, proof: Proof) -> None:
    toll = shot_at(tmp_path, rows=60_000, nights=4, kills=8, seed=81, kind="csv", in_checkpoint=True)
    proof.add(LAW, toll.kills, toll.violations)
    assert toll.violations == []
    assert toll.kills > 15
