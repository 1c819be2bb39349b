"""Rejects that are sent again from a copy: those of the night that were not among them stay findable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from etl import Job
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.examples import combinations
from tests.pipeline.nights import KilledError, Row, job_in, killed, night, send, users, write


def lines(job: Job) -> list[Row]:
    return [json.loads(line) for line in (job.state_dir / "rejects.ndjson").read_text().splitlines()]


def places(job: Job) -> list[tuple[str, int, int]]:
    return [(Path(line["source"]).name, line["row"], line["run"]) for line in lines(job)]


def bad_night(job: Job, sandbox: Sandbox) -> None:
    """Four rejects: rows 2, 4, 6 and 8."""
    rows = users(range(10))
    for number in (1, 3, 5, 7):
        rows[number]["score"] = "much"
    night(job, sandbox, rows)


def copied(job: Job, name: str, rows: dict[int, object]) -> Path:
    """A copy of the rejects of some rows, with scores."""
    found = [line for line in lines(job) if line["row"] in rows]
    for line in found:
        line["values"]["score"] = rows[line["row"]]
    return write(job.folder / name, found)


def test_the_others_stay_and_new_ones_are_added(tmp_path: Path) -> None:
    with running_sandbox(SandboxOptions()) as sandbox:
        job = job_in(tmp_path)
        bad_night(job, sandbox)
        first, second = copied(job, "one.ndjson", {2: 7, 4: "more"}), copied(job, "two.ndjson", {8: 3})
        send(job, sandbox, [first])
        assert places(job) == [("users.ndjson", 6, 1), ("users.ndjson", 8, 1), ("one.ndjson", 2, 2)]
        send(job, sandbox, [second])
        assert places(job) == [("users.ndjson", 6, 1), ("one.ndjson", 2, 2)]
        # Sent themselves they are all that there are.
        send(job, sandbox, [job.state_dir / "rejects.ndjson"])
        assert places(job) == [("rejects.ndjson", 1, 4), ("rejects.ndjson", 2, 4)]
        # And the next export has its own.
        night(job, sandbox, users(range(10)))
        assert places(job) == []


@pytest.mark.parametrize(
    ("point", "same"),
    combinations(
        ["committed", "publishing", "renewing", "renewed", "finishing"],
        [True, False],
        also=[("committed", False), ("finishing", False)],
    ),
)
def test_it_is_so_wherever_the_run_is_killed(point: str, same: bool, tmp_path: Path) -> None:
    with running_sandbox(SandboxOptions()) as sandbox:
        job = job_in(tmp_path)
        bad_night(job, sandbox)
        copy = copied(job, "one.ndjson", {2: 7, 4: "more"})
        with killed(point) as listener, pytest.raises(KilledError):
            send(job, sandbox, [copy], listener=listener)
        if same:
            send(job, sandbox, [copy])
            assert places(job) == [("users.ndjson", 6, 1), ("users.ndjson", 8, 1), ("one.ndjson", 2, 2)]
        else:  # what the killed run sent is unknown now: what it left out stays all the same
            copy.unlink()
            send(
                job,
                sandbox,
                [write(tmp_path / "two.ndjson", [line for line in lines(job) if line["row"] == 8])],
            )
            assert {("users.ndjson", 6, 1)} <= set(places(job))


def test_lines_that_are_none_are_left_out(tmp_path: Path) -> None:
    with running_sandbox(SandboxOptions()) as sandbox:
        job = job_in(tmp_path)
        bad_night(job, sandbox)
        copy = copied(job, "one.ndjson", {2: 7})
        path = job.state_dir / "rejects.ndjson"
        path.write_text(path.read_text().rstrip("\n") + "\n\nnot one")
        send(job, sandbox, [copy])
        assert [row for _, row, _ in places(job)] == [4, 6, 8]
