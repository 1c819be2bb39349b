"""The options for the second night, and `baseline`, do what their help says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.commands import QUICK, Finished, Propsync

KNOWN = 400


@pytest.fixture
def job(propsync: Propsync, sandbox: Sandbox, tmp_path: Path) -> Path:
    """A job that was run once; its export lies beside it as users.csv."""
    exports.write_csv(tmp_path / "users.csv", KNOWN)
    path = exports.write_job(tmp_path, source="users.csv")
    assert run(propsync, sandbox, path).code == 0
    sandbox.reset()
    return path


def run(propsync: Propsync, sandbox: Sandbox, *arguments: str | Path) -> Finished:
    return propsync("run", *arguments, "--endpoint", sandbox.url, *QUICK, "--json")


def give_other_plans(folder: Path, count: int) -> None:
    """The first users of the export have another plan now."""
    path = folder / "users.csv"
    header, *lines = path.read_text().splitlines()
    lines[:count] = [line.replace("plan ", "tariff ") for line in lines[:count]]
    path.write_text("\n".join([header, *lines, ""]))


def test_a_run_sends_what_changed_and_full_sends_everything(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, job: Path
) -> None:
    give_other_plans(tmp_path, 3)
    assert run(propsync, sandbox, job).summary["accepted"] == 3
    assert {len(profile.properties) for profile in sandbox.profiles.users.values()} == {1}
    assert run(propsync, sandbox, job).summary["accepted"] == 0
    finished = run(propsync, sandbox, job, "--full")
    assert (finished.summary["accepted"], finished.summary["unchanged"]) == (KNOWN, 0)


def test_max_changes_stops_before_anything_is_sent(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, job: Path
) -> None:
    give_other_plans(tmp_path, 100)
    finished = run(propsync, sandbox, job, "--max-changes", "24.5%")
    assert finished.code == 4
    assert "100 of 400 known users changed, and --max-changes is 24.5%; nothing was sent" in finished.err
    assert finished.summary["exit_code"] == 4
    assert finished.summary["rows"] == 0
    assert sandbox.stats.requests == 0
    finished = run(propsync, sandbox, job, "--max-changes", "1%", "--log-format", "json")
    error = json.loads(finished.err.splitlines()[-1])
    assert (error["event"], error["exit_code"]) == ("failed", 4)
    assert "--max-changes 100%" in error["hint"]
    assert run(propsync, sandbox, job, "--max-changes", "25%").summary["accepted"] == 100


def test_max_absent_stops_before_anything_is_unset(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, job: Path
) -> None:
    job.write_text("absent: unset\n" + job.read_text())
    assert run(propsync, sandbox, job).summary["accepted"] == 0
    exports.write_csv(tmp_path / "users.csv", KNOWN - 20)
    finished = run(propsync, sandbox, job, "--max-absent", "4%")
    assert finished.code == 4
    assert "20 of 400 known users aren't in the export, and --max-absent is 4%" in finished.err
    assert sandbox.stats.requests == 0
    finished = run(propsync, sandbox, job, "--max-absent", "5%")
    assert (finished.summary["rows"], finished.summary["accepted"]) == (KNOWN, 20)


@pytest.mark.parametrize("flag", ["--max-changes", "--max-absent"])
@pytest.mark.parametrize("value", ["50", "half", "101%", "-1%", ""])
def test_a_share_has_a_percent_sign(propsync: Propsync, flag: str, value: str) -> None:
    finished = propsync("run", "job.yml", flag, value)
    assert finished.code == 2
    assert "50%" in finished.err


def test_dry_run_says_what_check_says_and_sends_nothing(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_other_plans(tmp_path, 3)
    monkeypatch.delenv("AMPLITUDE_API_KEY")
    where = (job, "--endpoint", sandbox.url)
    told = propsync("run", *where, "--dry-run")
    assert told.code == 0
    assert told.out == propsync("check", *where).out
    for words in ("users new", "$set.plan: 3 changed", 'user-000001: now "tariff 1"'):
        assert words in told.out
    assert sandbox.stats.requests == 0
    assert propsync("run", *where, "--dry-run", "--full", "--json").summary["accepted"] == KNOWN


def test_dry_run_says_so_where_rows_would_be_rejected(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, job: Path
) -> None:
    exports.write_csv(tmp_path / "users.csv", KNOWN, bad=(7,))
    finished = propsync("run", job, "--endpoint", sandbox.url, "--dry-run")
    assert finished.code == 3
    assert "bad_number: 1" in finished.out


@pytest.mark.parametrize("processes", ["1", "2"])
def test_one_process_or_two_send_the_same(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, job: Path, processes: str
) -> None:
    give_other_plans(tmp_path, 3)
    finished = propsync.process(
        "run", job, "--endpoint", sandbox.url, *QUICK, "--processes", processes, "--json"
    )
    assert finished.code == 0
    assert (finished.summary["accepted"], finished.summary["unchanged"]) == (3, KNOWN - 3)
    assert {len(profile.properties) for profile in sandbox.profiles.users.values()} == {1}
    assert run(propsync, sandbox, job, "--processes", "3").code == 2


def test_the_snapshot_is_where_the_state_is_and_status_shows_it(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, job: Path
) -> None:
    assert run(propsync, sandbox, job, "--state-dir", "elsewhere").summary["accepted"] == KNOWN
    assert (tmp_path / "elsewhere" / "snapshot.arrow").stat().st_mode & 0o777 == 0o600
    assert f"snapshot      {KNOWN} users" in propsync("status", job).out
    assert propsync("status", job, "--json").summary["snapshot"]["entries"] == KNOWN


# --- baseline --------------------------------------------------------------------------------------------


def test_baseline_records_and_sends_nothing(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports.write_csv(tmp_path / "users.csv", 20, bad=(7,))
    job = exports.write_job(tmp_path, source="users.csv")
    where = ("--endpoint", sandbox.url, "--state-dir", "elsewhere")
    with monkeypatch.context() as patch:
        patch.delenv("AMPLITUDE_API_KEY")
        finished = propsync("baseline", job, *where, "--json")
    assert finished.code == 3
    assert finished.summary == {
        "job": "job", "rows": 20, "rejected": 1, "entries": 19, "rejects_by_code": {"bad_number": 1}
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} <= {"lock", "snapshot.arrow"}
    assert sandbox.stats.requests == 0
    exports.write_csv(tmp_path / "users.csv", 21)
    assert run(propsync, sandbox, job, "--state-dir", "elsewhere").summary["accepted"] == 2
    assert set(sandbox.profiles.users) == {"user-000007", "user-000021"}


def test_baseline_is_told_as_text(propsync: Propsync, tmp_path: Path) -> None:
    exports.write_csv(tmp_path / "users.csv", 20, bad=(7,))
    job = exports.write_job(tmp_path, source="users.csv")
    out = propsync("baseline", job).out
    assert "20 rows read, 19 users in the snapshot" in out
    assert "bad_number: 1" in out


def test_baseline_refuses_what_makes_no_sense(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, job: Path
) -> None:
    off = exports.write_job(tmp_path, "changes: off\n" + exports.JOB, name="off.yml", source="users.csv")
    finished = propsync("baseline", off)
    assert finished.code == 2
    assert "changes: off" in finished.err
    give_other_plans(tmp_path, 3)
    sandbox.change(poison_users=["user-000001"])
    assert run(propsync, sandbox, job, "--max-rejects", "0").code == 4
    finished = propsync("baseline", job, "--endpoint", sandbox.url)
    assert finished.code == 7
    assert "unfinished run" in finished.err
    assert "--restart" in finished.err
