"""A night on which almost everybody changed is a broken export, until somebody says that it isn't."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.errors import TooManyChangesError
from etl.sandbox import Sandbox, running_sandbox
from tests.examples import rarely
from tests.pipeline.nights import IDENTIFICATION, held, job_in, night, users

EVERYBODY = 1_000


def test_it_stops_the_run_before_anything_is_sent(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, users(range(20)))
    requests = sandbox.stats.requests
    export = users(range(5), plan="x") + users(range(5, 20)) + users(range(30, 60))
    with pytest.raises(
        TooManyChangesError, match=r"5 of 20 known users changed, and --max-changes is 24%"
    ) as caught:
        night(job, sandbox, export, max_changes=24.0)
    assert caught.value.exit_code == 4
    assert "--max-changes 100%" in str(caught.value.hint)
    assert sandbox.stats.requests == requests
    # Nothing was begun, so that tomorrow's export is no other one than this run's.
    assert night(job, sandbox, users(range(20)), max_changes=24.0).tally.unchanged == 20
    assert night(job, sandbox, export, max_changes=100.0).tally.accepted == 35


def test_at_the_limit_it_goes_on(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, users(range(20)))
    assert night(job, sandbox, users(range(5), plan="x"), max_changes=25.0).tally.accepted == 5


def test_first_nights_are_exempt(tmp_path: Path, sandbox: Sandbox) -> None:
    assert night(job_in(tmp_path), sandbox, users(range(20)), max_changes=1.0).tally.accepted == 20
    with running_sandbox() as other:
        assert night(job_in(tmp_path), other, users(range(20)), max_changes=1.0).tally.accepted == 20


def test_so_is_everything_told_to_go(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, users(range(20)))
    assert night(job, sandbox, users(range(20), plan="x"), max_changes=1.0, full=True).tally.accepted == 20


@pytest.mark.parametrize("known", [EVERYBODY, *rarely(EVERYBODY - 1)])
def test_unless_told_nine_in_ten_of_a_thousand_are_too_many(
    tmp_path: Path, sandbox: Sandbox, known: int
) -> None:
    job = job_in(tmp_path)
    night(job, sandbox, users(range(known)))
    export = users(range(901), plan="x") + users(range(901, known))
    if known < EVERYBODY:
        assert night(job, sandbox, export).tally.accepted == 901
        return
    with pytest.raises(TooManyChangesError, match=r"901 of 1,000 .* 90%"):
        night(job, sandbox, export)
    export = users(range(900), plan="x") + users(range(900, known))
    assert night(job, sandbox, export).tally.accepted == 900


def test_another_job_file_changes_everybody_and_means_it(tmp_path: Path, sandbox: Sandbox) -> None:
    night(job_in(tmp_path), sandbox, users(range(EVERYBODY)))
    more = job_in(tmp_path, IDENTIFICATION | {"language": "plan"})
    assert night(more, sandbox, users(range(EVERYBODY))).tally.accepted == EVERYBODY
    with pytest.raises(TooManyChangesError):
        night(more, sandbox, users(range(EVERYBODY), plan="x"))
    # What is asked for in so many words holds whatever the job.
    with pytest.raises(TooManyChangesError):
        night(
            job_in(tmp_path, IDENTIFICATION | {"app_version": "plan"}),
            sandbox,
            users(range(EVERYBODY)),
            max_changes=50.0,
        )


def test_increments_are_no_changes(tmp_path: Path, sandbox: Sandbox) -> None:
    properties = {"$set": {"plan": "plan"}, "$add": {"points": "score"}}
    job = job_in(tmp_path, {"user_id": "id", "user_properties": properties})
    night(job, sandbox, users(range(EVERYBODY)))
    assert night(job, sandbox, users(range(EVERYBODY)), again=True).tally.accepted == EVERYBODY
    with pytest.raises(TooManyChangesError):
        night(job, sandbox, users(range(EVERYBODY), plan="x"))
    assert held(sandbox)["user-00007"]["points"] == 14


def test_a_user_counts_once_however_many_rows(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    export = users(range(EVERYBODY))
    for plan in "abcd":
        export += users(range(400), plan=plan)
    night(job, sandbox, export)
    # Each of them has four changes on the way, and ends as before.
    assert night(job, sandbox, export, max_changes=0.0).tally.unchanged == len(export)
    export += users(range(300), plan="e") + users(range(200, 400), plan="f")
    with pytest.raises(TooManyChangesError, match=r"400 of 1,000 known users"):
        night(job, sandbox, export, max_changes=39.0)
