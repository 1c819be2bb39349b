"""The options of `run` and its siblings do what their help says."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.commands import QUICK, Propsync, until

SUMMARY_KEYS = [
    *("rows", "accepted", "unchanged", "merged", "rejected"),
    *("requests", "retries", "throttled", "bytes", "seconds", "resumed_rows", "status"),
]


@pytest.fixture
def job(tmp_path: Path) -> Path:
    exports.write_csv(tmp_path / "users.csv", 400, bad=(7,))
    return exports.write_job(tmp_path, source="users.csv")


def run(sandbox: Sandbox, *arguments: str | Path) -> tuple[str | Path, ...]:
    return ("run", *arguments, "--endpoint", sandbox.url, *QUICK)


# --- pace ------------------------------------------------------------------------------------------------


def test_rate_limits_identifications(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    began = time.monotonic()
    finished = propsync(*run(sandbox, job), "--rate", "400", "--batch-size", "40")
    assert finished.code == 3
    # 399 of them; the last forty need not be waited for.
    assert time.monotonic() - began > 0.8


def test_requests_per_second_limits_requests(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    began = time.monotonic()
    finished = propsync(*run(sandbox, job), "--requests-per-second", "10", "--batch-size", "40", "--json")
    assert finished.summary["requests"] == 10
    assert time.monotonic() - began > 0.8


def test_without_any_flag_the_smallest_plan_is_kept_to(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    exports.write_csv(tmp_path / "users.csv", 1_600)
    sandbox.change(identifications_per_second=1000, requests_per_second=100)
    finished = propsync("run", job, "--endpoint", sandbox.url, "--json")
    assert finished.code == 0
    assert finished.summary["throttled"] == 0
    assert finished.summary["seconds"] > 0.9


def test_batch_size_is_the_most_of_a_request(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    propsync(*run(sandbox, job), "--batch-size", "150")
    assert sorted(entry.identifications for entry in sandbox.requests) == [99, 150, 150]


# What the three are sent within: as long as one takes, so that a slow machine has time to send them.
@pytest.mark.parametrize(("concurrency", "milliseconds"), [(1, 100), (3, 500)])
def test_concurrency_is_the_most_in_flight(
    propsync: Propsync, sandbox: Sandbox, job: Path, concurrency: int, milliseconds: int
) -> None:
    sandbox.change(latency=f"{milliseconds}ms")
    propsync(*run(sandbox, job), "--batch-size", "60", "--concurrency", str(concurrency))
    came = [entry.received for entry in sandbox.requests]
    assert len(came) == 7
    within = milliseconds / 1000 - 0.01
    assert max(sum(0 <= later - one < within for later in came) for one in came) == concurrency


def test_a_throttled_request_waits_as_told(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.change(outage="429")
    with propsync.begin(*run(sandbox, job), "--json") as running:
        until(lambda: sandbox.stats.requests >= 3)
        sandbox.end_outage()
        finished = running.wait()
    assert finished.code == 3
    assert finished.summary["throttled"] >= 3


# --- what a run tells ------------------------------------------------------------------------------------


def test_json_is_one_object_on_stdout_and_all_else_is_on_stderr(
    propsync: Propsync, sandbox: Sandbox, job: Path
) -> None:
    finished = propsync(*run(sandbox, job), "--json")
    assert list(finished.summary)[: len(SUMMARY_KEYS)] == SUMMARY_KEYS
    assert finished.out.count("\n") == 1
    assert finished.summary["status"] == "finished"
    assert finished.summary["accepted"] == 399
    assert finished.summary["rejected"] == 1
    assert finished.summary["resumed_rows"] == 0
    assert "started" in finished.err
    assert "rejects: " in finished.err


def test_without_json_the_summary_is_a_table(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    out = propsync(*run(sandbox, job)).out
    for words in ("job: finished, 1 row rejected", "rows", "accepted", "399", "bad_number"):
        assert words in out


def test_every_log_line_is_json_when_that_is_wanted(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    finished = propsync(*run(sandbox, job), "--log-format", "json", "--max-rejects", "0")
    assert finished.code == 4
    lines = [json.loads(line) for line in finished.err.splitlines()]
    assert [line["event"] for line in lines] == ["started", "ended", "rejects", "unfinished", "failed"]
    assert {"time", "level", "event", "job"} <= set.intersection(*(set(line) for line in lines))
    assert {line["job"] for line in lines} == {"job"}
    assert lines[-1]["exit_code"] == 4
    assert "--max-rejects" in lines[-1]["hint"]


def test_an_error_before_the_start_is_a_json_line_too(propsync: Propsync, job: Path) -> None:
    finished = propsync("run", job, "gone.csv", "--log-format", "json")
    (line,) = finished.err.splitlines()
    assert json.loads(line)["exit_code"] == 7


def test_a_report_is_written(propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path) -> None:
    propsync(*run(sandbox, job), "--report", "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "bad_number" in page


def test_metrics_are_kept(propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path) -> None:
    propsync(*run(sandbox, job), "--metrics-file", "run.prom")
    text = (tmp_path / "run.prom").read_text()
    samples = {
        (sample.name, sample.labels.get("outcome")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["propsync_rows_total", "accepted"] == 399
    assert samples["propsync_rows_total", "rejected"] == 1
    assert samples["propsync_requests_total", None] == 1


# --- sources ---------------------------------------------------------------------------------------------


def test_stdin_is_a_source(propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path) -> None:
    text = (tmp_path / "users.csv").read_text()
    finished = propsync.process(*run(sandbox, job, "-"), "--json", stdin=text)
    assert finished.code == 3
    assert finished.summary["accepted"] == len(sandbox.profiles) == 399


def test_files_patterns_and_folders_are_sources(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    (tmp_path / "exports").mkdir()
    for number, name in enumerate(("a.csv", "b.csv", "exports/c.csv"), 1):
        text = f"id,plan,score\nuser-{number},{name},{number}\nshared,{name},{number}\n"
        (tmp_path / name).write_text(text)
    finished = propsync(*run(sandbox, job, "[ab].csv", "exports"), "--json", "--batch-size", "1")
    assert finished.code == 0
    assert finished.summary["rows"] == 6
    assert set(sandbox.profiles.users) == {"user-1", "user-2", "user-3", "shared"}
    assert sandbox.profiles.users["shared"].properties["plan"] == "exports/c.csv"


def test_the_command_line_names_sources_from_where_it_is_given(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path
) -> None:
    """And the job file from where it lies."""
    (tmp_path / "jobs").mkdir()
    exports.write_csv(tmp_path / "jobs" / "users.csv", 2)
    exports.write_csv(tmp_path / "users.csv", 3)
    job = exports.write_job(tmp_path / "jobs", source="users.csv")
    assert propsync(*run(sandbox, job), "--json").summary["rows"] == 2
    assert propsync(*run(sandbox, job, "users.csv"), "--json").summary["rows"] == 3
    assert (tmp_path / "jobs" / ".propsync" / "job").is_dir()


def test_one_reject_that_was_mended_is_a_source(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    (tmp_path / "users.csv").write_text("id,plan,score\nuser-1,,much\nuser-2,pro,1\n")
    assert propsync(*run(sandbox, job)).code == 3
    rejects = tmp_path / ".propsync" / "job" / "rejects.ndjson"
    rejects.write_text(rejects.read_text().replace('"much"}', '"5"}'))
    assert propsync(*run(sandbox, job, rejects)).code == 0
    assert sandbox.profiles.users["user-1"].properties == {"score": 5}


# --- state and status ------------------------------------------------------------------------------------


def test_state_dir_is_where_the_state_is(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    propsync(*run(sandbox, job), "--state-dir", "elsewhere/state")
    assert not (tmp_path / ".propsync").exists()
    folder = tmp_path / "elsewhere" / "state"
    assert {"checkpoint.sqlite", "rejects.ndjson"} <= {path.name for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.rglob("*") if path.is_file())
    assert "elsewhere/state" in propsync("status", job, "--state-dir", "elsewhere/state").out


def test_status_before_during_and_after(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    assert "never run" in propsync("status", job).out
    assert not (tmp_path / ".propsync").exists()

    exports.write_parquet(tmp_path / "users.parquet", 300, group_rows=100)
    sandbox.change(latency="1s")
    with propsync.begin(*run(sandbox, job, "users.parquet"), "--batch-size", "100") as running:
        until(lambda: "job: unfinished" in propsync("status", job).out)
        during = propsync("status", job)
        running.kill()
    assert during.code == 0
    assert f"process {running.process.pid}" in during.out
    sandbox.change(latency="0ms")

    assert propsync(*run(sandbox, job, "users.parquet"), "--batch-size", "100").code == 0
    after = propsync("status", job, "--json")
    assert after.summary["status"] == "finished"
    assert after.summary["active"] is None
    assert after.summary["rows"] == after.summary["accepted"] == 300
    assert "job: finished" in propsync("status", job).out


def test_status_tells_what_is_left(propsync: Propsync, sandbox: Sandbox, tmp_path: Path) -> None:
    exports.write_parquet(tmp_path / "users.parquet", 300, group_rows=100)
    job = exports.write_job(tmp_path, source="users.parquet")
    sandbox.change(poison_users=["user-000001"])
    limits = ("--batch-size", "100", "--concurrency", "1", "--max-rejects", "0")
    assert propsync(*run(sandbox, job), *limits).code == 4
    standing = propsync("status", job, "--json").summary
    assert standing["rows"] == 100
    assert standing["rows_left"] == 200
    text = propsync("status", job).out
    assert "users.parquet: committed up to row 100" in text
    assert "malformed" in text


# --- check and preview -----------------------------------------------------------------------------------


def test_check_sends_nothing_needs_no_key_and_leaves_nothing(
    propsync: Propsync, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AMPLITUDE_API_KEY")
    before = set(tmp_path.rglob("*"))
    finished = propsync("check", job, "--rate", "100", "--json")
    assert finished.code == 3
    assert finished.summary["rows"] == 400
    assert finished.summary["rejects_by_code"] == {"bad_number": 1}
    assert finished.summary["seconds"] == pytest.approx(3.99)
    assert set(tmp_path.rglob("*")) == before


def test_check_shows_rejects_by_reason_with_their_places(propsync: Propsync, job: Path) -> None:
    finished = propsync("check", job)
    assert finished.code == 3
    assert "bad_number: 1" in finished.out
    assert 'users.csv row 7: column score: "much" is not a number' in finished.out


def test_check_warns_of_what_may_count_twice(propsync: Propsync, job: Path, tmp_path: Path) -> None:
    job.write_text(
        "source: users.csv\nidentification: {user_id: id, user_properties: {$add: {score: score}}}\n"
    )
    assert "warning: $add" in propsync("check", job).out
    codes = [warning["code"] for warning in propsync("check", job, "--json").summary["warnings"]]
    assert codes == ["unrepeatable"]


def test_preview_shows_as_many_as_wanted(propsync: Propsync, job: Path) -> None:
    assert len(propsync("preview", job).out.splitlines()) == 5
    assert len(propsync("preview", job, "-n", "2").out.splitlines()) == 2
    assert len(propsync("preview", job, "-n", "1000").out.splitlines()) == 399


def test_preview_says_why_there_is_nothing_to_show(propsync: Propsync, job: Path, tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("id,plan,score\n")
    finished = propsync("preview", job)
    assert finished.code == 0
    assert not finished.out
    assert "no row" in finished.err
