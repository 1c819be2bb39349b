"""A job over the Batch API, as its user sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.acceptance.sending import holds_the_law, send
from tests.commands import QUICK, Propsync, until

BATCH = "destination: {transport: batch}\n"
COUNTING = """\
identification:
  user_id: id
  user_properties:
    $add: {points: {column: score, type: number}}
"""


@pytest.fixture
def batch_job(job: Path) -> Path:
    job.write_text(job.read_text() + BATCH)
    return job


def test_profiles_are_the_same_and_the_summary_says_what_went_over_the_wire(
    propsync: Propsync, sandbox: Sandbox, batch_job: Path
) -> None:
    finished = send(propsync, sandbox, batch_job, "--json")
    assert finished.code == 0
    assert holds_the_law(finished.summary)
    assert (finished.summary["accepted"], finished.summary["requests"]) == (200, 1)
    assert finished.summary["bytes"] == sandbox.stats.bytes
    assert finished.summary["in_doubt"] == finished.summary["uncounted"] == 0
    held = {user: profile.properties for user, profile in sandbox.profiles.users.items()}
    assert held == exports.expected(200)


def test_a_check_tells_bytes_before_compression(propsync: Propsync, batch_job: Path) -> None:
    assert "before compression" in propsync("check", batch_job).out
    summary = propsync("check", batch_job, "--json").summary
    assert summary["transport"] == "batch"
    assert summary["bytes"] > 100 * 200


def test_counters_are_warned_about_over_identify_and_only_there(propsync: Propsync, job: Path) -> None:
    job.write_text(f"source: users.csv\n{COUNTING}")
    assert "over `transport: batch` it counts once" in " ".join(propsync("check", job).out.split())
    job.write_text(f"source: users.csv\n{COUNTING}{BATCH}")
    assert "warning" not in propsync("check", job).out


def test_events_that_are_never_counted_are_handed_back(
    propsync: Propsync, sandbox: Sandbox, batch_job: Path
) -> None:
    sandbox.change(ingested="none")
    finished = send(propsync, sandbox, batch_job, "--json")
    assert finished.code == 3
    assert finished.summary["rejects_by_code"] == {"uncounted": 200}


def test_events_that_were_under_way_at_a_kill_need_not_be_counted_again(
    propsync: Propsync, sandbox: Sandbox, batch_job: Path
) -> None:
    """Amplitude had them before the answer was lost with the process, and knows their insert_ids."""
    sandbox.change(ingested="new", outage="stall-after")
    limits = ("--batch-size", "20", "--concurrency", "4")
    with propsync.begin("run", batch_job, "--endpoint", sandbox.url, *QUICK, *limits) as running:
        until(lambda: len(sandbox.profiles) > 0)
        running.kill()
    known = len(sandbox.profiles)
    sandbox.end_outage()
    finished = send(propsync, sandbox, batch_job, "--json", *limits)
    assert finished.code == 0
    assert finished.summary["accepted"] == 200
    assert finished.summary["uncounted"] == known


def test_events_that_the_server_did_not_count_are_told(
    propsync: Propsync, sandbox: Sandbox, batch_job: Path
) -> None:
    sandbox.change(ingested="new", faults=["500-after:0.3"])
    finished = send(propsync, sandbox, batch_job, "--batch-size", "10", "--json")
    assert finished.code == 0
    assert finished.summary["uncounted"] > 0
    assert (
        f"the server said it took {finished.summary['uncounted']:,} events that it did not count"
        in finished.err
    )


def test_a_proposed_job_says_when_to_take_which(propsync: Propsync, tmp_path: Path) -> None:
    exports.write_csv(tmp_path / "users.csv", 10)
    proposed = propsync("init", tmp_path / "users.csv").out
    assert "  # transport: batch\n" in proposed
    job = tmp_path / "job.yml"
    job.write_text(proposed.replace("# transport: batch", "transport: batch"))
    assert propsync("check", job, "--json").summary["transport"] == "batch"
