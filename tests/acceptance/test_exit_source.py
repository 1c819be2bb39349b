"""Exit code 7: the source can't be read, or isn't the one that the checkpoint is of."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.acceptance.sending import leave_unfinished, send
from tests.commands import Propsync


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
            "no parquet": b"\0\1\2\3" * 100,
        }[damage]
    )
    finished = send(propsync, sandbox, job, path)
    assert finished.code == 7
    assert "users.parquet" in finished.err


def test_a_source_that_changed_before_the_run_was_resumed_is_sent(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    leave_unfinished(propsync, sandbox, job)
    exports.write_csv(tmp_path / "users.csv", 201)
    requests = sandbox.stats.requests
    finished = send(propsync, sandbox, job, "--on-source-change", "stop")
    assert finished.code == 7
    assert "users.csv has changed" in finished.err
    assert "--on-source-change restart" in finished.err
    assert sandbox.stats.requests == requests
    again = send(propsync, sandbox, job, "--json")
    assert again.code == 0
    assert "users.csv has changed" in again.err
    # 199 had been accepted, and are the same in this export.
    assert again.summary["accepted"] == 2
    assert again.summary["resumed_rows"] == 0
    assert len(sandbox.profiles) == 201


def test_7_for_another_job(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    leave_unfinished(propsync, sandbox, job)
    text = job.read_text()
    job.write_text(text.replace("plan: plan", "tariff: plan"))
    finished = send(propsync, sandbox, job, "--on-source-change", "stop")
    assert finished.code == 7
    assert "job" in finished.err
    assert "finish that run first" in finished.err
    job.write_text(f"# only a comment is new\n{text}")
    assert send(propsync, sandbox, job).code == 3


def test_7_for_other_limits(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    leave_unfinished(propsync, sandbox, job, "--batch-size", "100")
    finished = send(propsync, sandbox, job, "--batch-size", "50", "--on-source-change", "stop")
    assert finished.code == 7
    assert "--batch-size 100" in finished.err
    assert "--on-source-change restart" in finished.err
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
