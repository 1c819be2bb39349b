"""`run JOB .propsync/JOB/rejects.ndjson`, killed near its end: the same command resumes it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from etl import Job, run
from etl.checkpoint import Checkpoint
from etl.pipeline import run as run_module
from etl.run_events import Summary
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.forking import forks

DOCUMENT = {
    "name": "t",
    "identification": {"user_id": "id", "user_properties": {"$set": {"plan": "plan"}, "$add": {"n": "n"}}},
}


def die(folder: Path, endpoint: str, point: str) -> None:
    """Run the job on its own rejects; the process ends before or after a step."""
    where, name = {
        "complete": (Checkpoint, "complete"),
        "publish": (run_module, "publish_rejects"),
        "finish": (Checkpoint, "finish"),
    }[point.split()[1]]
    step = getattr(where, name)

    def killed(*arguments: Any, **named: Any) -> None:
        if point.startswith("after"):
            step(*arguments, **named)
        os._exit(9)

    setattr(where, name, killed)
    run_on_rejects(folder, endpoint)


def ended_at(folder: Path, sandbox: Sandbox, point: str) -> int | None:
    process = forks().Process(target=die, args=(folder, sandbox.url, point))
    process.start()
    process.join(60)
    return process.exitcode


def run_on_rejects(folder: Path, endpoint: str) -> Summary:
    job = Job.of(DOCUMENT, folder=folder)
    source = str(job.state_dir / "rejects.ndjson")
    return run(job, source, key="k" * 10, endpoint=endpoint, rate=None, processes=1)


def rejected(folder: Path, sandbox: Sandbox, still_bad: str) -> Path:
    """A night with two rejects, of which the first was corrected in place."""
    (folder / "users.csv").write_text("id,plan,n\nuser-1,a,1\nx,b,10\ny,c,100\n")
    run(
        Job.of(DOCUMENT, folder=folder),
        str(folder / "users.csv"),
        key="k" * 10,
        endpoint=sandbox.url,
        rate=None,
        processes=1,
    )
    path = folder / ".propsync/t/rejects.ndjson"
    text = path.read_text().replace('"id":"x"', '"id":"user-2"')
    path.write_text(text.replace('"id":"y"', f'"id":"{still_bad}"'))
    return path


@pytest.mark.parametrize(
    ("point", "still_bad"),
    [
        *((point, "y") for point in ("before complete", "after publish", "before finish")),
        pytest.param("after complete", "y", marks=pytest.mark.soak),
        ("after publish", "user-3"),
        ("after finish", "y"),
    ],
)
def test_the_same_command_ends_it_as_if_undisturbed(point: str, still_bad: str, tmp_path: Path) -> None:
    with running_sandbox(SandboxOptions()) as sandbox:
        path = rejected(tmp_path, sandbox, still_bad)
        assert ended_at(tmp_path, sandbox, point) == 9
        if point != "after finish":  # then there is a new run, with what is left
            summary = run_on_rejects(tmp_path, sandbox.url)
            assert (summary.status, summary.tally.accepted) == ("finished", 2 - (still_bad == "y"))
            assert summary.tally.rejected == (still_bad == "y")
        left = [json.loads(line) for line in path.read_text().splitlines()]
        assert [(one["values"]["id"], one["run"]) for one in left] == [("y", 2)] * (still_bad == "y")
        counts = {user: found.properties["n"] for user, found in sandbox.profiles.users.items()}
        assert counts == {"user-1": 1, "user-2": 10, **({} if still_bad == "y" else {"user-3": 100})}
        kept = {"rejects-sent.ndjson"} if point == "after finish" else set()
        assert {found.name for found in path.parent.glob("rejects-*")} == kept


def test_rejects_that_were_corrected_after_the_kill_are_sent(tmp_path: Path) -> None:
    with running_sandbox(SandboxOptions()) as sandbox:
        path = rejected(tmp_path, sandbox, "y")
        assert ended_at(tmp_path, sandbox, "after publish") == 9
        path.write_text(path.read_text().replace('"id":"y"', '"id":"user-3"'))
        assert run_on_rejects(tmp_path, sandbox.url).tally.accepted == 1
        counts = {user: found.properties["n"] for user, found in sandbox.profiles.users.items()}
        assert counts == {"user-1": 1, "user-2": 10, "user-3": 100}
