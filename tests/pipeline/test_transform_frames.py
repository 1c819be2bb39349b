"""A job's transform sees the same frames in every run, so a resumed run sends the same requests."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from etl import Job, plan, preview
from etl.run_events import Summary
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.examples import rarely
from tests.pipeline.making import run_once, sent_bodies
from tests.pipeline.nights import KilledError, killed, quiet

ROWS = 10_000  # a frame and a part of one
RECORD = SandboxOptions(record=True, latency=0.001)
FUNCTION = """
def ranked(frame):
    value = frame["n"].astype("int64")
    rank = value.rank(method="first").astype("int64")
    return frame.assign(total=value.cumsum(), rank=rank, rows=len(frame))
"""
IDENTIFICATION = {
    "user_id": "id",
    "user_properties": {"$set": {"rank": "rank", "rows": "rows"}, "$add": {"total": "total"}},
}


def table() -> pa.Table:
    chance = np.random.default_rng(7)
    return pa.table(
        {
            "id": [f"user-{n % 8_000:06d}" for n in range(ROWS)],
            "n": chance.integers(0, 1_000_000, ROWS),
            "key": [f"key-{n:06d}" for n in range(ROWS)],
        }
    )


@pytest.fixture(scope="module", params=["csv", *rarely("parquet", "ndjson")])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("rows") / f"users.{request.param}"
    rows = table()
    if request.param == "csv":
        csv.write_csv(rows, path)
    elif request.param == "parquet":
        pq.write_table(rows, path, row_group_size=1500)
    else:
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows.to_pylist()))
    return path


def job_in(folder: Path, **more: Any) -> Job:
    (folder / "ranking.py").write_text(FUNCTION)
    data = {
        "name": "job",
        "source": "users.csv",
        "transform": "ranking:ranked",
        "identification": IDENTIFICATION,
    }
    return Job.of(data | more, folder=folder)


def send(folder: Path, sandbox: Sandbox, source: Path, **settings: Any) -> Summary:
    return run_once(folder, sandbox, source, job=job_in(folder), batch_size=400, **settings)


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The requests of a run that nothing disturbs."""
    with running_sandbox(RECORD) as sandbox:
        send(tmp_path_factory.mktemp("undisturbed"), sandbox, source)
        return set(sent_bodies(sandbox))


def test_wherever_it_is_interrupted_the_same_requests_come(
    tmp_path: Path, source: Path, expected: set[str]
) -> None:
    chance = random.Random(source.suffix)
    with running_sandbox(RECORD) as sandbox:
        for _ in range(2):
            with killed("committed", chance.randrange(1, 5)) as listener, pytest.raises(KilledError):
                send(tmp_path, sandbox, source, listener=listener, concurrency=chance.choice([1, 3]))
            quiet(sandbox)
        summary = send(tmp_path, sandbox, source)
        assert set(sent_bodies(sandbox)) == expected
    assert summary.resumed_rows > 0
    assert summary.tally.rows == ROWS


def test_looks_see_the_same(tmp_path: Path, source: Path) -> None:
    """The one before sending, the one for users who left, and those of plan and preview."""
    identification = {"user_id": "key", "user_properties": {"rows": "rows", "rank": "rank"}}
    job = job_in(tmp_path, identification=identification, changes="property", absent="unset")
    (first,) = preview(job, source, count=1)
    assert orjson.loads(first)["user_properties"]["$set"]["rows"] == 8192
    assert plan(job, source).tally.accepted == ROWS
    with running_sandbox(RECORD) as sandbox:
        run_once(tmp_path, sandbox, source, job=job, batch_size=1000)
        summary = run_once(tmp_path, sandbox, source, job=job, max_changes=50)
    assert (summary.tally.unchanged, summary.tally.accepted) == (ROWS, 0)
