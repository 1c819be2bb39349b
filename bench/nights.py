"""The second night: what a snapshot costs in time, memory and room, for more and more users.

    python -m bench.nights SNAPSHOT

writes that snapshot anew with every 50th user changed, and says how long it took.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.children import BenchError, Ran, ran
from bench.contenders import KEY, ROOT
from bench.environments import CACHE
from bench.sink import Sink

MODES = ("user", "property")
STEPS = (1, 10, 20)
EVERY = 50  # of so many users one changes
LONGEST = 900.0


@dataclass(frozen=True, slots=True)
class Night:
    """So many users, compared as `mode` says. Times are in seconds, memory in MB.

    `first` is writing the snapshot of them from nothing, reading and mapping included; `same` a night on
    which nothing changed, `produce` reading, mapping and encoding them and nothing else, in turns with it;
    `changed` a night with one in 50 changed; `renewal` the writing of its snapshot alone.
    """

    mode: str
    users: int
    first: float
    same: float
    produce: float
    changed: float
    renewal: float
    bytes: int
    megabytes_same: float
    megabytes_changed: float


def nights(to: Sink, million: int, file_of: Callable[[str, int], Path]) -> Iterator[Night]:
    """Measure each mode at each step; `million` is what counts as one, so that it can be tried in small."""
    for step in STEPS:
        users = step * million
        files = file_of("parquet", users), file_of("changed.parquet", users)
        for mode in MODES:
            yield _night(mode, users, to, *files)
        if step > 1:
            for file in files:
                file.unlink()


def _night(mode: str, users: int, to: Sink, file: Path, changed: Path) -> Night:
    state = CACHE / "nights" / mode
    shutil.rmtree(state, ignore_errors=True)
    job = CACHE / f"{mode}.yml"
    snapshot = state / "snapshot.arrow"
    first = _propsync("baseline", job, file, state, to.url)
    same, produce = [], []
    for _ in range(3 if users <= 1_000_000 else 1):
        same.append(_run(job, file, state, to.url, sent=0))
        produce.append(_stage(file))
    size = snapshot.stat().st_size
    renewal = ran([sys.executable, "-m", "bench.nights", snapshot], folder=ROOT, longest=LONGEST)
    other = _run(job, changed, state, to.url, sent=users // EVERY)
    shutil.rmtree(state)
    middle = sorted(same, key=lambda one: one.told["seconds"])[len(same) // 2]
    return Night(
        mode=mode,
        users=users,
        first=first.wall,
        same=middle.told["seconds"],
        produce=sorted(one.told["seconds"] for one in produce)[len(produce) // 2],
        changed=other.told["seconds"],
        renewal=renewal.told["seconds"],
        bytes=size,
        megabytes_same=middle.together,
        megabytes_changed=other.together,
    )


def _stage(file: Path) -> Ran:
    command: list[str | Path] = [sys.executable, "-m", "bench.stages", "produce", CACHE / "parquet.yml", file]
    return ran(command, folder=ROOT, longest=LONGEST)


def _run(job: Path, file: Path, state: Path, url: str, *, sent: int) -> Ran:
    """A night; raises BenchError unless exactly so many users were sent."""
    found = _propsync("run", job, file, state, url, "--rate", "max", "--batch-size", "1000")
    if found.told["accepted"] != sent or found.told["unchanged"] != found.told["rows"] - sent:
        raise BenchError(f"{sent:,} users should have been sent, and {found.told['accepted']:,} were")
    return found


def _propsync(command: str, job: Path, file: Path, state: Path, url: str, *options: str) -> Ran:
    words: list[str | Path] = [sys.executable, "-m", "etl", command, job, file, "--json", "--endpoint", url]
    return ran([*words, "--state-dir", state, *options], folder=ROOT, environment=KEY, longest=LONGEST)


def renew(path: Path) -> float:
    """Seconds to write a snapshot anew with every 50th user changed."""
    import numpy as np

    from etl.changes import Renewal, Snapshot, layout_of
    from etl.job import load_job

    with Snapshot.open(path) or sys.exit("no snapshot") as old:
        job = load_job(CACHE / f"{old.mode}.yml", environ={})
        layout = layout_of(job.identification, job.changes) or sys.exit("nothing is compared")
        copy = path.with_name("copy.arrow")
        start = time.perf_counter()
        with Renewal(copy, layout, old.stamp, old=old) as renewal:
            for _, keys in old.sorted_keys():
                some = np.ascontiguousarray(keys[::EVERY]).reshape(-1, 1)
                renewal.add(some, np.ones((len(some), len(layout.names)), dtype=layout.dtype))
            renewal.finish()
        seconds = time.perf_counter() - start
    copy.unlink()
    return seconds


if __name__ == "__main__":
    print(json.dumps({"seconds": renew(Path(sys.argv[1]))}))
