"""On the second night exactly what changed arrives: these users, these properties, and nothing beside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etl import Job
from etl.errors import JobError, StaleCheckpointError, UsageError
from etl.pipeline.diff_base import record_baseline
from etl.pipeline.plan import plan_job
from etl.pipeline.settings import Settings
from etl.reader import open_source
from etl.run_events import Event, Warned
from etl.sandbox import Sandbox, running_sandbox
from tests.pipeline.nights import (
    IDENTIFICATION,
    KilledError,
    Row,
    arrived,
    held,
    job_in,
    killed,
    night,
    quiet,
    send,
    users,
    write,
)

SCORE = {"column": "score", "type": "number"}


def changed(rows: list[Row], places: range, **values: object) -> list[Row]:
    """The rows, with other values in some places."""
    return [row | values if place in places else row for place, row in enumerate(rows)]


@pytest.mark.parametrize("transport", ["identify", "batch"])
def test_of_two_percent_changed_these_users_and_only_their_changes_arrive(
    tmp_path: Path, sandbox: Sandbox, transport: str
) -> None:
    job = job_in(tmp_path, destination={"transport": transport})
    export = users(range(600))
    night(job, sandbox, export)
    assert len(arrived(sandbox)) == 600
    export = changed(export, range(7, 600, 100), plan="other")
    export = changed(export, range(57, 600, 100), score=-1)
    summary = night(job, sandbox, export)
    expected: dict[str, Row] = {f"user-{n:05}": {"plan": "other"} for n in range(7, 600, 100)}
    expected |= {f"user-{n:05}": {"score": -1} for n in range(57, 600, 100)}
    assert sandbox.stats.identifications + sandbox.stats.events == 12
    assert arrived(sandbox) == expected
    assert (summary.tally.accepted, summary.tally.unchanged) == (12, 588)


def test_with_changes_user_the_whole_user_goes(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path, changes="user")
    export = users(range(10))
    night(job, sandbox, export)
    sandbox.reset()
    night(job, sandbox, changed(export, range(3, 4), plan="other"))
    assert arrived(sandbox) == {"user-00003": {"plan": "other", "score": 3}}


@pytest.mark.parametrize("changes", ["property", "user"])
def test_where_nothing_changed_there_is_no_request(tmp_path: Path, sandbox: Sandbox, changes: str) -> None:
    job = job_in(tmp_path, changes=changes)
    night(job, sandbox, users(range(600)))
    requests = sandbox.stats.requests
    summary = night(job, sandbox, users(range(600)))
    assert (summary.tally.rows, summary.tally.unchanged, summary.tally.requests) == (600, 600, 0)
    assert summary.status == "finished"
    assert sandbox.stats.requests == requests
    # The order of an export means nothing, and neither does its format.
    rows = users(range(600))[::-1]
    assert send(job, sandbox, [write(tmp_path / "users.csv", rows)]).tally.unchanged == 600


def test_a_family_goes_whole(tmp_path: Path, sandbox: Sandbox) -> None:
    fields = {"country": "country", "city": "city", "language": "lang"}
    job = job_in(tmp_path, IDENTIFICATION | fields, partial_families="reset")
    export = users(range(3), country="FR", city="Lyon", lang="fr")
    night(job, sandbox, export)
    sandbox.reset()
    night(job, sandbox, changed(export, range(1, 2), city="Nice"))
    assert arrived(sandbox) == {"user-00001": {"country": "FR", "city": "Nice"}}
    night(job, sandbox, changed(export, range(1, 2), city=None))
    assert arrived(sandbox) == {"user-00001": {"country": "FR"}}


def test_an_ignored_column_alone_sends_nothing_and_goes_along(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path, changes={"ignore": ["score"]})
    export = users(range(4))
    night(job, sandbox, export)
    sandbox.reset()
    export = changed(export, range(4), score=99)
    assert night(job, sandbox, export).tally.requests == 0
    night(job, sandbox, changed(export, range(2, 3), plan="other"))
    assert arrived(sandbox) == {"user-00002": {"plan": "other", "score": 99}}
    # Where it is ignored no more, those who haven't got it get it.
    night(job_in(tmp_path), sandbox, changed(export, range(2, 3), plan="other"))
    assert arrived(sandbox) == {f"user-{n:05}": {"score": 99} for n in (0, 1, 3)}


def test_a_new_property_goes_to_all_and_alone(tmp_path: Path, sandbox: Sandbox) -> None:
    export = users(range(5), city="Nice")
    night(job_in(tmp_path), sandbox, export)
    sandbox.reset()
    properties = {"plan": "plan", "score": SCORE, "town": "city"}
    more = job_in(tmp_path, {"user_id": "id", "user_properties": properties})
    night(more, sandbox, export)
    assert arrived(sandbox) == {f"user-{n:05}": {"town": "Nice"} for n in range(5)}
    # One less sends nothing; but what was left out isn't known to be there when it comes again.
    assert night(job_in(tmp_path), sandbox, export).tally.requests == 0
    night(more, sandbox, export)
    assert arrived(sandbox) == {f"user-{n:05}": {"town": "Nice"} for n in range(5)}


def test_a_transform_sends_what_it_changes(tmp_path: Path, sandbox: Sandbox) -> None:
    export = [*users([1], plan="FREE"), *users([2], plan="free")]
    night(job_in(tmp_path), sandbox, export)
    sandbox.reset()
    lower = {"column": "plan", "transform": ["lower"]}
    night(
        job_in(tmp_path, {"user_id": "id", "user_properties": {"plan": lower, "score": SCORE}}),
        sandbox,
        export,
    )
    assert arrived(sandbox) == {"user-00001": {"plan": "free"}}


def test_increments_go_every_night_and_what_is_beside_them_when_it_changes(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    properties = {"$set": {"plan": "plan"}, "$add": {"points": "score"}, "$append": {"log": "plan"}}
    job = job_in(tmp_path, {"user_id": "id", "user_properties": properties})
    export = users([1, 2])
    night(job, sandbox, export)
    night(job, sandbox, export, again=True)
    assert [row["points"] for row in held(sandbox).values()] == [2, 4]
    sandbox.reset()
    night(job, sandbox, export, again=True)
    assert arrived(sandbox) == {
        "user-00001": {"points": 1, "log": ["plan 1"]},
        "user-00002": {"points": 2, "log": ["plan 2"]},
    }
    night(job, sandbox, changed(export, range(1), plan="other"))
    assert arrived(sandbox)["user-00001"] == {"plan": "other", "points": 1, "log": ["other"]}


def test_a_job_of_increments_alone_has_nothing_to_compare(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path, {"user_id": "id", "user_properties": {"$add": {"points": "score"}}})
    for nights in (1, 2, 3):
        assert night(job, sandbox, users(range(1_500)), again=True).tally.accepted == 1_500
        assert held(sandbox)["user-00003"] == {"points": 3 * nights}


def test_of_several_rows_of_a_user_the_last_has_the_last_word(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, [*users([1], plan="a"), *users([2]), *users([1], plan="b")], batch_size=1)
    sandbox.reset()
    night(job, sandbox, [*users([1], plan="c"), *users([2]), *users([1], plan="d")], batch_size=1)
    assert sandbox.stats.identifications == 2
    assert arrived(sandbox) == {"user-00001": {"plan": "d", "score": 1}}
    # Where the last row says what is there by now, what came before it is not a change.
    night(job, sandbox, [*users([1], plan="e"), *users([1], plan="d")], batch_size=1)
    assert sandbox.stats.requests == 0


@pytest.mark.parametrize("committed", [1, 2, 3])
def test_so_it_is_where_the_run_was_killed_in_between(
    tmp_path: Path, sandbox: Sandbox, committed: int
) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, [*users([1, 2]), *users([3], plan="a")])
    export = [*users([3], plan="c"), *users([1, 2], plan="x"), *users([3], plan="d")]
    with killed("told", committed) as listener, pytest.raises(KilledError):
        night(job, sandbox, export, listener=listener, batch_size=1, concurrency=1)
    assert held(sandbox)["user-00003"]["plan"] == "c"
    send(job, sandbox, [tmp_path / "users.ndjson"], batch_size=1)
    assert held(sandbox)["user-00003"]["plan"] == "d"


def test_rejected_rows_are_tried_again_with_that_night_s_values(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    sandbox.change(poison_users=["user-00001"])
    export = [*users([0], score="much"), *users([1, 2])]
    assert night(job, sandbox, export).tally.rejected == 2
    assert set(arrived(sandbox)) == {"user-00002"}
    assert night(job, sandbox, export).tally.rejected == 2
    sandbox.change(poison_users=[])
    summary = night(job, sandbox, users(range(3)))
    assert (summary.tally.accepted, summary.tally.unchanged) == (2, 1)
    assert arrived(sandbox) == {f"user-{n:05}": {"plan": f"plan {n}", "score": n} for n in (0, 1)}


# --- rejects, sent again ---------------------------------------------------------------------------------


def mended_rejects(job: Job, bad: str, good: str) -> Path:
    path = job.folder / "mended.ndjson"
    path.write_text((job.state_dir / "rejects.ndjson").read_text().replace(bad, good))
    return path


def test_old_rejects_never_overwrite_what_was_accepted_later(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, users([1, 2], score="much", plan="old"))
    mended = mended_rejects(job, '"much"', "7")
    night(job, sandbox, users([1], score=8, plan="new"))
    sandbox.reset()
    summary = send(job, sandbox, [mended])
    assert summary.rejects_by_code == {"superseded": 1}
    assert arrived(sandbox) == {"user-00002": {"plan": "old", "score": 7}}
    (line,) = (job.state_dir / "rejects.ndjson").read_text().splitlines()
    reject = json.loads(line)
    assert reject["code"] == "superseded"
    assert "--full" in reject["reason"]
    assert reject["values"] == {"id": "user-00001", "plan": "old", "score": 7}


def test_unless_told(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, users([1], score="much", plan="old"))
    mended = mended_rejects(job, '"much"', "7")
    night(job, sandbox, users([1], score=8, plan="new"))
    assert send(job, sandbox, [mended], full=True).tally.accepted == 1
    assert held(sandbox) == {"user-00001": {"plan": "old", "score": 7}}
    # And this is what is compared with from now on.
    sandbox.reset()
    night(job, sandbox, users([1], score=8, plan="old"))
    assert arrived(sandbox) == {"user-00001": {"score": 8}}


def test_rejects_stay_old_when_the_snapshot_is_gone(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, users([1], score="much", plan="old"))
    night(job, sandbox, users([1], score="much", plan="old"))
    mended = mended_rejects(job, '"much"', "7")
    (job.state_dir / "snapshot.arrow").unlink()
    night(job, sandbox, users([1], score=8, plan="new"))
    assert send(job, sandbox, [mended]).rejects_by_code == {"superseded": 1}
    assert held(sandbox) == {"user-00001": {"plan": "new", "score": 8}}


# --- what the snapshot is good for -----------------------------------------------------------------------


def test_full_sends_everything_and_renews_the_snapshot(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, users(range(5)))
    sandbox.reset()
    night(job, sandbox, users(range(5), plan="x"), full=True)
    assert len(arrived(sandbox)) == 5
    assert night(job, sandbox, users(range(5), plan="x")).tally.unchanged == 5


def test_the_snapshot_of_another_destination_is_not_used_and_stays_what_it_is(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    job, heard = job_in(tmp_path), list[Event]()
    night(job, sandbox, users(range(3)))
    with running_sandbox() as other:
        assert night(job, other, users(range(3)), listener=heard.append).tally.accepted == 3
        assert night(job, sandbox, users(range(3))).tally.accepted == 0
        assert night(job, other, users(range(3))).tally.accepted == 0
    (warning,) = [event for event in heard if isinstance(event, Warned)]
    assert warning.code == "other_snapshot"
    assert f"is of another destination, {sandbox.url}, and stays" in warning.message
    assert warning.message.endswith(f"to send to that one, add --endpoint {sandbox.url}")


def test_a_night_without_comparing_leaves_nothing_to_compare_with(tmp_path: Path, sandbox: Sandbox) -> None:
    night(job_in(tmp_path), sandbox, users(range(3)))
    night(job_in(tmp_path, changes="off"), sandbox, users(range(3), plan="other"))
    assert not (tmp_path / ".propsync" / "job" / "snapshot.arrow").exists()
    night(job_in(tmp_path), sandbox, users(range(3)))
    assert held(sandbox)["user-00002"]["plan"] == "plan 2"


def test_a_run_that_was_given_up_leaves_nobody_with_its_values(tmp_path: Path, sandbox: Sandbox) -> None:
    """What was accepted is in the snapshot, so that exactly this is put right, and nothing else is sent."""
    job = job_in(tmp_path)
    night(job, sandbox, users(range(40)))
    with killed("told", 5) as listener, pytest.raises(KilledError):
        night(job, sandbox, users(range(30), plan="x"), listener=listener, batch_size=2, concurrency=1)
    quiet(sandbox)
    spoiled = [name for name, row in held(sandbox).items() if row["plan"] == "x"]
    assert len(spoiled) > 8
    requests = sandbox.stats.identifications
    night(job, sandbox, users(range(5, 40)), restart=True)
    assert sandbox.stats.identifications - requests == len([name for name in spoiled if name >= "user-00005"])
    # Nobody named the others in between, so only now it is known what they are to have.
    assert night(job, sandbox, users(range(40))).tally.accepted == 5
    assert {name: row["plan"] for name, row in held(sandbox).items()} == {
        row["id"]: row["plan"] for row in users(range(40))
    }
    # `--restart` without anything to give up sends no more than a usual run.
    assert night(job, sandbox, users(range(40)), restart=True).tally.accepted == 0


def test_a_run_given_up_doesn_t_hide_who_left(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path, absent="unset")
    night(job, sandbox, users(range(10)))
    with killed("told", 2) as listener, pytest.raises(KilledError):
        night(job, sandbox, users(range(10), plan="x"), listener=listener, batch_size=2, concurrency=1)
    quiet(sandbox)
    night(job, sandbox, users(range(9)), restart=True)
    assert held(sandbox)["user-00009"] == {}


def snapshot_of(job: Job) -> Path:
    return job.state_dir / "snapshot.arrow"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"rubbish" * 100),
        lambda path: path.write_bytes(path.read_bytes()[:-200]),
        lambda path: path.write_bytes(path.read_bytes()[:400] + b"\0" * 400),
    ],
)
def test_a_damaged_snapshot_ends_the_run_with_a_remedy(
    tmp_path: Path, sandbox: Sandbox, spoil: Callable[[Path], object]
) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, users(range(100)))
    requests = sandbox.stats.requests
    spoil(snapshot_of(job))
    with pytest.raises(StaleCheckpointError, match="damaged") as caught:
        night(job, sandbox, users(range(100)))
    assert caught.value.exit_code == 7
    assert "delete the file" in str(caught.value.hint)
    assert sandbox.stats.requests == requests
    snapshot_of(job).unlink()
    assert night(job, sandbox, users(range(100))).tally.accepted == 100


@pytest.mark.parametrize("fate", ["deleted", "replaced"])
def test_an_unfinished_run_goes_on_only_with_its_snapshot(
    tmp_path: Path, sandbox: Sandbox, fate: str
) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, users(range(20)))
    older = snapshot_of(job).read_bytes()
    night(job, sandbox, users(range(20), plan="y"))
    changes = users(range(20), plan="x")
    with killed("told", 3) as listener, pytest.raises(KilledError):
        night(job, sandbox, changes, listener=listener, batch_size=2, concurrency=1)
    snapshot_of(job).unlink() if fate == "deleted" else snapshot_of(job).write_bytes(older)
    with pytest.raises(StaleCheckpointError, match="another snapshot") as caught:
        send(job, sandbox, [tmp_path / "users.ndjson"], batch_size=2)
    assert caught.value.exit_code == 7
    assert "--restart" in str(caught.value.hint)
    send(job, sandbox, [tmp_path / "users.ndjson"], restart=True)
    assert {row["plan"] for row in held(sandbox).values()} == {"x"}


def test_what_is_kept_is_for_its_owner_only(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, users(range(20)))
    assert snapshot_of(job).stat().st_mode & 0o777 == 0o600
    assert {path.name for path in job.state_dir.iterdir()} == {
        "checkpoint.sqlite", "in_flight", "job.json", "lock", "rejects.ndjson", "snapshot.arrow",
    }  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in job.state_dir.iterdir()} == {0o600}
    for text in ("user-00003", "plan 1"):
        assert text.encode() not in snapshot_of(job).read_bytes()


# --- baseline and plan -----------------------------------------------------------------------------------


def record(job: Job, sandbox: Sandbox, rows: list[Row]) -> Any:
    path = write(job.folder / "users.ndjson", rows)
    return record_baseline(job, open_source([str(path)]), settings=Settings(endpoint=sandbox.url))


def test_after_a_baseline_only_what_changed_since_is_sent(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    found = record(job, sandbox, [*users(range(10)), *users([10], score="much")])
    assert (found.rows, found.rejected, found.entries) == (11, 1, 10)
    assert sandbox.stats.requests == 0
    assert snapshot_of(job).stat().st_mode & 0o777 == 0o600
    night(job, sandbox, changed(users(range(11)), range(3, 4), plan="other"))
    assert arrived(sandbox) == {
        "user-00003": {"plan": "other"},
        "user-00010": {"plan": "plan 1", "score": 10},  # it couldn't be recorded
    }
    # Another one adds to what is known.
    record(job, sandbox, users([3, 77]))
    assert night(job, sandbox, users([*range(11), 77])).tally.accepted == 0


def test_a_baseline_takes_no_unfinished_run_for_done(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    with killed("told", 2) as listener, pytest.raises(KilledError):
        night(job, sandbox, users(range(10)), listener=listener, batch_size=2, concurrency=1)
    with pytest.raises(StaleCheckpointError, match="unfinished") as caught:
        record(job, sandbox, users(range(10)))
    assert "--restart" in str(caught.value.hint)


def test_a_baseline_needs_something_to_compare(tmp_path: Path, sandbox: Sandbox) -> None:
    with pytest.raises(UsageError, match="changes: off"):
        record(job_in(tmp_path, changes="off"), sandbox, users(range(10)))
    assert not list((tmp_path / ".propsync" / "job").glob("snapshot*"))


def test_the_plan_tells_what_will_arrive(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, users(range(20)))
    export = [*changed(users(range(20)), range(4), plan="other"), *users([50])]
    path = write(tmp_path / "users.ndjson", export)
    before = {file.name: file.read_bytes() for file in job.state_dir.iterdir()}
    found = plan_job(job, open_source([str(path)]), settings=Settings(endpoint=sandbox.url, batch_size=50))
    assert {file.name: file.read_bytes() for file in job.state_dir.iterdir()} == before
    assert found.changes is not None
    assert (found.changes.new, found.changes.changed, found.changes.unchanged) == (1, 4, 16)
    assert {name: (one.changed, one.new) for name, one in found.changes.by_property.items()} == {
        "$set.plan": (4, 1),
        "$set.score": (0, 1),
    }
    examples = found.changes.by_property["$set.plan"].examples
    assert [(one.user, one.new) for one in examples] == [(f"user-{n:05}", "other") for n in range(3)]
    tally = send(job, sandbox, [path]).tally
    assert (tally.accepted, tally.unchanged, tally.requests) == (
        found.tally.accepted,
        found.tally.unchanged,
        found.tally.requests,
    )


def test_a_job_that_can_t_be_meant_is_refused(tmp_path: Path) -> None:
    properties = {"$add": {"points": "score"}}
    with pytest.raises(JobError, match=r"\$add must go for every row"):
        job_in(tmp_path, {"user_id": "id", "user_properties": properties}, changes="user")
