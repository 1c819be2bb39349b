"""Exit code 2: the command line or the job file is wrong. All of it is told, and nothing is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.acceptance.sending import send
from tests.commands import KEY, Propsync
from tests.examples import each_row


@each_row(
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
        (
            ("--batch-size", "1001"),
            "over `transport: identify` a request takes at most 1,000 identifications",
        ),
        (("--batch-size", "2001"), "1<=x<=2000"),
        (("--batch-size", "0"), "1<=x<=2000"),
        (("--concurrency", "0"), "1<=x<=1000"),
        (("--log-format", "xml"), "'text', 'json'"),
        (("--endpoint", "127.0.0.1:8080"), "https://api2.amplitude.com"),
        (("--endpoint", "ftp://127.0.0.1"), "https://api2.amplitude.com"),
        (("--endpoint", "http://amplitude.example"), "--allow-http"),
    ],
)
def test_2_for_a_flag_that_is_wrong(propsync: Propsync, job: Path, flags: tuple[str, ...], told: str) -> None:
    finished = propsync("run", job, *flags)
    assert finished.code == 2
    assert told in finished.err
    assert not finished.out
    assert not (job.parent / ".propsync").exists()


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
