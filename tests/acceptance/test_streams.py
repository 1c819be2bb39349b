"""What becomes of stdin, stdout, stderr and the working directory is not an end of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.commands import KEY, QUICK, REPOSITORY, SECONDS, Propsync

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests" / "guard")])
    return {**os.environ, "PYTHONPATH": path, "HOME": str(home), "AMPLITUDE_API_KEY": KEY}


@pytest.fixture
def job(tmp_path: Path, propsync: Propsync) -> Path:
    exports.write_csv(tmp_path / "users.csv", 40, bad=(7,))
    return exports.write_job(tmp_path, source="users.csv")


def shell(command: str, environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """The command line in a shell, with `propsync` for the command."""
    line = command.replace("propsync", f"{sys.executable} -m etl")
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    "streams",
    [
        pytest.param("2>&-", marks=pytest.mark.soak),
        pytest.param(">&-", marks=pytest.mark.soak),
        "<&- >&- 2>&-",
        pytest.param("> /dev/full", marks=needs_full),
        pytest.param("2> /dev/full", marks=(needs_full, pytest.mark.soak)),
        pytest.param("| true; exit ${PIPESTATUS[0]}", marks=pytest.mark.soak),
        "2>&1 > left.json | true; exit ${PIPESTATUS[0]}",
    ],
)
def test_a_run_that_finished_says_so_whoever_reads_it(
    sandbox: Sandbox, job: Path, tmp_path: Path, environment: dict[str, str], streams: str
) -> None:
    run = f"propsync run job.yml --endpoint {sandbox.url} {' '.join(QUICK)} --json {streams}"
    finished = shell(run, environment, tmp_path)
    assert finished.returncode == 3, finished.stderr
    assert len(sandbox.profiles) == 39
    assert "Traceback" not in finished.stderr
    assert "Exception ignored" not in finished.stderr
    if finished.stdout:
        assert json.loads(finished.stdout)["exit_code"] == 3
    if streams == "> /dev/full":
        assert "the standard output can't be written: No space left on device" in finished.stderr
    # What was told nowhere was not told in a file of the state either.
    checkpoint = (tmp_path / ".propsync" / "job" / "checkpoint.sqlite").read_bytes()
    assert checkpoint.startswith(b"SQLite format 3")
    assert b"rows were" not in checkpoint


@needs_full
def test_a_file_that_was_not_written_is_no_success(
    propsync: Propsync, job: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    made = shell("propsync init users.csv > /dev/full", environment, tmp_path)
    assert made.returncode == 8
    assert "No space left" in made.stderr
    assert "Traceback" not in made.stderr


def test_a_closed_stdin_is_no_source(job: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    finished = shell("propsync run job.yml - <&-", environment, tmp_path)
    assert finished.returncode == 7
    assert "stdin is closed" in finished.stderr


@pytest.mark.soak  # as below, but begun there
def test_a_working_directory_that_was_gone_before(
    sandbox: Sandbox, job: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    run = f"propsync run {job} --endpoint {sandbox.url} {' '.join(QUICK)} --json"
    (tmp_path / "gone").mkdir()
    finished = shell(f"cd gone && rmdir ../gone && {run}", environment, tmp_path)
    assert finished.returncode == 3, finished.stderr
    assert json.loads(finished.stdout)["exit_code"] == 3
    assert "Traceback" not in finished.stderr
    assert len(sandbox.profiles) == 39


def leave_for_nowhere() -> None:
    gone = Path("gone")
    gone.mkdir()
    os.chdir(gone)
    Path("../gone").rmdir()


@pytest.mark.skipif(
    sys.version_info[:3] == (3, 13, 0), reason="CPython 3.13.0 looks no codec up where the folder is gone"
)
def test_a_working_directory_that_is_gone(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    run = ("run", job, "--endpoint", sandbox.url, *QUICK, "--json")
    with propsync.begin(*run, before=leave_for_nowhere) as running:
        finished = running.wait()
    assert finished.code == finished.summary["exit_code"] == 3
    assert len(sandbox.profiles) == 39


def test_a_file_in_a_working_directory_that_is_gone(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    run = ("run", job, "--endpoint", sandbox.url, *QUICK, "--json", "--report", "page.html")
    with propsync.begin(*run, before=leave_for_nowhere) as running:
        finished = running.wait()
    assert finished.code == finished.summary["exit_code"] == 2
    assert sandbox.stats.requests == 0


@pytest.fixture
def no_temporary_folder(tmp_path: Path) -> Iterator[None]:
    """No folder for temporary files, as where every disk but one is read-only."""
    import tempfile

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "nowhere")])
        yield


def test_without_a_temporary_folder_a_packed_parquet_names_tmpdir(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path, no_temporary_folder: None
) -> None:
    import gzip

    plain = exports.write_parquet(tmp_path / "users.parquet", 40, group_rows=40)
    (tmp_path / "users.parquet.gz").write_bytes(gzip.compress(plain.read_bytes()))
    run = ("run", job, "--endpoint", sandbox.url, *QUICK)
    finished = propsync(*run, "users.parquet.gz", "--json")
    assert finished.code == finished.summary["exit_code"] == 8
    assert "set TMPDIR" in finished.summary["hint"]
    assert propsync(*run, "users.parquet").code == 0
