"""Over the Batch API a row counts once, whatever happens on the way, and bad rows cost only themselves."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etl import Job, plan
from etl.errors import StaleCheckpointError, TooManyRejectsError, UsageError
from etl.pipeline.settings import RejectLimit
from etl.run_events import Event, Summary, Warned
from etl.sandbox import Sandbox, SandboxOptions, parse_fault, running_sandbox
from tests.pipeline.making import counting_job_in, law_holds, rows_of, run_once, write_csv

Rows = list[dict[str, str]]
RECORD = SandboxOptions(record=True)


def send(folder: Path, sandbox: Sandbox, rows: Rows, *, job: Job | None = None, **settings: Any) -> Summary:
    source = folder / "users.csv"
    write_csv(source, rows)
    job = job or counting_job_in(folder)
    return run_once(folder, sandbox, source, job=job, **({"batch_size": 200} | settings))


def users_of(sandbox: Sandbox) -> dict[str, Any]:
    profiles: Any = sandbox.profiles.as_json()
    users: dict[str, Any] = profiles["users"]
    return users


def totals(sandbox: Sandbox) -> dict[str, tuple[int, list[int]]]:
    """What the server holds of each user: the sum, and the appended values."""
    return {
        user: (profile["amp_props"].get("points", 0), list(map(int, profile["amp_props"].get("scores", []))))
        for user, profile in users_of(sandbox).items()
    }


def expected(rows: Rows) -> dict[str, tuple[int, list[int]]]:
    scores: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        scores[row["id"]].append(int(row["score"]))
    return {user: (sum(found), found) for user, found in scores.items()}


@pytest.mark.parametrize("ingested", ["all", "new"])
def test_resends_after_applying_count_once(tmp_path: Path, ingested: Any) -> None:
    rows = rows_of(1000, users=225)
    faults = ("500-after:0.2", "reset-after:0.2", "502-after:0.1", "truncate:0.1", "503:0.1")
    options = SandboxOptions(
        record=True, faults=tuple(map(parse_fault, faults)), ingested=ingested, latency=0.002
    )
    heard: list[Event] = []
    with running_sandbox(options) as sandbox:
        summary = send(tmp_path, sandbox, rows, listener=heard.append, batch_size=50)
        assert totals(sandbox) == expected(rows)
        assert sandbox.stats.repeated_inserts > 0
        assert sandbox.stats.concurrent_users == sandbox.stats.repeated_users == 0
        assert sandbox.stats.unknown_keys == Counter()
        assert summary.tally.bytes == sum(entry.size for entry in sandbox.requests)
        repeated = sandbox.stats.repeated_inserts
    assert law_holds(summary)
    assert summary.tally.accepted + summary.tally.merged == 1000
    assert summary.tally.in_doubt == 0
    warnings = [event for event in heard if isinstance(event, Warned)]
    # Those that were counted when the answer was lost are said to be missing in the next one's count.
    if ingested == "new":
        assert 0 < summary.tally.uncounted <= repeated
        assert [warning.code for warning in warnings] == ["uncounted"]
        assert f"{summary.tally.uncounted:,} events that it did not count" in warnings[0].message
    else:
        assert summary.tally.uncounted == 0
        assert warnings == []


def test_a_run_that_is_taken_up_counts_once_and_tomorrow_s_run_counts_again(tmp_path: Path) -> None:
    rows = rows_of(1000, users=250)
    bad = {"id": "x", "platform": "", "os": "", "plan": "", "score": "1"}
    broken = [*rows[:750], *[bad] * 30, *rows[750:]]
    # The first process dies with requests applied that it never heard of.
    options = SandboxOptions(record=True, faults=(parse_fault("500-after:0.5"),))
    with running_sandbox(options) as sandbox:
        with pytest.raises(TooManyRejectsError):
            send(tmp_path, sandbox, broken, max_rejects=RejectLimit(count=20), concurrency=2)
        before = len(sandbox.requests)
        summary = run_once(
            tmp_path, sandbox, tmp_path / "users.csv", job=counting_job_in(tmp_path), batch_size=200
        )
        assert len(sandbox.requests) > before
        assert summary.resumed_rows > 0
        assert totals(sandbox) == expected(rows)
        job = counting_job_in(tmp_path)
        run_once(tmp_path, sandbox, tmp_path / "users.csv", job=job, batch_size=200, again=True)
        assert totals(sandbox) == {user: (2 * n, found * 2) for user, (n, found) in expected(rows).items()}


@pytest.mark.parametrize("offenders", ["all", "first", "none"])
def test_bad_rows_cost_only_themselves(tmp_path: Path, offenders: Any) -> None:
    rows = rows_of(1000, users=1000)
    poison = frozenset(rows[n]["id"] for n in (3, 4, 500, 777, 778, 779, 990))
    bad = [number for number, row in enumerate(rows, start=1) if row["id"] in poison]
    options = SandboxOptions(record=True, poison_users=poison, offenders=offenders)
    with running_sandbox(options) as sandbox:
        summary = send(tmp_path, sandbox, rows, batch_size=None, concurrency=1)
        good = [row for row in rows if row["id"] not in poison]
        assert totals(sandbox) == expected(good)
        requests = len(sandbox.requests)
    assert law_holds(summary)
    rejects = [
        json.loads(line) for line in (tmp_path / ".propsync/job/rejects.ndjson").read_text().splitlines()
    ]
    assert [reject["row"] for reject in rejects] == bad
    assert {reject["code"] for reject in rejects} == {"malformed"}
    named = offenders != "none"
    assert all(("invalid value in user_id" in reject["reason"]) == named for reject in rejects)
    halving = 1 + 2 * len(bad) * (math.log2(1000 / len(bad)) + 2)
    assert requests <= {"all": 2, "first": len(bad) + 6, "none": halving}[offenders]


def test_a_hot_user_waits_alone_and_one_over_the_quota_is_handed_back(tmp_path: Path) -> None:
    rows = rows_of(600, users=600)
    hot, over = rows[10]["id"], rows[20]["id"]
    options = SandboxOptions(
        record=True, hot_users=frozenset([hot]), hot_tries=2, quota_users=frozenset([over]), latency=0.001
    )
    with running_sandbox(options) as sandbox:
        summary = send(tmp_path, sandbox, rows, batch_size=100)
        assert totals(sandbox) == expected([row for row in rows if row["id"] != over])
        assert sandbox.stats.concurrent_users == 0
    assert dict(summary.rejects_by_code) == {"daily_quota": sum(row["id"] == over for row in rows)}
    assert summary.tally.throttled >= 3
    assert law_holds(summary)


def test_the_time_of_a_row_is_that_of_its_event(tmp_path: Path) -> None:
    rows = [{"id": "user-1", "plan": "pro", "score": "1", "seen": "2024-05-01"}]
    job = counting_job_in(tmp_path, time="seen")
    with running_sandbox(RECORD) as sandbox:
        assert send(tmp_path, sandbox, rows, job=job).tally.accepted == 1
        assert sandbox.stats.unknown_keys == Counter()


def test_a_time_that_changed_is_no_reason_to_send(tmp_path: Path) -> None:
    data = {
        "name": "job",
        "source": "users.csv",
        "identification": {"user_id": "id", "time": "seen", "user_properties": {"plan": "plan"}},
        "destination": {"transport": "batch"},
        "absent": "unset",
    }
    job = Job.of(data, folder=tmp_path)
    nights = [
        [
            {"id": "user-1", "plan": "pro", "seen": f"2024-05-0{day}"},
            {"id": "user-2", "plan": plan, "seen": ""},
        ]
        for day, plan in ((1, "free"), (2, "free"), (3, "team"))
    ]
    with running_sandbox() as sandbox:
        tallies = [send(tmp_path, sandbox, rows, job=job).tally for rows in nights]
        assert [(tally.accepted, tally.unchanged) for tally in tallies] == [(2, 0), (0, 2), (1, 1)]
        # Who left has the properties unset by an event as well.
        left = send(tmp_path, sandbox, nights[2][:1], job=job).tally
        assert (left.rows, left.accepted, left.unchanged) == (2, 1, 1)
        assert users_of(sandbox)["user-2"]["amp_props"] == {}
        assert sandbox.stats.unknown_keys == Counter()


def test_another_transport_cannot_take_up_an_unfinished_run(tmp_path: Path) -> None:
    rows = [*rows_of(300, users=300), *[{"id": "x", "platform": "", "os": "", "plan": "", "score": "1"}] * 9]
    with running_sandbox() as sandbox:
        with pytest.raises(TooManyRejectsError):
            send(tmp_path, sandbox, rows, max_rejects=RejectLimit(count=5))
        with pytest.raises(StaleCheckpointError, match="over another transport: batch, not identify"):
            send(tmp_path, sandbox, rows, job=counting_job_in(tmp_path, "identify"))


@pytest.mark.parametrize(("transport", "most"), [("identify", 1000), ("batch", 2000)])
def test_a_request_holds_no_more_than_its_transport_takes(tmp_path: Path, transport: str, most: int) -> None:
    rows = rows_of(2500, users=10_000)
    job = counting_job_in(tmp_path, transport)
    write_csv(tmp_path / "users.csv", rows)
    with pytest.raises(UsageError, match=f"`transport: {transport}` a request takes at most {most:,} ident"):
        plan(job, batch_size=most + 1)
    usual = {"identify": 500, "batch": 2000}[transport]
    assert plan(job).tally.requests == -(-plan(job).tally.accepted // usual)
    with running_sandbox(RECORD) as sandbox:
        send(tmp_path, sandbox, rows, job=job, batch_size=None)
        assert max(entry.identifications for entry in sandbox.requests) <= usual


def test_increments_are_warned_about_over_identify_only(tmp_path: Path) -> None:
    write_csv(tmp_path / "users.csv", rows_of(5, users=5))
    [warning] = plan(counting_job_in(tmp_path, "identify")).warnings
    assert warning.code == "unrepeatable"
    assert "over `transport: batch` it counts once" in warning.message
    assert plan(counting_job_in(tmp_path, "batch")).warnings == []


def test_a_plan_has_the_bytes_before_compression(tmp_path: Path) -> None:
    rows = rows_of(1000, users=1000)
    with running_sandbox(RECORD) as sandbox:
        tally = send(tmp_path, sandbox, rows).tally
    planned = plan(counting_job_in(tmp_path), batch_size=200).tally
    assert planned.bytes > 3 * tally.bytes
    assert replace(planned, bytes=0) == replace(tally, bytes=0, in_doubt=0)


def test_both_transports_leave_the_same_profiles(tmp_path: Path) -> None:
    rows, left = rows_of(1500, users=400), []
    for transport in ("identify", "batch"):
        folder = tmp_path / transport
        folder.mkdir()
        with running_sandbox() as sandbox:
            send(folder, sandbox, rows, job=counting_job_in(folder, transport))
            left.append(users_of(sandbox))
    assert left[0] == left[1]
