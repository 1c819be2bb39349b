"""Counters over the Batch API end exactly right, though runs are killed and answers lost at any instant."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from etl.sandbox import SandboxOptions, parse_fault, running_sandbox
from tests.pipeline.making import counting_job_in, law_holds, rows_of, run_once, write_csv
from tests.soak.gun import BATCH, LANES, Toll, shoot
from tests.soak.proof import Proof

OPTIONS = SandboxOptions(record=True, latency=0.01)
_AFTER_APPLYING = ("500-after:0.1", "502-after:0.05", "reset-after:0.1", "truncate:0.05", "503:0.05")
FAULTS = replace(OPTIONS, faults=tuple(map(parse_fault, _AFTER_APPLYING)))
LAW = "7 counters over batch count once: kills, and faults after applying"


def shot_at(folder: Path, rows: int, seed: int, kills: int) -> tuple[Toll, int]:
    """What kills and faults did to a job of counters, and how many events came again."""
    source, job = folder / "users.csv", counting_job_in(folder)
    write_csv(source, rows_of(rows, users=rows * 3 // 4, seed=seed, bad=997))
    with running_sandbox(OPTIONS) as sandbox:
        calm = run_once(
            folder, sandbox, source, job=job, state_dir=folder / "calm", batch_size=BATCH, concurrency=LANES
        )
        profiles = sandbox.profiles.as_json()
    with running_sandbox(replace(FAULTS, seed=seed)) as sandbox:
        rate = rows / (kills * 0.25)
        summary, toll = shoot(
            folder, sandbox, source, kills=kills, seed=seed, rate=rate, job=job, faulty=True
        )
        came = Counter(entry.sha256 for entry in sandbox.requests if entry.applied)
        again = sandbox.stats.repeated_inserts
        claims = {
            "a total, a list or another property is wrong": sandbox.profiles.as_json() == profiles,
            "no event came again, so nothing was tried": again > 0 and max(came.values()) > 1,
            "a user was in two requests at once": sandbox.stats.concurrent_users == 0,
            "the law of rows is broken": law_holds(summary),
            "rows had another end": summary.rejects_by_code == calm.rejects_by_code
            and (summary.tally.accepted, summary.tally.merged) == (calm.tally.accepted, calm.tally.merged),
        }
    toll.violations += [claim for claim, holds in claims.items() if not holds]
    return toll, again


@pytest.mark.soak
def test_a_few_kills_and_faults_count_nothing_twice(tmp_path: Path) -> None:
    toll, _ = shot_at(tmp_path, 12_000, 41, 3)
    assert toll.violations == []
    assert toll.kills > 0


@pytest.mark.soak
@pytest.mark.parametrize("seed", [51, 52])
def test_a_hundred_kills_and_faults_count_nothing_twice(tmp_path: Path, proof: Proof, seed: int) -> None:
    toll, again = shot_at(tmp_path, 140_000, seed, 55)
    proof.add(LAW, toll.kills, toll.violations)
    proof.add("7 events that came again and were not counted", again)
    assert toll.violations == []
    assert toll.kills == 55
