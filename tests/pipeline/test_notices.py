"""What a run says besides the counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl import Job
from etl.pipeline.plan import plan_job
from etl.pipeline.settings import Settings
from etl.reader import open_source
from etl.run_events import Event, Warned
from etl.sandbox import Sandbox
from tests.pipeline.making import counting_job_in, run_once

SAFE = 2**53
COUNT = 300


def codes(heard: list[Event]) -> list[str]:
    return [event.code for event in heard if isinstance(event, Warned)]


def test_counters_sent_twice_from_the_same_file_are_told(tmp_path: Path, sandbox: Sandbox) -> None:
    job = counting_job_in(tmp_path)
    users = tmp_path / "users.csv"
    told: list[list[str]] = []
    for content, again in (("user-1,pro,5\n", False), ("user-1,pro,5\n", True), ("user-1,pro,6\n", False)):
        heard: list[Event] = []
        users.write_text(f"id,plan,score\n{content}")
        run_once(tmp_path, sandbox, users, job=job, listener=heard.append, again=again)
        told.append(codes(heard))
    assert told == [[], ["again"], []]
    assert sandbox.profiles.users["user-1"].properties["points"] == 16


def numbers_job(folder: Path) -> Job:
    columns: dict[str, Any] = {
        name: name for name in ("small", "large", "negative", "unsigned", "many", "text")
    }
    columns["read"] = {"column": "text", "type": "integer"}
    data = {"name": "job", "source": "users.parquet", "identification": {"user_id": "id"}}
    data["identification"]["user_properties"] = columns  # type: ignore[index]
    return Job.of(data, folder=folder)


def write_numbers(path: Path, offset: int) -> Path:
    """Numbers at the limit, and in one row, far from the first, `offset` above it."""
    above = [SAFE + offset if row == COUNT - 1 else SAFE for row in range(COUNT)]
    columns = {
        "id": pa.array([f"user-{row:05}" for row in range(COUNT)]),
        "small": pa.array([SAFE] * (COUNT - 1) + [None], pa.int64()),
        "large": pa.array(above, pa.int64()),
        "negative": pa.array([-number for number in above], pa.int64()),
        "unsigned": pa.array(above, pa.uint64()),
        "many": pa.array([[1, None, number] for number in above], pa.list_(pa.int64())),
        "text": pa.array([str(number) for number in above]),
    }
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("offset", "names"), [(0, []), (1, ["large", "many", "negative", "read", "unsigned"])]
)
def test_numbers_that_browsers_show_wrong_are_told_once_for_each_property(
    tmp_path: Path, sandbox: Sandbox, offset: int, names: list[str]
) -> None:
    users, job = write_numbers(tmp_path / "users.parquet", offset), numbers_job(tmp_path)
    planned = plan_job(job, open_source([users]), settings=Settings(batch_size=50)).warnings
    heard: list[Event] = []
    run_once(tmp_path, sandbox, users, job=job, listener=heard.append)
    told = [event for event in heard if isinstance(event, Warned)]
    assert told == planned
    assert [(warning.code, warning.message.partition(":")[0]) for warning in told] == [
        ("large_numbers", name) for name in names
    ]
    properties = sandbox.profiles.users[f"user-{COUNT - 1:05}"].properties
    assert (properties["large"], properties["read"]) == (SAFE + offset,) * 2
    assert properties["many"] == [1, SAFE + offset]
