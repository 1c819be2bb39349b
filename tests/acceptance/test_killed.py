"""kill -9 at any instant, the same command again: nothing is lost, and only the unsettled comes twice."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from etl.sandbox import Sandbox, running_sandbox
from tests.acceptance import exports
from tests.acceptance.sending import holds_the_law
from tests.commands import QUICK, Propsync, until

BATCH_SIZE = 200
CONCURRENCY = 4
LIMITS = ("--batch-size", str(BATCH_SIZE), "--concurrency", str(CONCURRENCY))


def csv_file(folder: Path, rows: int) -> Path:
    return exports.write_csv(folder / "users.csv", rows)


def parquet_file(folder: Path, rows: int) -> Path:
    # The groups' borders fall within requests.
    return exports.write_parquet(folder / "users.parquet", rows, group_rows=3_333)


def run(sandbox: Sandbox, job: Path) -> tuple[str | Path, ...]:
    return ("run", job, "--endpoint", sandbox.url, *QUICK, *LIMITS, "--json")


def kill_after(propsync: Propsync, sandbox: Sandbox, job: Path, requests: int, processes: str = "1") -> None:
    """Begin the run, or take it up, and kill it when so many more requests have come."""
    goal = sandbox.stats.requests + requests
    with propsync.begin(*run(sandbox, job), "--processes", processes) as running:
        until(lambda: sandbox.stats.requests >= goal)
        running.kill()
    # What was on its way is still dealt with; only then is it known what came of this life.
    until(lambda: not committing(sandbox))


def committing(sandbox: Sandbox) -> bool:
    before = sandbox.stats.requests
    try:
        until(lambda: sandbox.stats.requests > before, 0.15)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(
    ("write", "rows", "processes", "lives"),
    [
        (parquet_file, 8_000, "2", (3, 15)),
        pytest.param(csv_file, 20_000, "1", (3, 30), marks=pytest.mark.soak),
        pytest.param(csv_file, 20_000, "2", (3, 30), marks=pytest.mark.soak),
        pytest.param(parquet_file, 10_000, "2", (3, 30), marks=pytest.mark.soak),
    ],
)
def test_killed_again_and_again_it_ends_as_if_undisturbed(
    propsync: Propsync,
    sandbox: Sandbox,
    tmp_path: Path,
    write: Callable[[Path, int], Path],
    rows: int,
    processes: str,
    lives: tuple[int, ...],
) -> None:
    job = exports.write_job(tmp_path, source=write(tmp_path, rows).name)
    sandbox.change(latency="20ms")
    ends = []
    for requests in lives:
        kill_after(propsync, sandbox, job, requests, processes)
        ends.append(len(sandbox.requests))
    sandbox.change(latency="0ms")
    finished = propsync(*run(sandbox, job))

    assert finished.code == 0
    assert finished.summary["rows"] == finished.summary["accepted"] == rows
    assert holds_the_law(finished.summary)
    assert 0 < finished.summary["resumed_rows"] < rows

    for end, next_end in pairwise([*ends, len(sandbox.requests)]):
        before = {entry.sha256 for entry in sandbox.requests[:end]}
        again = [entry for entry in sandbox.requests[end:next_end] if entry.sha256 in before]
        assert len(again) <= CONCURRENCY
        assert sum(entry.identifications for entry in again) <= CONCURRENCY * BATCH_SIZE
    # All bodies that ever came have every user in one of them only: what came twice came byte for byte.
    bodies = {entry.sha256: entry.identifications for entry in sandbox.requests}
    assert sum(bodies.values()) == rows

    assert {user: profile.properties for user, profile in sandbox.profiles.users.items()} == undisturbed(
        propsync, job, rows
    )


def undisturbed(propsync: Propsync, job: Path, rows: int) -> dict[str, object]:
    with running_sandbox() as other:
        assert propsync(*run(other, job), "--state-dir", "elsewhere").code == 0
        found: dict[str, object] = {user: p.properties for user, p in other.profiles.users.items()}
    assert found == exports.expected(rows)
    return found


def test_killed_on_a_bad_line_it_ends_as_if_undisturbed(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path
) -> None:
    """With answers that fail or get lost and rows that are turned away, too."""
    bad = tuple(range(50, 6_000, 500))
    exports.write_csv(tmp_path / "users.csv", 6_000, bad=bad)
    job = exports.write_job(tmp_path, source="users.csv")
    sandbox.change(latency="10ms", faults=["503:0.1", "reset-after:0.05", "429:0.05"], retry_after=0.05)
    kill_after(propsync, sandbox, job, 12)
    finished = propsync(*run(sandbox, job))

    assert finished.code == 3
    assert finished.summary["rows"] == 6_000
    assert finished.summary["rejected"] == len(bad)
    assert holds_the_law(finished.summary)
    ids = {f"user-{number:06}" for number in bad}
    assert {user: profile.properties for user, profile in sandbox.profiles.users.items()} == {
        user: found for user, found in exports.expected(6_000).items() if user not in ids
    }
    rejects = (tmp_path / ".propsync" / "job" / "rejects.ndjson").read_text().splitlines()
    assert len(rejects) == len(bad)
    bodies = {entry.sha256: entry.identifications for entry in sandbox.requests}
    assert sum(bodies.values()) == 6_000 - len(bad)


def test_killed_before_anything_was_settled_it_begins_anew(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path
) -> None:
    exports.write_csv(tmp_path / "users.csv", 1_000)
    job = exports.write_job(tmp_path, source="users.csv")
    sandbox.change(outage="stall")
    kill_after(propsync, sandbox, job, 1)
    sandbox.end_outage()
    finished = propsync(*run(sandbox, job))
    assert finished.code == 0
    assert finished.summary["resumed_rows"] == 0
    assert finished.summary["accepted"] == len(sandbox.profiles) == 1_000
