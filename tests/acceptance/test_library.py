"""The calls of a script or a notebook do what the command does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from etl import Job, plan, preview, run
from etl.errors import DestinationError, JobError, SourceError, UsageError
from etl.run_events import Ended, Event, Started, Summary
from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.commands import KEY

ROWS = 600


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv("AMPLITUDE_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    return Job.load(exports.write_job(tmp_path))


def send(job: Job, source: object, sandbox: Sandbox) -> Summary:
    return run(job, source, endpoint=sandbox.url, rate=None, requests_per_second=None)


def table() -> pa.Table:
    return pa.Table.from_pylist(exports.rows(ROWS))


def frame() -> pd.DataFrame:
    return pd.DataFrame(exports.rows(ROWS))


def filtered_frame() -> pd.DataFrame:
    """With an index that isn't 0, 1, 2 ..., as after a filter."""
    double = pd.DataFrame([*exports.rows(ROWS), {"id": "user-x", "plan": "no", "score": 0.0}])
    return double.iloc[::-1][double.iloc[::-1]["id"] != "user-x"]


def stream() -> pa.RecordBatchReader:
    return table().to_reader(max_chunksize=100)


@pytest.mark.parametrize("make", [table, frame, filtered_frame, stream])
def test_what_is_in_memory_is_a_source(make: Callable[[], object], job: Job, sandbox: Sandbox) -> None:
    summary = send(job, make(), sandbox)
    assert summary.status == "finished"
    assert summary.tally.rows == summary.tally.accepted == ROWS
    found = {user: profile.properties for user, profile in sandbox.profiles.users.items()}
    assert found == exports.expected(ROWS)


def test_files_are_named_as_on_the_command_line(job: Job, sandbox: Sandbox, tmp_path: Path) -> None:
    exports.write_csv(tmp_path / "a.csv", 3)
    exports.write_parquet(tmp_path / "b.parquet", 2, group_rows=1)
    assert send(job, "a.csv", sandbox).tally.rows == 3
    assert send(job, tmp_path / "a.csv", sandbox).tally.rows == 3
    assert send(job, ["*.csv", Path("b.parquet")], sandbox).tally.rows == 5


def test_a_job_names_its_own_source(job: Job, sandbox: Sandbox, tmp_path: Path) -> None:
    exports.write_csv(tmp_path / "users.csv", 4)
    own = Job.load(exports.write_job(tmp_path, source="users.csv", name="own.yml"))
    assert send(own, None, sandbox).tally.rows == 4


def test_it_works_while_an_event_loop_runs_as_in_a_notebook(job: Job, sandbox: Sandbox) -> None:
    async def cell() -> Summary:
        return send(job, frame(), sandbox)

    assert asyncio.run(cell()).tally.accepted == ROWS


def test_a_job_can_be_made_of_plain_data(sandbox: Sandbox, tmp_path: Path) -> None:
    made = Job.of(
        {"name": "made", "identification": {"user_id": "id", "user_properties": {"plan": "plan"}}},
        folder=tmp_path,
    )
    summary = run(made, table(), key=KEY, endpoint=sandbox.url, rate=None)
    assert summary.tally.accepted == ROWS
    assert (tmp_path / ".propsync" / "made" / "checkpoint.sqlite").exists()


def test_plan_foretells_and_sends_nothing(job: Job, sandbox: Sandbox, tmp_path: Path) -> None:
    foretold = plan(job, table(), endpoint=sandbox.url, rate=100)
    assert not sandbox.stats.requests
    assert not (tmp_path / ".propsync").exists()
    sent = send(job, table(), sandbox).tally
    assert (foretold.tally.rows, foretold.tally.accepted) == (sent.rows, sent.accepted)
    assert foretold.tally.requests == sent.requests
    assert foretold.seconds == ROWS / 100


def test_preview_gives_the_first_identifications(job: Job) -> None:
    shown = [json.loads(text) for text in preview(job, frame(), count=2)]
    assert [one["user_id"] for one in shown] == ["user-000001", "user-000002"]
    assert shown[0]["user_properties"] == {"$set": {"plan": "plan 1", "score": 0.25}}


def test_a_listener_hears_how_it_goes(job: Job, sandbox: Sandbox) -> None:
    heard: list[Event] = []
    summary = run(job, table(), endpoint=sandbox.url, rate=None, listener=heard.append)
    assert isinstance(heard[0], Started)
    assert heard[0].total_rows == ROWS
    assert heard[-1] == Ended(summary)


def test_an_unfinished_run_is_taken_up(job: Job, sandbox: Sandbox, tmp_path: Path) -> None:
    exports.write_csv(tmp_path / "users.csv", ROWS)
    sandbox.change(latency="1ms", outage=None)
    seen: list[int] = []

    def cut_off(event: Event) -> None:
        seen.append(1)
        if len(seen) == 2:
            sandbox.begin_outage("503")

    with pytest.raises(DestinationError):
        run(
            job,
            "users.csv",
            endpoint=sandbox.url,
            rate=None,
            batch_size=50,
            concurrency=2,
            max_outage=0.05,
            listener=cut_off,
        )
    sandbox.end_outage()
    summary = run(job, "users.csv", endpoint=sandbox.url, rate=None, batch_size=50)
    assert 0 < summary.resumed_rows < ROWS
    assert summary.tally.accepted == len(sandbox.profiles) == ROWS


def test_errors_are_ours_and_say_what_to_do(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match=r"gone\.csv"):
        plan(job, "gone.csv")
    with pytest.raises(JobError, match="did you mean `user_id`"):
        Job.of({"identification": {"user_idd": "id"}})
    with pytest.raises(UsageError, match="batch size"):
        plan(job, table(), batch_size=5_000)
    monkeypatch.delenv("AMPLITUDE_API_KEY")
    with pytest.raises(UsageError, match="AMPLITUDE_API_KEY"):
        run(job, table())
