"""Every exit code by a real cause, with a message that says what happened, where, and what to do."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.acceptance import exports
from tests.acceptance.test_real_data import holds_the_law
from tests.commands import KEY, QUICK, Finished, Propsync, until


@pytest.fixture
def job(tmp_path: Path) -> Path:
    exports.write_csv(tmp_path / "users.csv", 1_000)
    return exports.write_job(tmp_path, source="users.csv")


def send(propsync: Propsync, sandbox: Sandbox, *arguments: str | Path) -> Finished:
    return propsync("run", *arguments, "--endpoint", sandbox.url, *QUICK)


def leave_unfinished(propsync: Propsync, sandbox: Sandbox, *arguments: str | Path) -> None:
    """A run that settled something and was then stopped."""
    sandbox.change(poison_users=["user-001000"])
    stopped = send(propsync, sandbox, *arguments, "--max-rejects", "0")
    assert stopped.code == 4
    sandbox.change(poison_users=[])


# --- 0 and 3 ---------------------------------------------------------------------------------------------


def test_0_when_every_row_arrived(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    assert send(propsync, sandbox, job).code == 0


def test_3_when_rows_were_handed_back(propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path) -> None:
    exports.write_csv(tmp_path / "users.csv", 1_000, bad=(7, 8))
    finished = send(propsync, sandbox, job)
    assert finished.code == 3
    assert "rejects: " + str(tmp_path / ".propsync" / "job" / "rejects.ndjson") in finished.err


def test_3_when_the_server_refused_rows(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.change(poison_users=["user-000500"], poison_status=403)
    finished = send(propsync, sandbox, job, "--json")
    assert finished.code == 3
    assert finished.summary["accepted"] == len(sandbox.profiles) == 999


@pytest.mark.parametrize("content", ["", "id,plan,score\n"])
def test_0_when_there_is_nothing_to_send(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "users.csv").write_text(content)
    finished = send(propsync, sandbox, job, "--json")
    assert finished.code == 0
    assert finished.summary["rows"] == sandbox.stats.requests == 0


# --- 2: the command line or the job file -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--bacth-size", "5"), "--batch-size"),
        (("--rate", "fast"), "a number above 0, or max"),
        (("--rate", "0"), "a number above 0, or max"),
        (("--rate", "-1"), "a number above 0, or max"),
        (("--rate", "nan"), "a number above 0, or max"),
        (("--requests-per-second", "0"), "a number above 0, or max"),
        (("--max-outage", "2 hours"), "90s, 30m or 2h"),
        (("--max-outage", "-5s"), "90s, 30m or 2h"),
        (("--retry-wait", "soon"), "90s, 30m or 2h"),
        (("--max-rejects", "few"), "rows like 100, or a share like 0.5%"),
        (("--max-rejects", "101%"), "rows like 100, or a share like 0.5%"),
        (("--max-rejects", "-1"), "rows like 100, or a share like 0.5%"),
        (("--batch-size", "1001"), "1<=x<=1000"),
        (("--batch-size", "0"), "1<=x<=1000"),
        (("--concurrency", "0"), "1<=x<=1000"),
        (("--log-format", "xml"), "'text', 'json'"),
        (("--endpoint", "127.0.0.1:8080"), "https://api2.amplitude.com"),
        (("--endpoint", "ftp://127.0.0.1"), "https://api2.amplitude.com"),
        (("--endpoint", "http://amplitude.example"), "--allow-http"),
    ],
)
def test_2_for_a_flag_that_is_wrong(
    propsync: Propsync, job: Path, tmp_path: Path, flags: tuple[str, ...], told: str
) -> None:
    finished = propsync("run", job, *flags)
    assert finished.code == 2
    assert told in finished.err
    assert not finished.out
    assert not (tmp_path / ".propsync").exists()


@pytest.mark.parametrize(
    "flags", [("--max-outage", "2h"), ("--max-rejects", "5%"), ("--max-rejects", "10"), ("--full",)]
)
def test_flags_that_are_right_are_taken(
    propsync: Propsync, sandbox: Sandbox, job: Path, flags: tuple[str, ...]
) -> None:
    assert send(propsync, sandbox, job, *flags).code == 0


def test_2_for_a_command_that_there_is_not(propsync: Propsync) -> None:
    finished = propsync("rnu", "job.yml")
    assert finished.code == 2
    assert "run" in finished.err


@pytest.mark.parametrize("command", ["run", "check", "preview", "status"])
def test_2_for_a_job_file_that_is_not_there(propsync: Propsync, command: str) -> None:
    finished = propsync(command, "nightly.yml")
    assert finished.code == 2
    assert "nightly.yml" in finished.err
    assert "propsync init" in finished.err


def test_2_with_all_faults_of_a_job_file_at_once(propsync: Propsync, job: Path) -> None:
    job.write_text(
        "source: users.csv\n"
        "identification:\n"
        "  user_idd: id\n"
        "  user_properties:\n"
        "    plan: plan\n"
        "    score: {column: score, type: numbr}\n"
        "destintion: {region: us}\n"
    )
    finished = propsync("run", job)
    assert finished.code == 2
    for line, nearest in ((3, "user_id"), (6, "number"), (7, "destination")):
        (told,) = [text for text in finished.err.splitlines() if f"job.yml:{line}:" in text]
        assert f"`{nearest}`" in told


def test_2_for_a_column_that_the_source_has_not(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    job.write_text(job.read_text().replace("plan: plan", "plan: plann"))
    finished = send(propsync, sandbox, job)
    assert finished.code == 2
    assert "job.yml:5" in finished.err
    assert "did you mean `plan`?" in finished.err
    assert not sandbox.stats.requests
    assert not (tmp_path / ".propsync").exists()


def test_2_without_a_key(propsync: Propsync, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMPLITUDE_API_KEY")
    finished = propsync("run", job)
    assert finished.code == 2
    assert "export AMPLITUDE_API_KEY=" in finished.err


def test_2_for_a_key_in_the_job_file(propsync: Propsync, job: Path, tmp_path: Path) -> None:
    text = job.read_text()
    job.write_text(f"api_key: {KEY}\n{text}")
    finished = propsync("run", job)
    job.write_text(text)
    assert finished.code == 2
    assert "AMPLITUDE_API_KEY" in finished.err


def test_2_for_a_job_without_a_source(propsync: Propsync, tmp_path: Path) -> None:
    finished = propsync("run", exports.write_job(tmp_path))
    assert finished.code == 2
    assert "source" in finished.err


# --- 4: more rejects than allowed ------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "bad", "code"), [("0", 1, 4), ("1", 1, 3), ("1%", 11, 4), ("1%", 10, 3)])
def test_4_for_more_rejects_than_allowed(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path, limit: str, bad: int, code: int
) -> None:
    exports.write_csv(tmp_path / "users.csv", 1_000, bad=tuple(range(1, bad + 1)))
    finished = send(propsync, sandbox, job, "--max-rejects", limit, "--json")
    assert finished.code == code
    assert holds_the_law(finished.summary)
    assert finished.summary["status"] == ("stopped" if code == 4 else "finished")
    assert ("--max-rejects" in finished.err.split("propsync: ")[-1]) == (code == 4)


def test_4_is_taken_up_with_a_higher_limit(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    exports.write_csv(tmp_path / "users.csv", 1_000, bad=(3, 900))
    assert send(propsync, sandbox, job, "--max-rejects", "0").code == 4
    finished = send(propsync, sandbox, job, "--max-rejects", "2", "--json")
    assert finished.code == 3
    assert finished.summary["rows"] == 1_000
    assert len(sandbox.profiles) == 998


# --- 5: the destination ----------------------------------------------------------------------------------


def test_5_for_a_wrong_key_after_one_request(propsync: Propsync, job: Path, tmp_path: Path) -> None:
    exports.write_csv(tmp_path / "users.csv", 5_000)
    options = SandboxOptions(api_keys=frozenset({"right"}), echo_key=True, record=True, latency=0.05)
    with running_sandbox(options) as strict:
        finished = send(propsync, strict, job, "--json")
        assert strict.stats.requests == 1
    assert finished.code == 5
    assert finished.summary["accepted"] == 0
    assert finished.summary["status"] == "stopped"
    assert "check the API key" in finished.err
    assert "region" in finished.err


def test_5_for_an_outage_that_is_too_long(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.begin_outage("503")
    finished = send(propsync, sandbox, job, "--max-outage", "0.3s", "--json")
    assert finished.code == 5
    assert 0.2 < finished.summary["seconds"] < 3
    assert "run the same command again" in finished.err
    sandbox.end_outage()
    again = send(propsync, sandbox, job, "--json")
    assert again.code == 0
    assert again.summary["accepted"] == 1_000


def test_an_outage_that_ends_in_time_is_none(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.begin_outage("reset-before", seconds=0.5)
    finished = send(propsync, sandbox, job, "--max-outage", "10s", "--json")
    assert finished.code == 0
    assert finished.summary["retries"] > 0


def test_5_when_nobody_listens(propsync: Propsync, job: Path) -> None:
    with running_sandbox() as gone:
        url = gone.url
    finished = propsync("run", job, "--endpoint", url, *QUICK, "--max-outage", "0.2s")
    assert finished.code == 5
    assert "no connection" in finished.err


# --- 6: another run --------------------------------------------------------------------------------------


def test_6_while_another_run_is_active(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.change(outage="stall")
    with propsync.begin("run", job, "--endpoint", sandbox.url, *QUICK) as running:
        until(lambda: sandbox.stats.requests >= 1)
        second = send(propsync, sandbox, job, "--restart")
        standing = propsync("status", job)
        assert running.process.poll() is None
    assert second.code == 6
    assert f"process {running.process.pid}" in second.err
    assert f"process {running.process.pid}" in standing.out
    sandbox.end_outage()
    assert send(propsync, sandbox, job).code == 0


# --- 7: the source ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "check", "preview", "init"])
def test_7_for_a_source_that_is_not_there(propsync: Propsync, job: Path, command: str) -> None:
    arguments = ("gone.csv",) if command == "init" else (job, "gone.csv")
    finished = propsync(command, *arguments)
    assert finished.code == 7
    assert "gone.csv" in finished.err


def test_7_for_a_pattern_that_matches_nothing(propsync: Propsync, job: Path) -> None:
    assert propsync("check", job, "gone-*.csv").code == 7


@pytest.mark.parametrize("damage", ["cut", "overwritten", "no parquet"])
def test_7_for_a_damaged_parquet_file(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path, damage: str
) -> None:
    path = exports.write_parquet(tmp_path / "users.parquet", 5_000, group_rows=1_000)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "cut": content[:middle],
            "overwritten": content[:middle] + b"\xff" * 2_000 + content[middle + 2_000 :],
            "no parquet": b"id,plan,score\n",
        }[damage]
    )
    finished = send(propsync, sandbox, job, path)
    assert finished.code == 7
    assert "users.parquet" in finished.err


def test_7_for_a_source_that_changed_before_the_run_was_taken_up(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    leave_unfinished(propsync, sandbox, job)
    exports.write_csv(tmp_path / "users.csv", 1_001)
    requests = sandbox.stats.requests
    finished = send(propsync, sandbox, job)
    assert finished.code == 7
    assert "users.csv" in finished.err
    assert "--restart" in finished.err
    assert sandbox.stats.requests == requests
    again = send(propsync, sandbox, job, "--restart", "--json")
    assert again.code == 0
    assert again.summary["accepted"] == 1_001
    assert again.summary["resumed_rows"] == 0


def test_7_for_another_job(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    leave_unfinished(propsync, sandbox, job)
    text = job.read_text()
    job.write_text(text.replace("plan: plan", "tariff: plan"))
    finished = send(propsync, sandbox, job)
    assert finished.code == 7
    assert "job" in finished.err
    assert "--restart" in finished.err
    job.write_text(f"# only a comment is new\n{text}")
    assert send(propsync, sandbox, job).code == 3


def test_7_for_other_limits(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    leave_unfinished(propsync, sandbox, job, "--batch-size", "100")
    finished = send(propsync, sandbox, job, "--batch-size", "50")
    assert finished.code == 7
    assert "--batch-size 100" in finished.err
    assert "--restart" in finished.err
    assert send(propsync, sandbox, job, "--batch-size", "100").code == 3


def test_7_for_a_checkpoint_that_is_damaged(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    leave_unfinished(propsync, sandbox, job)
    checkpoint = tmp_path / ".propsync" / "job" / "checkpoint.sqlite"
    checkpoint.write_bytes(b"\0" * 100 + checkpoint.read_bytes()[100:])
    finished = send(propsync, sandbox, job)
    assert finished.code == 7
    assert "checkpoint.sqlite" in finished.err
    assert "--restart" in finished.err
    assert propsync("status", job).code == 7
    assert send(propsync, sandbox, job, "--restart").code == 0


# --- 8: the state folder ---------------------------------------------------------------------------------


def test_8_for_a_state_folder_that_can_t_be(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    finished = send(propsync, sandbox, job, "--state-dir", tmp_path / "users.csv" / "state")
    assert finished.code == 8
    assert "--state-dir" in finished.err
    assert not sandbox.stats.requests


@pytest.mark.parametrize("flag", ["--report", "--metrics-file"])
def test_8_for_a_file_that_can_t_be_written_before_anything_is_sent(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path, flag: str
) -> None:
    finished = send(propsync, sandbox, job, flag, tmp_path / "nowhere" / "file")
    assert finished.code == 8
    assert "nowhere" in finished.err
    assert not sandbox.stats.requests


def full_disk() -> None:
    """From 60 KB on a file can't grow, which is an error and no signal."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


