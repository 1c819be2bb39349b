"""Nights of a job: exports, runs that may be killed, and what arrives of them at a sandbox."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from etl import Job
from etl.checkpoint import Checkpoint
from etl.pipeline import run as run_module
from etl.pipeline.run import no_listener, run_job
from etl.pipeline.settings import Settings
from etl.reader import open_source
from etl.run_events import Event, Listener, Progressed, Summary
from etl.sandbox import Sandbox
from etl.snapshot import SnapshotWriter
from tests.pipeline.making import KEY, QUICK, law_holds

Row = dict[str, Any]
IDENTIFICATION = {
    "user_id": "id",
    "user_properties": {"plan": "plan", "score": {"column": "score", "type": "number"}},
}


def job_in(folder: Path, identification: object = None, **others: object) -> Job:
    """A job in a folder of its own, which it makes."""
    folder.mkdir(exist_ok=True)
    data = {"name": "job", "source": "users.ndjson", "identification": identification or IDENTIFICATION}
    return Job.of(data | others, folder=folder)


def users(numbers: Sequence[int], **values: object) -> list[Row]:
    """A row for each number."""
    return [{"id": f"user-{n:05}", "plan": f"plan {n % 3}", "score": n, **values} for n in numbers]


def write(path: Path, rows: Sequence[Row]) -> Path:
    """Rows as NDJSON, or as CSV where the path says so."""
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else ["id"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def night(job: Job, sandbox: Sandbox, rows: Sequence[Row], **settings: Any) -> Summary:
    """Write the export and run the job on it."""
    return send(job, sandbox, [write(job.folder / "users.ndjson", rows)], **settings)


def send(
    job: Job, sandbox: Sandbox, paths: Sequence[Path], *, listener: Listener = no_listener, **settings: Any
) -> Summary:
    """Run the job on files."""
    usual: dict[str, Any] = {"endpoint": sandbox.url, "rate": None, "requests_per_second": None}
    usual |= {"backoff": QUICK, "batch_size": 50, "progress_every": 0.0}
    source = open_source([str(path) for path in paths], csv=job.csv)
    summary = run_job(job, source, KEY, settings=Settings(**(usual | settings)), listener=listener)
    assert law_holds(summary)
    return summary


def held(sandbox: Sandbox) -> dict[str, Row]:
    """All that a sandbox knows of each user, by id: properties, fields and groups."""
    return {
        user: {**profile.properties, **profile.fields, **profile.groups}
        for user, profile in sorted(sandbox.profiles.users.items())
    }


def arrived(sandbox: Sandbox) -> dict[str, Row]:
    """The same, of what came since the last call: the sandbox forgets it."""
    found = held(sandbox)
    sandbox.reset()
    return found


# --- deaths ----------------------------------------------------------------------------------------------


class KilledError(Exception):
    """Stands for the end of the process."""


POINTS = ("committing", "committed", "told", "publishing", "renewing", "renewed", "finishing")


@contextmanager
def killed(point: str, number: int = 1) -> Iterator[Listener]:
    """Raise KilledError at a point of a run, when it comes there for the `number`th time.

    Gives the listener that the run is to have.
    """
    with ExitStack() as stack:
        die = _Death(number)

        def listener(event: Event) -> None:
            if point == "told" and isinstance(event, Progressed):
                die()

        for name, owner, attribute in (
            ("committ", Checkpoint, "commit"),
            ("publish", run_module, "publish_rejects"),
            ("renew", SnapshotWriter, "finish"),
            ("finish", Checkpoint, "finish"),
        ):
            if point.startswith(name):
                whole = getattr(owner, attribute)
                dying = _after(whole, die) if point.endswith("ed") else _before(whole, die)
                stack.enter_context(patch.object(owner, attribute, dying))
        yield listener


class _Death:
    def __init__(self, number: int) -> None:
        self._left = number

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise KilledError


def _before(whole: Callable[..., Any], die: Callable[[], None]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        die()
        return whole(*arguments, **named)

    return call


def _after(whole: Callable[..., Any], die: Callable[[], None]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        found = whole(*arguments, **named)
        die()
        return found

    return call


def quiet(sandbox: Sandbox) -> None:
    """Wait until what a killed run had on its way has been dealt with."""
    before, calm = -1, 0
    while calm < 5:  # on a busy machine its thread may be late
        calm = calm + 1 if before == sandbox.stats.requests else 0
        before = sandbox.stats.requests
        time.sleep(0.003)
