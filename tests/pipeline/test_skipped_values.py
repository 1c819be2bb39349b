"""Skipped values are told wherever a run is: in its summary, after a kill, and by a look before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etl import Job
from etl.job.known_job import KnownJob
from etl.pipeline.plan import plan_job
from etl.pipeline.settings import Settings
from etl.pipeline.status import status_of
from etl.reader import open_source
from etl.sandbox import Sandbox
from tests.pipeline.making import law_holds
from tests.pipeline.nights import KilledError, arrived, job_in, killed, night, send, write

IDENTIFICATION = {
    "user_id": "id",
    "user_properties": {
        "plan": "plan",
        "score": {"column": "score", "type": "number", "invalid": "skip"},
        "since": {"column": "since", "type": "date", "invalid": "skip", "nulls": ["never"]},
    },
}


def rows_of(count: int) -> list[dict[str, Any]]:
    """Every third score and every fifth date is wrong, every seventh date is a word for null."""
    return [
        {
            "id": f"user-{n:05}",
            "plan": f"plan {n % 3}",
            "score": "many" if n % 3 == 0 else n,
            "since": "never" if n % 7 == 0 else "soon" if n % 5 == 0 else "2024-05-01",
        }
        for n in range(count)
    ]


def expected(count: int) -> dict[str, dict[str, int]]:
    dates = sum(n % 5 == 0 and n % 7 != 0 for n in range(count))
    return {"score": {"bad_number": len(range(0, count, 3))}, "since": {"bad_date": dates}}


def test_rows_arrive_without_them(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path, IDENTIFICATION)
    summary = night(job, sandbox, rows_of(40))
    assert summary.skipped_values == expected(40)
    assert (summary.tally.accepted, summary.tally.rejected) == (40, 0)
    assert law_holds(summary)
    held = arrived(sandbox)
    assert held["user-00001"] == {"plan": "plan 1", "score": 1, "since": "2024-05-01"}
    assert held["user-00003"] == {"plan": "plan 0", "since": "2024-05-01"}
    assert held["user-00005"] == {"plan": "plan 2", "score": 5}
    assert held["user-00007"] == {"plan": "plan 1", "score": 7}
    assert status_of(KnownJob.of(job))["skipped_values"] == expected(40)


def test_a_look_before_tells_the_same(tmp_path: Path) -> None:
    job = job_in(tmp_path, IDENTIFICATION)
    source = open_source([write(tmp_path / "users.csv", rows_of(900))])
    assert plan_job(job, source, settings=Settings()).skipped_values == expected(900)


@pytest.mark.parametrize("after", [1, 4])
def test_a_resumed_run_counts_each_once(tmp_path: Path, sandbox: Sandbox, after: int) -> None:
    job = job_in(tmp_path, IDENTIFICATION)
    path = write(tmp_path / "users.ndjson", rows_of(1_000))
    with killed("committed", after) as listener, pytest.raises(KilledError):
        send(job, sandbox, [path], batch_size=50, concurrency=2, listener=listener)
    summary = send(job, sandbox, [path], batch_size=50, concurrency=2)
    assert summary.resumed_rows > 0
    assert summary.skipped_values == expected(1_000)
    assert law_holds(summary)


def test_the_identical_export_sends_nothing_and_a_mended_value_alone(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    job = job_in(tmp_path, IDENTIFICATION)
    rows = rows_of(300)
    night(job, sandbox, rows)
    again = night(job, sandbox, rows)
    assert (again.tally.accepted, again.tally.unchanged) == (0, 300)
    assert again.skipped_values == expected(300)
    sandbox.reset()
    rows[3] |= {"score": 3}
    night(job, sandbox, rows)
    assert arrived(sandbox) == {"user-00003": {"score": 3}}


def test_options_that_make_the_same_value_send_nothing_again(tmp_path: Path, sandbox: Sandbox) -> None:
    plain: dict[str, Any] = {"user_id": "id", "user_properties": {"plan": "plan"}}
    rows = [{"id": f"user-{n:05}", "plan": ["-", "pro"][n % 2]} for n in range(20)]
    night(job_in(tmp_path, plain), sandbox, rows)
    sandbox.reset()
    rows[5]["plan"] = "max"
    summary = night(
        Job.of(
            {"name": "job", "source": "users.ndjson", "nulls": ["-"], "identification": plain},
            folder=tmp_path,
        ),
        sandbox,
        rows,
    )
    assert arrived(sandbox) == {"user-00005": {"plan": "max"}}
    assert summary.tally.unchanged == 19
