"""Users who are throttled while others pass: what is committed meanwhile, and what a later process sends."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import Job
from etl.checkpoint import Checkpoint
from etl.checkpoint.in_flight_file import read_in_flight, uncommitted_flights
from etl.errors import DestinationError, EtlError
from etl.run_events import Event, Progressed
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from etl.sender import Clock
from etl.tally import RangeSet, Tally
from tests.examples import examples
from tests.pipeline.making import PatientTime
from tests.pipeline.nights import KilledError, Row, held, job_in, killed, night, quiet, users

HOT = "user-hot"
COUNTING = {
    "user_id": "id",
    "user_properties": {"$set": {"plan": "plan"}, "$add": {"visits": {"column": "score", "type": "number"}}},
}


@contextmanager
def throttling(*hot: str, **options: Any) -> Iterator[Sandbox]:
    with running_sandbox(SandboxOptions(record=True, hot_users=frozenset(hot), **options)) as sandbox:
        yield sandbox


def export(count: int, every: int, hot: str = HOT) -> list[Row]:
    """Every so many rows one of the hot user, the later the higher its score."""
    rows = users(range(1, count + 1))
    for place in range(3, count, every):
        rows[place]["id"] = hot
    return rows


def patient() -> Clock:
    return Clock(now=PatientTime(0.1))


def lawful(tally: Tally) -> bool:
    return tally.rows == tally.accepted + tally.unchanged + tally.merged + tally.rejected


def test_a_user_who_is_throttled_for_good_costs_one_outage_and_no_other_row(tmp_path: Path) -> None:
    job, rows, heard = job_in(tmp_path / "job"), export(900, 30), list[Event]()
    with throttling(HOT) as sandbox:
        summary = night(job, sandbox, rows, max_outage=0.6, listener=heard.append, clock=patient())
        assert set(held(sandbox)) == {row["id"] for row in rows} - {HOT}
        assert sandbox.stats.concurrent_users == 0
    assert (summary.tally.accepted, summary.rejects_by_code) == (870, {"transient": 30})
    assert (summary.exit_code, summary.status) == (3, "finished")
    assert summary.seconds < 3 * 0.6 + 2
    assert all(lawful(event.tally) for event in heard if isinstance(event, Progressed))
    # The two rows of the first chunk were tried, as one; those behind them were not, and aren't in doubt.
    reasons = [json.loads(line)["reason"] for line in (job.state_dir / "rejects.ndjson").open()]
    assert sum(reason.startswith("not sent") for reason in reasons) == 28


def test_what_a_snapshot_knows_of_a_user_who_was_never_sent_stays(tmp_path: Path) -> None:
    """Night three sends what was handed back on night two, and nothing that Amplitude has."""
    job, rows = job_in(tmp_path / "job"), export(300, 300)
    changed = [{**row, "plan": "new"} for row in rows]
    with throttling() as sandbox:
        night(job, sandbox, rows)
        sandbox.change(hot_users=[HOT])
        second = night(job, sandbox, changed, max_outage=0.4, max_changes=100, clock=patient())
        assert second.rejects_by_code == {"transient": 1}
        sandbox.change(hot_users=[])
        third = night(job, sandbox, changed)
        assert (third.tally.accepted, third.tally.unchanged) == (1, 299)
        assert held(sandbox)[HOT]["plan"] == "new"


def test_an_interrupted_run_leaves_the_rows_of_a_hot_user_and_no_others(tmp_path: Path) -> None:
    """Everything else is committed, and the next run sends the held rows: in order, and only these."""
    job, rows = job_in(tmp_path / "job"), export(900, 30)
    with throttling() as sandbox:
        night(job, sandbox, rows, state_dir=tmp_path / "calm")
        expected = held(sandbox)
        sandbox.reset()
        sandbox.change(hot_users=[HOT])

        def stop(event: Event) -> None:
            if isinstance(event, Progressed) and event.tally.accepted == 870:
                raise KilledError

        with pytest.raises((KilledError, ExceptionGroup)):
            night(job, sandbox, rows, listener=stop)
        quiet(sandbox)
        with Checkpoint.load(job.state_dir / "checkpoint.sqlite") or pytest.fail("gone") as found:
            left = [int(row) for one in found.held() for row in one.rows]
            assert left == [number for number, row in enumerate(rows, start=1) if row["id"] == HOT]
            assert lawful(found.progress().tally)
            assert RangeSet(found.committed(), found.held()).rows() == 870
            in_doubt = uncommitted_flights(read_in_flight(job.state_dir / "in_flight"), found) or ()
            assert sum(len(flight.keys) for flight in in_doubt) <= 1
        sandbox.change(hot_users=[])
        before = len(sandbox.requests)
        summary = night(job, sandbox, rows)
        resumed = sandbox.requests[before:]
        assert sum(entry.identifications for entry in resumed) == 900 // 50  # those of a chunk are merged
        assert held(sandbox) == expected
        assert sandbox.stats.concurrent_users == 0
    assert (summary.tally.accepted, summary.tally.merged, summary.resumed_rows) == (870 + 18, 12, 870)


def held_back(job: Job, sandbox: Sandbox, rows: list[Row]) -> None:
    """Kill a run of which only the rows of the hot user are left."""

    def stop(event: Event) -> None:
        if isinstance(event, Progressed) and event.tally.accepted == sum(row["id"] != HOT for row in rows):
            raise KilledError

    with pytest.raises((KilledError, ExceptionGroup)):
        night(job, sandbox, rows, listener=stop)
    quiet(sandbox)


@pytest.mark.parametrize("transport", ["identify", "batch"])
def test_a_resumed_run_ends_though_only_a_hot_user_is_left(tmp_path: Path, transport: str) -> None:
    """The rows are held, so others passed before them: the same end as without the kill."""
    job, rows = job_in(tmp_path / "job", destination={"transport": transport}), export(300, 30)
    with throttling(HOT) as sandbox:
        calm = night(job, sandbox, rows, state_dir=tmp_path / "calm", max_outage=0.4, clock=patient())
        held_back(job, sandbox, rows)
        before = len(sandbox.requests)
        summary = night(job, sandbox, rows, max_outage=0.4, clock=patient())
        assert {entry.status for entry in sandbox.requests[before:]} == {429}
        assert set(held(sandbox)) == {row["id"] for row in rows} - {HOT}
    assert (summary.exit_code, summary.status, summary.resumed_rows) == (3, "finished", 290)
    assert summary.rejects_by_code == calm.rejects_by_code == {"transient": 10}
    assert summary.tally.accepted == calm.tally.accepted == 290


@pytest.mark.parametrize("outage", ["503", "502-after", "reset-before", "portal"])
def test_in_an_outage_rows_that_are_held_wait_for_the_next_run(tmp_path: Path, outage: str) -> None:
    job, rows = job_in(tmp_path / "job"), export(300, 30)
    with throttling(HOT) as sandbox:
        held_back(job, sandbox, rows)
        sandbox.change(hot_users=[])
        sandbox.begin_outage(outage)
        with pytest.raises(DestinationError):
            night(job, sandbox, rows, max_outage=0.3, clock=patient())
        sandbox.end_outage()
        summary = night(job, sandbox, rows)
    assert (summary.exit_code, summary.tally.rejected, summary.resumed_rows) == (0, 0, 290)


def test_held_rows_wait_while_others_are_left_that_do_not_pass_either(tmp_path: Path) -> None:
    """Every request is throttled then: that says nothing about the hot user."""
    job, rows = job_in(tmp_path / "job"), export(300, 30)
    with throttling(HOT) as sandbox:

        def stop(event: Event) -> None:
            if isinstance(event, Progressed) and event.tally.accepted > 100:
                raise KilledError

        with pytest.raises((KilledError, ExceptionGroup)):
            night(job, sandbox, rows, listener=stop, concurrency=1)
        quiet(sandbox)
        sandbox.begin_outage("429")
        with pytest.raises(DestinationError):
            night(job, sandbox, rows, max_outage=0.3, clock=patient())
        with Checkpoint.load(job.state_dir / "checkpoint.sqlite") or pytest.fail("gone") as found:
            assert [*found.held()]
            assert found.progress().tally.rejected == 0


@given(
    st.integers(10, 120),
    st.lists(st.integers(1, 40), min_size=1, max_size=40),
    st.sets(st.integers(1, 40), max_size=4),
    st.lists(st.integers(1, 12), max_size=3),
    st.sampled_from(["committing", "committed"]),
    st.integers(0, 60),
)
@settings(max_examples=examples(12, 3), deadline=None)
def test_counters_and_profiles_end_as_undisturbed_whatever_is_hot_and_killed(
    count: int, cycle: list[int], hot: set[int], kills: list[int], point: str, tries: int
) -> None:
    """Over batch an event counts once if it comes with the id it had: so held rows are sent as they were."""
    rows = [
        {"id": f"user-{cycle[place % len(cycle)]:05}", "plan": f"plan {place}", "score": 1 + place}
        for place in range(count)
    ]
    names = frozenset(f"user-{number:05}" for number in hot)
    with tempfile.TemporaryDirectory() as folder, throttling() as sandbox:
        job = job_in(Path(folder) / "job", COUNTING, destination={"transport": "batch"})
        usual = {"batch_size": 10, "concurrency": 4}
        night(job, sandbox, rows, state_dir=Path(folder) / "calm", **usual)
        expected = held(sandbox)
        sandbox.reset()
        sandbox.change(hot_users=sorted(names), hot_tries=tries)
        for number in kills:
            with killed(point, number) as listener, suppress(KilledError, ExceptionGroup, EtlError):
                night(job, sandbox, rows, listener=listener, max_outage=60, **usual)
            quiet(sandbox)
            with Checkpoint.load(job.state_dir / "checkpoint.sqlite") or pytest.fail("gone") as found:
                assert lawful(found.progress().tally)
        sandbox.change(hot_users=[])
        summary = night(job, sandbox, rows, again=True, **usual)
        if not kills or summary.resumed_rows:
            assert held(sandbox) == expected
        assert sandbox.stats.concurrent_users == 0
        assert lawful(summary.tally)


@pytest.mark.parametrize("changes", ["user", "property"])
@pytest.mark.parametrize("tries", [2, 5, 8])
def test_a_row_of_a_device_alone_stays_behind_its_users_row_in_one_chunk(
    tmp_path: Path, changes: str, tries: int
) -> None:
    """They are two identifications with one user; the chunk is divided while that user is throttled."""
    ids = {"user_id": "id", "device_id": "device"}
    job = job_in(tmp_path / "job", {**ids, "user_properties": {"plan": "plan"}}, changes=changes)
    rows: list[Row] = [
        {"id": id_, "device": device, "plan": plan}
        for id_, device, plan in (
            *((HOT, "device-1", "a"), ("user-1", None, "x")),
            *((HOT, None, "b"), (None, "device-1", "c")),
            *(("user-2", None, "x"), ("user-3", None, "x")),
        )
    ]

    def throttle(event: Event) -> None:
        if isinstance(event, Progressed) and event.tally.accepted == 2 and not throttled:
            throttled.append(event)
            sandbox.change(hot_users=[HOT], hot_tries=tries)

    throttled: list[Event] = []
    with throttling() as sandbox:
        usual = {"batch_size": 2, "concurrency": 1}
        assert night(job, sandbox, rows, listener=throttle, **usual).tally.accepted == 6
        assert throttled
        assert held(sandbox)[HOT] == {"plan": "c"}
        assert night(job, sandbox, rows, **usual).tally.accepted == 0


def test_a_destination_that_throttles_everybody_is_no_hot_user(tmp_path: Path) -> None:
    job = job_in(tmp_path / "job")
    rows = export(300, 30)
    with throttling(*{row["id"] for row in rows}) as sandbox, pytest.raises(DestinationError):
        night(job, sandbox, rows, max_outage=0.3)
