"""The second night: what a snapshot costs in time, memory and room, for more and more users."""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.children import BenchError, Ran, ran
from bench.contenders import KEY, ROOT, USERS, job_of
from bench.results import CACHE
from bench.sink import recording

MODES = ("user", "property")
# Which users, how many millions of them, and how many rounds: an odd number of them ends with the change.
STEPS = (("plain", 1, 3), ("names", 2, 3), ("plain", 20, 1))
LONGEST = 900.0


@dataclass(slots=True)
class _Job:
    """A job with a state folder and a recorder of its own, both empty at first."""

    users: str
    mode: str
    url: str = ""
    same: list[Ran] = field(default_factory=list)
    changed: list[Ran] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return CACHE / "nights" / self.users / self.mode

    @property
    def record(self) -> Path:
        return CACHE / "nights" / f"{self.mode}.ndjson"

    def propsync(self, command: str, file: Path, *options: str) -> Ran:
        words: list[str | Path] = [sys.executable, "-m", "etl", command, job_of(file, self.mode), file]
        words += ["--json", "--endpoint", self.url, "--state-dir", self.state, *options]
        return ran(words, folder=ROOT, environment=KEY, longest=LONGEST)

    def night(self, file: Path) -> Ran:
        return self.propsync("run", file, "--rate", "max", "--batch-size", "1000")


def nights(million: int, file_of: Callable[[str, int], Path]) -> Iterator[dict[str, Any]]:
    """Measure both modes at each step; `million` is what counts as one, so that it can be tried in small.

    Times are in seconds; memory is of all processes, in MB. `first` is writing the snapshot from nothing,
    with reading and mapping; `same` a night on which nothing changed, `share` its rate as a share of that of
    reading, mapping and encoding alone, `share_whole` the same with the start and the end of both, and
    `share_columns` its rate as a share of reading the columns on one thread; `changed` a night with one in
    50 changed, the middle of as many as there are rounds; `renewal` the writing of its snapshot alone,
    `renewal_first` that of a snapshot in which all are new. `largest_same` and `largest_changed` are peaks of
    one process.
    Raises BenchError where anything else arrived than what changed.
    """
    for users, step, rounds in STEPS:
        count, before = step * million, USERS[users]
        file, changed = file_of(f"{before}parquet", count), file_of(f"{before}changed.parquet", count)
        yield from _nights(users, count, rounds, file, changed)
        if step > 1:
            file.unlink()
            changed.unlink()


def _nights(users: str, count: int, rounds: int, file: Path, changed: Path) -> list[dict[str, Any]]:
    jobs = [_Job(users, mode) for mode in MODES]
    produced: list[Ran] = []
    columns: list[Ran] = []
    shutil.rmtree(CACHE / "nights", ignore_errors=True)
    (CACHE / "nights").mkdir(parents=True)
    with ExitStack() as servers:
        for job in jobs:
            job.url = servers.enter_context(recording(job.record))
        first = [job.propsync("baseline", file) for job in jobs]
        for number in range(rounds):
            today, tomorrow = (changed, file) if number % 2 else (file, changed)  # there and back
            for job in jobs:
                job.same.append(job.night(today))
            produced.append(_child("bench.stages", "produce", job_of(today), today))
            columns.append(_child("bench.stages", "columns", job_of(today), today))
            for job in jobs:
                job.changed.append(job.night(tomorrow))
        size = [(job.state / "snapshot.arrow").stat().st_size for job in jobs]
        renewal = [_child("bench.stages", "renewals", job.state / "snapshot.arrow") for job in jobs]
    arrived = [_arrived(job, changed) for job in jobs]
    shutil.rmtree(CACHE / "nights")
    return [
        {
            "data": users,
            "mode": job.mode,
            "users": count,
            "arrived": arrived[i],
            "first": first[i].wall,
            "same": statistics.median(one.told["seconds"] for one in job.same),
            "share": share_of(job.same, produced, lambda one: one.told["seconds"]),
            "share_whole": share_of(job.same, produced, lambda one: one.wall),
            "share_columns": share_of(job.same, columns, lambda one: one.told["seconds"]),
            "changed": statistics.median(one.told["seconds"] for one in job.changed),
            "renewal": renewal[i].told["some"],
            "renewal_first": renewal[i].told["everybody"],
            "bytes": size[i],
            "megabytes_first": first[i].together,
            "megabytes_same": max(one.together for one in job.same),
            "megabytes_changed": max(one.together for one in job.changed),
            "largest_same": max(one.megabytes for one in job.same),
            "largest_changed": max(one.megabytes for one in job.changed),
        }
        for i, job in enumerate(jobs)
    ]


def _child(module: str, *arguments: str | Path) -> Ran:
    return ran([sys.executable, "-m", module, *arguments], folder=ROOT, longest=LONGEST)


def share_of(same: list[Ran], others: list[Ran], seconds: Callable[[Ran], float]) -> float:
    """The middle of how fast a night was beside its neighbour of the same round."""
    pairs = zip(same, others, strict=True)
    return statistics.median(seconds(other) / seconds(own) for own, other in pairs)


def _arrived(job: _Job, changed: Path) -> int:
    """How many users arrived a night: those who changed, once, with what changed, and no others."""
    found = _child("bench.recorder", job.record, changed, job.mode).told
    if any(one.told["accepted"] for one in job.same):
        raise BenchError(f"by {job.mode}, something was sent though nothing had changed")
    each = {*(night.told["accepted"] for night in job.changed), found["arrived"] / len(job.changed)}
    if each != {found["changed"]} or found["wrong"]:
        raise BenchError(f"by {job.mode}, what arrived isn't what changed: {dict(found)}")
    return int(found["changed"])
