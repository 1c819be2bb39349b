"""What is said of nights is so: who arrived, how fast, and where the straight line goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bench.children import Ran
from bench.data import EVERY, GROUP, job, write
from bench.nights import MODES, share_of
from bench.recorder import Record, compared
from bench.report import cost, night_lines, night_targets
from etl.job.spec import parse_job
from tests.examples import each_row

USERS = 220


@pytest.fixture
def export(tmp_path: Path) -> Path:
    path = tmp_path / "users.changed.parquet"
    write(path, USERS)
    return path


def record_of(export: Path, mode: str) -> list[dict[str, Any]]:
    """What a night should send, as a request would have it."""
    rows = pq.read_table(export).to_pylist()[::EVERY]
    return [
        {"user_id": row["id"], "user_properties": {"$set": {"plan": row["plan"]}}}
        if mode == "property"
        else {
            "user_id": row["id"],
            **{name: row[name] for name in ("platform", "os_name", "app_version", "language")},
            "user_properties": {
                "$set": {
                    name: value
                    for name, value in row.items()
                    if name not in {"id", "platform", "os_name", "app_version", "language"}
                }
            },
        }
        for row in rows
    ]


def looked_at(sent: list[dict[str, Any]], export: Path, mode: str) -> dict[str, Any]:
    record = Record()
    for one in sent:
        body = json.dumps({"events": [{"event_type": "$identify", **one}]}).encode()
        record.add("/2/httpapi", body)
    path = export.with_name("record.ndjson")
    record.write(path)
    return compared(path, export, mode)


def test_each_fiftieth_user_has_another_plan_and_nothing_else(tmp_path: Path, export: Path) -> None:
    write(tmp_path / "users.parquet", USERS)
    before, after = pq.read_table(tmp_path / "users.parquet").to_pylist(), pq.read_table(export).to_pylist()
    differing = [number for number in range(USERS) if before[number] != after[number]]
    assert differing == list(range(0, USERS, EVERY))
    assert all(before[number] | {"plan": after[number]["plan"]} == after[number] for number in range(USERS))
    assert GROUP % EVERY == 0


@pytest.mark.parametrize("mode", MODES)
def test_those_who_changed_are_all_that_should_arrive(export: Path, mode: str) -> None:
    sent = record_of(export, mode)
    found = looked_at(sent[::-1], export, mode)
    assert found == {"changed": 5, "arrived": 5, "wrong": 0, "some": []}


@pytest.mark.parametrize("mode", MODES)
def test_whatever_else_arrives_is_seen(export: Path, mode: str) -> None:
    sent = record_of(export, mode)
    assert looked_at(sent[1:], export, mode)["wrong"] > 0
    assert looked_at([*sent, sent[0] | {"user_id": "user-000000001"}], export, mode)["wrong"] > 0
    assert looked_at([*sent, sent[0]], export, mode)["arrived"] == 6
    more = sent[0] | {"user_properties": sent[0]["user_properties"] | {"$unset": {"seats": "-"}}}
    assert looked_at([more, *sent[1:]], export, mode)["wrong"] == 1


def test_by_property_one_that_did_not_change_is_one_too_many(export: Path) -> None:
    sent = record_of(export, "property")
    sent[2]["user_properties"]["$set"]["seats"] = 3
    assert looked_at(sent, export, "property")["wrong"] == 1


@pytest.mark.parametrize("by", ["off", *MODES])
def test_a_job_compares_as_it_is_told(by: str) -> None:
    parsed = parse_job(json.dumps(job("names", "parquet", by)), name="job.yml", folder=Path())
    assert parsed.changes.by == by


def test_a_night_is_judged_by_its_neighbour() -> None:
    same = [ran_in(2.0), ran_in(30.0), ran_in(4.0)]
    produced = [ran_in(1.0), ran_in(30.0), ran_in(8.0)]
    assert share_of(same, produced, lambda one: one.wall) == 1.0


def ran_in(seconds: float) -> Ran:
    return Ran(seconds, 0.0, 0.0, 0.0, {})


def test_pairs_of_runs_are_compared_one_by_one() -> None:
    found = {"with": [{"wall": 3.0}, {"wall": 5.0}], "without": [{"wall": 2.0}, {"wall": 5.0}]}
    line = "| it | +25% of the run (2 pairs, +0% to +50%) | at most 15% | missed |"
    assert cost("it", found, "without", "with", 0.15) == line


def night(users: int, **others: float) -> dict[str, Any]:
    times = dict.fromkeys(("first", "same", "changed", "renewal", "renewal_first"), users / 1e6)
    times["changed"] *= 1.2
    sizes = ("megabytes_first", "megabytes_same", "megabytes_changed", "largest_same", "largest_changed")
    shares = {"share": 1.2, "share_whole": 1.1, "share_columns": 0.4}
    shares |= {"bytes": 20 * users, "arrived": users // 50}
    who = {"data": "names", "mode": "user", "users": users}
    return who | times | dict.fromkeys(sizes, 240.0) | shares | others


@each_row(
    "missed",
    [
        {"share": 0.79},
        {"share_columns": 0.34},
        {"changed": 27.0},
        {"megabytes_same": 250.0},
        {"arrived": 399_999},
        {"renewal": 30.0},
        {"bytes": 24 * 20_000_000},
    ],
)
def test_a_target_is_missed_where_it_is_missed(missed: dict[str, float]) -> None:
    steps = [night(1_000_000), night(10_000_000)]
    assert all(line.endswith("| holds |") for line in night_targets([*steps, night(20_000_000)]))
    lines = list(night_targets([*steps, night(20_000_000, **missed)]))
    assert sum(line.endswith("| missed |") for line in lines) == 1


def test_the_page_has_a_line_for_each_number_of_users() -> None:
    page = "\n".join(night_lines([night(n * 1_000_000) for n in (1, 10, 20)], {}))
    assert "| 10,000,000 names | user | 10.0 s | 10.0 s | 1.20 | 1.10 | 0.40 |" in page
    assert "| 20,000,000 names | user | 24.0 s | 20.0 s | 20.0 s | 400 MB | 20.0 |" in page