def test_8_for_a_full_disk_and_what_is_settled_is_kept(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    exports.write_csv(tmp_path / "users.csv", 3_000)
    sandbox.change(latency="1ms")
    command = ("run", job, "--endpoint", sandbox.url, *QUICK, "--batch-size", "20", "--json")
    with propsync.begin(*command, before=full_disk) as running:
        stopped = running.wait()
    assert stopped.code == 8
    assert "make room" in stopped.err
    assert stopped.summary["status"] == "stopped"
    assert 0 < stopped.summary["rows"] < 3_000
    seen = {entry.sha256 for entry in sandbox.requests}
    finished = propsync(*command)
    assert finished.code == 0
    assert finished.summary["resumed_rows"] >= stopped.summary["rows"]
    assert finished.summary["rows"] == len(sandbox.profiles) == 3_000
    assert holds_the_law(finished.summary)
    again = [entry for entry in sandbox.requests if entry.sha256 in seen]
    assert len(again) - len(seen) <= 8 * 2


# --- 1: a fault of ours ----------------------------------------------------------------------------------


def break_down(*_: object, **__: object) -> None:
    raise RuntimeError(f"broken with api_key={KEY}")


def test_1_with_a_trace_without_the_key(
    propsync: Propsync, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.pipeline.run_job", break_down)
    finished = propsync("run", job)
    assert finished.code == 1
    assert "RuntimeError: broken with api_key=***" in finished.err
    assert "please report it" in finished.err


def test_1_without_a_key_that_came_from_a_file(
    propsync: Propsync,
    job: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "amplitude.key").write_text(f"{KEY}\n")
    job.write_text(f"api_key_file: {folder / 'amplitude.key'}\n{job.read_text()}")
    monkeypatch.delenv("AMPLITUDE_API_KEY")
    monkeypatch.setattr("etl.pipeline.run_job", break_down)
    finished = propsync("run", job)
    assert finished.code == 1
    assert "broken with api_key=***" in finished.err


def test_1_in_a_json_line_where_these_are_wanted(
    propsync: Propsync, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.pipeline.run_job", break_down)
    finished = propsync("run", job, "--log-format", "json")
    assert finished.code == 1
    assert len(finished.err.splitlines()) == 1


# --- the shell ends us -----------------------------------------------------------------------------------


def test_a_reader_who_leaves_is_no_fault(propsync: Propsync, job: Path) -> None:
    """As in `propsync preview job.yml -n 1000 | head -1`."""
    with propsync.begin("preview", job, "-n", "1000") as running:
        assert running.process.stdout is not None
        running.process.stdout.close()
        running.process.stdout = None
        finished = running.wait()
    assert finished.code == 0
    assert not finished.err


def is_read(pipe: Path) -> bool:
    """Whether somebody has opened the pipe to read from it."""
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def test_130_before_the_journey_began(propsync: Propsync, job: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with propsync.begin("check", job, "pipe.csv") as running:
        until(lambda: is_read(tmp_path / "pipe.csv"))
        running.send(signal.SIGINT)
        finished = running.wait(seconds=3)
    assert finished.code == 130
    assert finished.err.strip() == "propsync: interrupted"
