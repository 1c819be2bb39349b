"""Exit code 1 is a fault of ours, told with a trace; how the shell ends us is none."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.commands import KEY, Propsync, until


def break_down(*_: object, **__: object) -> None:
    raise RuntimeError(f"broken with api_key={KEY}")


def test_1_with_a_trace_without_the_key(
    propsync: Propsync, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.pipeline.run.run_job", break_down)
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
    monkeypatch.setattr("etl.pipeline.run.run_job", break_down)
    finished = propsync("run", job)
    assert finished.code == 1
    assert "broken with api_key=***" in finished.err


def test_1_in_a_json_line_where_these_are_wanted(
    propsync: Propsync, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.pipeline.run.run_job", break_down)
    finished = propsync("run", job, "--log-format", "json")
    assert finished.code == 1
    assert len(finished.err.splitlines()) == 1


def test_a_reader_who_leaves_is_no_fault(propsync: Propsync, job: Path) -> None:
    """As in `propsync preview job.yml -n 1000 | head -1`."""
    with propsync.begin("preview", job, "-n", "1000") as running:
        assert running.process.stdout is not None
        running.process.stdout.close()
        running.process.stdout = None
        finished = running.wait()
    assert finished.code == 0
    assert not finished.err


def can_be_written(pipe: Path, writers: list[int]) -> bool:
    """Open the pipe to write to it, which works as soon as somebody reads from it."""
    try:
        writers.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def test_130_before_the_journey_began(propsync: Propsync, job: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with propsync.begin("check", job, "pipe.csv") as running:
        writers: list[int] = []
        until(lambda: can_be_written(tmp_path / "pipe.csv", writers))
        running.send(signal.SIGINT)
        finished = running.wait()
        os.close(writers[0])
    assert finished.code == 130
    assert finished.err.strip() == "propsync: interrupted"
