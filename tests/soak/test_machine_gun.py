"""Killed at any instant, run again until it ends: nothing lost, nothing twice but the unsettled."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from etl.checkpoint import Checkpoint
from etl.run_events import Summary
from etl.sandbox import SandboxOptions, running_sandbox
from etl.tally import Tally
from tests.checkpoint.builders import IDENTITY, committed, reject
from tests.pipeline.making import law_holds, rows_of, run_once, sent_bodies, write_csv, write_parquet
from tests.soak.gun import BATCH, LANES, Toll, die_in_call, shoot
from tests.soak.proof import Proof

OPTIONS = SandboxOptions(record=True, latency=0.01)


def source_in(folder: Path, kind: str, rows: int, seed: int) -> Path:
    source = folder / f"users.{kind}"
    made = rows_of(rows, users=rows * 3 // 4, seed=seed, bad=997)
    if kind == "csv":
        write_csv(source, made)
    else:
        write_parquet(source, made, row_group=rows // 7)
    return source


def undisturbed(folder: Path, source: Path) -> tuple[dict[str, object], Summary, set[str]]:
    with running_sandbox(OPTIONS) as sandbox:
        summary = run_once(
            folder, sandbox, source, state_dir=folder / "calm", batch_size=BATCH, concurrency=LANES
        )
        return sandbox.profiles.as_json(), summary, set(sent_bodies(sandbox))


def judge(folder: Path, kind: str, rows: int, seed: int, kills: int, *, in_checkpoint: bool = False) -> Toll:
    """Shoot at a job and compare what it left with what an undisturbed run leaves."""
    source = source_in(folder, kind, rows, seed)
    profiles, calm, bodies = undisturbed(folder, source)
    with running_sandbox(OPTIONS) as sandbox:
        rate = rows / (kills * 0.25)
        summary, toll = shoot(
            folder, sandbox, source, kills=kills, seed=seed, rate=rate, in_checkpoint=in_checkpoint
        )
        claims = {
            "the profiles differ from an undisturbed run's": sandbox.profiles.as_json() == profiles,
            "a request had other bytes than an undisturbed run's": set(sent_bodies(sandbox)) == bodies,
            "a user was in two requests at once": sandbox.stats.concurrent_users == 0,
            "the law of rows is broken": law_holds(summary) and _rows(summary) == _rows(calm),
        }
    rejects = (folder / ".propsync" / "job" / "rejects.ndjson").read_bytes()
    claims["the rejects differ"] = rejects == (folder / "calm" / "rejects.ndjson").read_bytes()
    toll.violations += [claim for claim, holds in claims.items() if not holds]
    return toll


def _rows(summary: Summary) -> object:
    return replace(summary.tally, requests=0, retries=0, throttled=0, bytes=0, in_doubt=0)


def test_a_few_kills_lose_nothing(tmp_path: Path) -> None:
    toll = judge(tmp_path, "csv", 8_000, 1, 3)
    assert toll.violations == []
    assert toll.kills > 0


def test_death_inside_the_checkpoint_s_writes_loses_nothing(tmp_path: Path) -> None:
    toll = judge(tmp_path, "parquet", 8_000, 2, 3, in_checkpoint=True)
    assert toll.violations == []
    assert toll.kills > 0


@pytest.mark.soak
@pytest.mark.parametrize(("seed", "kind"), [(11, "csv"), (12, "parquet"), (13, "parquet"), (14, "csv")])
def test_two_hundred_kills_lose_nothing(tmp_path: Path, proof: Proof, seed: int, kind: str) -> None:
    toll = judge(tmp_path, kind, 140_000, seed, 50)
    proof.add("1 nothing lost: kill -9 at random instants", toll.kills, toll.violations)
    proof.add(f"2 at most {LANES} x {BATCH} sent again, byte for byte", toll.kills, toll.violations)
    assert toll.violations == []
    assert toll.kills == 50


@pytest.mark.soak
@pytest.mark.parametrize("seed", [21, 22])
def test_fifty_deaths_inside_the_checkpoint_s_writes_lose_nothing(
    tmp_path: Path, proof: Proof, seed: int
) -> None:
    toll = judge(tmp_path, "csv", 100_000, seed, 25, in_checkpoint=True)
    proof.add("1 nothing lost: kill -9 inside the checkpoint's writes", toll.kills, toll.violations)
    assert toll.violations == []
    assert toll.kills > 10


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_death_inside_the_checkpoint_s_system_calls_loses_nothing(tmp_path: Path, proof: Proof) -> None:
    source = source_in(tmp_path, "csv", 20_000, 31)
    profiles, calm, bodies = undisturbed(tmp_path, source)
    violations, kills = [], 0
    with running_sandbox(OPTIONS) as sandbox:
        for call in ("pwrite64", "fdatasync", "fsync"):
            for number in (1, 2, 3, 5, 8, 13, 21, 34):
                died = die_in_call(tmp_path, sandbox.url, source, call, number)
                kills += died
                if not died:  # it came to its end: what follows begins anew, not as its second night
                    shutil.rmtree(tmp_path / ".propsync")
        summary = run_once(tmp_path, sandbox, source, batch_size=BATCH, concurrency=LANES)
        if sandbox.profiles.as_json() != profiles or set(sent_bodies(sandbox)) != bodies:
            violations.append("the profiles or the requests differ")
        if _rows(summary) != _rows(calm):
            violations.append("the counts differ")
    proof.add("1 nothing lost: kill -9 inside a write or sync of the checkpoint", kills, violations)
    assert violations == []
    assert kills > 8


def test_a_torn_write_ahead_log_loses_only_what_was_last(tmp_path: Path) -> None:
    with Checkpoint.create(tmp_path / "whole.sqlite", IDENTITY) as checkpoint:
        chunks = [committed(first, 10, rejects=(reject(first),)) for first in range(1, 300, 10)]
        for chunk in chunks:
            checkpoint.commit([chunk], Tally(), 0)
        log = (tmp_path / "whole.sqlite-wal").read_bytes()
        database = (tmp_path / "whole.sqlite").read_bytes()
    row_ranges, lengths = [chunk.row_range for chunk in chunks], set()
    for number in range(60):
        torn = tmp_path / f"{number}.sqlite"
        torn.write_bytes(database)
        torn.with_name(torn.name + "-wal").write_bytes(log[: len(log) * (number + 1) // 60])
        found = Checkpoint.load(torn)
        if found is not None:
            with found:
                kept = list(found.committed())
            assert kept == row_ranges[: len(kept)]
            lengths.add(len(kept))
    assert max(lengths) == len(chunks)
    assert len(lengths) > 10
