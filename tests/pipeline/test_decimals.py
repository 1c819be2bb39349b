"""Decimals of a negative scale, which only tables in memory have: numbers as any other."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import etl
from etl.job.spec import Job
from etl.run_events import Summary
from etl.sandbox import Sandbox
from tests.pipeline.making import KEY
from tests.pipeline.nights import Row, held, job_in, night

THOUSANDS = pa.decimal128(5, -3)


def numbers(*values: int | None) -> pa.Array:
    return pa.array([None if value is None else Decimal(value) for value in values], THOUSANDS)


def send_table(job: Job, sandbox: Sandbox, columns: dict[str, Any], **settings: Any) -> Summary:
    return etl.run(job, pa.table(columns), key=KEY, endpoint=sandbox.url, **settings)


COLUMNS = {
    "id": ["user-1", "user-2", "user-3"],
    "v": numbers(0, 12000, -5000),
    "list": pa.array([[Decimal(0), Decimal(1000)], [Decimal(0)], None], pa.list_(THOUSANDS)),
    "object": pa.StructArray.from_arrays([numbers(1000, 0, 0)], names=["x"]),
    "coded": numbers(0, 0, 7000).dictionary_encode(),
}
ARRIVED: list[Row] = [
    {"v": 0, "list": [0, 1000], "object": {"x": 1000}, "coded": 0},
    {"v": 12000, "list": [0], "object": {"x": 0}, "coded": 0},
    {"v": -5000, "object": {"x": 0}, "coded": 7000},
]


@pytest.mark.parametrize("changes", ["property", "user"])
def test_they_arrive_and_are_equal_to_the_same_numbers_in_json(
    tmp_path: Path, sandbox: Sandbox, changes: str
) -> None:
    identification = {"user_id": "id", "user_properties": {name: name for name in ARRIVED[0]}}
    job = job_in(tmp_path, identification, changes=changes)
    for expected in (3, 0):
        assert send_table(job, sandbox, COLUMNS).tally.accepted == expected
        assert list(held(sandbox).values()) == ARRIVED
    rows = [{"id": f"user-{place}", **row} for place, row in enumerate(ARRIVED, start=1)]
    assert night(job, sandbox, rows).tally.unchanged == 3


def test_sums_of_them_are_exact(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path, {"user_id": "id", "user_properties": {"$add": {"v": "v"}}})
    send_table(
        job, sandbox, {"id": ["user-1"] * 3 + ["user-2"] * 2, "v": numbers(99_999_000, 0, 99_999_000, 0, 0)}
    )
    assert held(sandbox) == {"user-1": {"v": 199_998_000}, "user-2": {"v": 0}}


def test_as_ids_they_have_all_their_digits_and_a_reject_is_json(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path, {"user_id": {"column": "id"}, "user_properties": {"v": "v"}})
    summary = send_table(job, sandbox, {"id": numbers(0, 12_000), "v": numbers(1000, 0)})
    assert held(sandbox) == {"12000": {"v": 0}}
    assert summary.tally.rejected == 1
    (reject,) = map(json.loads, (job.state_dir / "rejects.ndjson").open())
    assert (reject["code"], reject["values"]) == ("refused_id", {"id": 0, "v": 1000})
    again = etl.run(job, str(job.state_dir / "rejects.ndjson"), key=KEY, endpoint=sandbox.url)
    assert again.rejects_by_code == {"refused_id": 1}
