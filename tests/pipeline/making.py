"""Sources with repeats and faults, jobs for them, and what a sandbox holds afterwards."""

from __future__ import annotations

import csv
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from etl import Job
from etl.pipeline.run import no_listener, run_job
from etl.pipeline.settings import Settings
from etl.reader import open_source
from etl.run_events import Listener, Summary
from etl.sandbox import Sandbox
from etl.sender import Backoff

KEY = "0123456789abcdef-secret"
QUICK = Backoff(retry=0.01, throttle=0.02, longest=0.1)
IDENTIFICATION = {
    "user_id": "id",
    "platform": "platform",
    "os_name": "os",
    "user_properties": {
        "$set": {"plan": "plan", "score": {"column": "score", "type": "integer"}},
        "$setOnce": {"first_plan": "plan"},
        "$postInsert": {"seen": "plan"},
    },
}

COUNTING = {
    "user_id": "id",
    "user_properties": {
        "$set": {"plan": "plan"},
        "$add": {"points": {"column": "score", "type": "integer"}},
        "$append": {"scores": {"column": "score", "type": "list"}},
        "$prepend": {"plans": {"column": "plan", "type": "list"}},
    },
}


def job_in(folder: Path, name: str = "job") -> Job:
    data = {
        "name": name,
        "source": "users.csv",
        "identification": IDENTIFICATION,
        "partial_families": "reset",
    }
    return Job.of(data, folder=folder)


def counting_job_in(folder: Path, transport: str = "batch", **identification: object) -> Job:
    """A job whose every row counts: sent twice it leaves another profile, unless the server knows it."""
    data = {
        "name": "job",
        "source": "users.csv",
        "identification": COUNTING | identification,
        "destination": {"transport": transport},
    }
    return Job.of(data, folder=folder)


def rows_of(count: int, *, users: int, seed: int = 0, bad: int = 0) -> list[dict[str, str]]:
    """Rows in which users come again, near and far; every `bad`th has a wrong id or value."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        user = chance.randrange(users) if number % 3 else number % users
        row = {
            "id": f"user-{user:06d}",
            "platform": chance.choice(["", "ios", "web"]),
            "os": chance.choice(["", "iOS", "Linux"]),
            "plan": chance.choice(["", "free", "pro", "größer"]),
            "score": str(number),
        }
        if bad and number % bad == bad - 1:
            row |= {"id": "x"} if number % 2 else {"score": "many"}
        rows.append(row)
    return rows


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: list[dict[str, str]], *, row_group: int) -> None:
    table = pa.Table.from_pylist([{k: v or None for k, v in row.items()} for row in rows])
    pq.write_table(table, path, row_group_size=row_group)


def run_once(
    folder: Path,
    sandbox: Sandbox,
    source: Path,
    *,
    listener: Listener = no_listener,
    job: Job | None = None,
    **settings: Any,
) -> Summary:
    defaults: dict[str, Any] = {"rate": None, "requests_per_second": None, "backoff": QUICK, "batch_size": 50}
    defaults["progress_every"] = 0.0
    chosen = Settings(endpoint=sandbox.url, **(defaults | settings))
    job = job or job_in(folder)
    return run_job(job, open_source([source], csv=job.csv), KEY, settings=chosen, listener=listener)


def sent_bodies(sandbox: Sandbox) -> Counter[str]:
    """How often each request body came, by its digest."""
    return Counter(entry.sha256 for entry in sandbox.requests)


def law_holds(summary: Summary) -> bool:
    tally = summary.tally
    return tally.rows == tally.accepted + tally.unchanged + tally.merged + tally.rejected


class PatientTime:
    """Seconds, of which a stretch nobody looked at counts no more than `most`: the longest wait.

    So a short outage never is one in which a busy machine gave nobody the time to answer.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._now, self._last = 0.0, time.monotonic()

    def __call__(self) -> float:
        last, self._last = self._last, time.monotonic()
        self._now += min(self._last - last, self._most)
        return self._now
