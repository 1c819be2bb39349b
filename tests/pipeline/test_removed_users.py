"""`absent: unset`: users who were in an earlier export and aren't in this one lose the job's properties."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from etl.errors import TooFewRowsError, TooManyChangesError
from etl.job.spec import Job
from etl.pipeline.plan import plan_job
from etl.pipeline.run import no_listener, run_job
from etl.pipeline.settings import RowMinimum, Settings
from etl.reader import open_source
from etl.run_events import Event, Progressed, Summary, Warned
from etl.sandbox import Sandbox
from etl.snapshot import KnownIds
from tests.pipeline.making import KEY, QUICK, law_holds

Row = dict[str, Any]


def job_in(folder: Path, **changes: Any) -> Job:
    data = {
        "name": "job",
        "source": "users.ndjson",
        "absent": "unset",
        "identification": {
            "user_id": "id",
            "user_properties": {
                "$set": {"plan": "plan", "score": {"column": "score", "type": "number"}},
                "$postInsert": {"seen": "plan"},
            },
        },
    }
    return Job.of(data | changes, folder=folder)


def rows(numbers: Iterable[int], **values: object) -> list[Row]:
    return [{"id": f"user-{n:05}", "plan": f"plan {n % 3}", "score": n, **values} for n in numbers]


def night(job: Job, sandbox: Sandbox, export: list[Row], **settings: Any) -> Summary:
    """Write the export and run the job on it."""
    path = job.folder / "users.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in export))
    return run(job, sandbox, path, **settings)


def run(job: Job, sandbox: Sandbox, path: Path, **settings: Any) -> Summary:
    listener = settings.pop("listener", no_listener)
    chosen: dict[str, Any] = {"rate": None, "requests_per_second": None, "backoff": QUICK, "batch_size": 50}
    summary = run_job(
        job,
        open_source([path], csv=job.csv),
        KEY,
        settings=Settings(endpoint=sandbox.url, **(chosen | settings)),
        listener=listener,
    )
    assert law_holds(summary)
    return summary


def properties(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    return {user: profile.properties for user, profile in sandbox.profiles.users.items()}


def test_who_left_loses_the_properties_and_nobody_else_does(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, rows(range(300)))
    before = properties(sandbox)
    summary = night(job, sandbox, rows(range(20, 300)))
    left = {f"user-{n:05}" for n in range(20)}
    assert properties(sandbox) == {user: {} if user in left else found for user, found in before.items()}
    assert (summary.tally.rows, summary.tally.accepted, summary.tally.unchanged) == (300, 20, 280)

    requests = sandbox.stats.requests
    again = night(job, sandbox, rows(range(20, 300)))
    assert (again.tally.rows, again.tally.unchanged) == (280, 280)
    assert sandbox.stats.requests == requests


def test_who_left_is_no_row_for_min_rows(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, rows(range(10)))
    chosen: dict[str, Any] = {"min_rows": RowMinimum(percent=90), "max_absent": 100.0}
    with pytest.raises(TooFewRowsError) as stopped:
        night(job, sandbox, rows(range(6)), **chosen)
    settings = Settings(endpoint=sandbox.url, **chosen)
    planned = plan_job(job, open_source([tmp_path / "users.ndjson"]), settings=settings)
    assert planned.refused is not None
    assert planned.refused.message == stopped.value.message
    assert planned.guards[0].found == "6 rows"


def test_who_comes_back_is_sent_in_full(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, rows(range(10)))
    before = properties(sandbox)
    night(job, sandbox, rows(range(9)))
    summary = night(job, sandbox, rows(range(10)))
    assert summary.tally.accepted == 1
    assert properties(sandbox) == before


def test_keep_is_what_happens_unless_asked(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path, absent="keep")
    night(job, sandbox, rows(range(10)))
    before = properties(sandbox)
    assert night(job, sandbox, rows(range(5))).tally.rows == 5
    assert properties(sandbox) == before
    assert not (job.state_dir / "ids.arrow").exists()


@pytest.mark.parametrize("values", [{"score": "much"}, {"plan": None, "score": None}])
def test_who_has_a_bad_or_an_empty_row_has_not_left(
    tmp_path: Path, sandbox: Sandbox, values: dict[str, object]
) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, rows(range(10)))
    before = properties(sandbox)
    night(job, sandbox, [*rows(range(9)), *rows([9], **values)])
    assert properties(sandbox) == before


def test_too_many_stop_the_run_before_anything_is_sent(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, rows(range(20)))
    requests, export = sandbox.stats.requests, rows(range(17)) + rows(range(100, 110))
    with pytest.raises(TooManyChangesError, match="3 of 20 known users aren't in the export"):
        night(job, sandbox, export, max_absent=10.0)
    assert sandbox.stats.requests == requests
    assert night(job, sandbox, export, max_absent=15.0).tally.accepted == 13


@pytest.mark.parametrize(("known", "leave"), [(9, 8), (10, 1), (1_000, 100)])
def test_from_ten_users_on_a_tenth_is_too_many_unless_told(
    tmp_path: Path, sandbox: Sandbox, known: int, leave: int
) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, rows(range(known)))
    if known >= 10:
        with pytest.raises(TooManyChangesError, match="--max-absent is 10%"):
            night(job, sandbox, rows(range(known - leave - 1)))
    assert night(job, sandbox, rows(range(known - leave))).tally.accepted == leave


def test_rejects_sent_again_are_no_export_of_everybody(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, [*rows(range(10)), *rows([10], score="much")])
    rejects = job.state_dir / "rejects.ndjson"
    mended = tmp_path / "mended.ndjson"
    mended.write_text(rejects.read_text().replace('"much"', "10"))
    assert run(job, sandbox, mended).tally.rows == 1
    assert all(properties(sandbox).values())
    assert len(sandbox.profiles.users) == 11


def test_a_run_stopped_among_those_who_left_is_taken_up(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, rows(range(400)))
    before = len(sandbox.requests)

    def stop(event: Event) -> None:
        if isinstance(event, Progressed) and len(sandbox.requests) - before >= 2:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        night(job, sandbox, rows(range(100)), listener=stop, concurrency=1, progress_every=0.0, max_absent=75)
    summary = run(job, sandbox, tmp_path / "users.ndjson", max_absent=75)
    assert 0 < summary.resumed_rows < 400
    assert (summary.tally.rows, summary.tally.accepted) == (400, 300)
    assert [user for user, found in properties(sandbox).items() if found] == [
        r["id"] for r in rows(range(100))
    ]


def test_who_is_refused_is_handed_back_and_tried_again(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, rows(range(10)))
    sandbox.change(poison_users=["user-00009"])
    first = night(job, sandbox, rows(range(8)), max_absent=20)
    assert (first.tally.accepted, first.tally.rejected) == (1, 1)
    assert '"users who left"' in (job.state_dir / "rejects.ndjson").read_text()
    sandbox.change(poison_users=[])
    assert night(job, sandbox, rows(range(8))).tally.accepted == 1
    assert properties(sandbox)["user-00009"] == {}


def test_the_night_it_is_turned_on_only_learns_who_is_there(tmp_path: Path, sandbox: Sandbox) -> None:
    night(job_in(tmp_path, absent="keep"), sandbox, rows(range(10)))
    job = job_in(tmp_path)
    assert night(job, sandbox, rows(range(9))).tally.accepted == 0
    assert night(job, sandbox, rows(range(8))).tally.accepted == 1
    assert [user for user, found in properties(sandbox).items() if not found] == ["user-00008"]


def test_ids_of_those_who_left_are_not_kept(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, rows(range(10)))
    night(job, sandbox, rows(range(8)), max_absent=20)
    ids = job.state_dir / "ids.arrow"
    assert ids.stat().st_mode & 0o777 == 0o600
    with KnownIds.open(ids) or pytest.fail("no ids") as known:
        assert len(known) == 8
    assert b"user-00009" not in ids.read_bytes()


def test_users_and_devices_leave_each_by_their_own_id(tmp_path: Path, sandbox: Sandbox) -> None:
    identification = {"user_id": "id", "device_id": "device", "user_properties": {"plan": "plan"}}
    job = job_in(tmp_path, identification=identification)
    export: list[Row] = [{"id": f"user-{n}", "device": f"device-{n}", "plan": "pro"} for n in range(5)]
    export += [{"id": None, "device": f"device-{n}", "plan": "free"} for n in range(5, 10)]
    night(job, sandbox, export)
    summary = night(job, sandbox, export[1:-1])
    assert properties(sandbox)["user-0"] == {}
    assert properties(sandbox)["user-1"] == {"plan": "pro"}
    assert summary.tally.rejected == 0


def test_check_says_it_and_touches_nothing(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, rows(range(10)))
    path = tmp_path / "users.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(range(8))))
    before = {file.name: file.read_bytes() for file in job.state_dir.iterdir()}
    found = plan_job(job, open_source([path]), settings=Settings(endpoint=sandbox.url))
    assert (found.tally.rows, found.tally.accepted, found.tally.requests) == (10, 2, 1)
    assert "2 users aren't in the export" in next(w.message for w in found.warnings if w.code == "absent")
    assert {file.name: file.read_bytes() for file in job.state_dir.iterdir()} == before


def test_rows_without_a_readable_user_are_told(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    heard: list[Event] = []
    night(job, sandbox, rows(range(10)))
    night(job, sandbox, [*rows(range(9)), {"id": None, "plan": "x", "score": 1}], listener=heard.append)
    assert {event.code: event.message for event in heard if isinstance(event, Warned)} == {
        "absent": "1 user isn't in the export: their properties are unset",
        "unread": "1 row names no readable user; such a user counts as one who left",
    }
