"""A machine gun: runs a job in processes that are killed at random instants, until it ends."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etl import Job
from etl.run_events import Summary
from etl.sandbox import Sandbox
from tests.forking import forks
from tests.pipeline.making import run_once, sent_bodies

BATCH = 500
LANES = 4
_REPOSITORY = Path(__file__).parents[2]


@dataclass
class Toll:
    """What the kills did. `violations` has a sentence for each breach of a law."""

    kills: int = 0
    sent_again: int = 0
    most_sent_again: int = 0
    violations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Url:
    """All that a run needs to know of a sandbox in another process."""

    url: str


def shoot(
    folder: Path,
    sandbox: Sandbox,
    source: Path,
    *,
    kills: int,
    seed: int,
    rate: float,
    in_checkpoint: bool = False,
    job: Job | None = None,
    faulty: bool = False,
) -> tuple[Summary, Toll]:
    """Kill the job `kills` times, then let it end; the summary is that of the last process.

    `faulty`: the sandbox makes clients try again, so that a body is counted once a process.
    """
    chance, toll = random.Random(seed), Toll()
    while toll.kills < kills:
        before = sent_bodies(sandbox)
        statement = chance.randrange(1, 60) if in_checkpoint else None
        wait = None if in_checkpoint else chance.uniform(0.02, 2.2 * BATCH * LANES / rate)
        if not run_and_kill((folder, sandbox.url, source, rate, statement, job), wait):
            break
        toll.kills += 1
        _look(toll, sandbox, before, folder, faulty=faulty)
    last = run_once(folder, sandbox, source, rate=None, batch_size=BATCH, concurrency=LANES, job=job)
    return last, toll


def run_and_kill(arguments: tuple[object, ...], wait: float | None) -> bool:
    """Whether the run was killed before its end."""
    process = forks().Process(target=_run, args=arguments)
    process.start()
    process.join(wait)
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode == -signal.SIGKILL


def die_in_call(folder: Path, url: str, source: Path, call: str, number: int) -> bool:
    """Let a process die as it makes its `number`th system call of a kind; whether it came to that."""
    program = (
        "from pathlib import Path\n"
        "from tests.soak.gun import _run\n"
        f"_run(Path({str(folder)!r}), {url!r}, Path({str(source)!r}), 40_000, None)\n"
    )
    inject = f"inject={call}:signal=KILL:when={number}"
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
    done = subprocess.run([*trace, sys.executable, "-c", program], cwd=_REPOSITORY, check=False)
    return done.returncode in {-signal.SIGKILL, 128 + signal.SIGKILL}


def _run(
    folder: Path, url: str, source: Path, rate: float, statement: int | None, job: Job | None = None
) -> None:
    if statement is not None:
        _die_at_statement(statement)
    where: Any = _Url(url)
    run_once(folder, where, source, rate=rate, batch_size=BATCH, concurrency=LANES, job=job)


def _die_at_statement(number: int) -> None:
    """Die as the `number`th statement to the checkpoint is about to be carried out."""
    left, connect = [number], sqlite3.connect

    def count(_: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def connecting(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(count)
        return connection

    connecting_anywhere: Callable[..., sqlite3.Connection] = connecting
    sqlite3.connect = connecting_anywhere  # type: ignore[assignment]


def _look(toll: Toll, sandbox: Sandbox, before: Counter[str], folder: Path, *, faulty: bool) -> None:
    time.sleep(0.05)  # the dead process' last requests are still being answered
    again = sent_bodies(sandbox) - before
    repeated = sum(1 if faulty else count for body, count in again.items() if body in before)
    toll.sent_again += repeated * BATCH
    toll.most_sent_again = max(toll.most_sent_again, repeated * BATCH)
    if repeated > LANES:
        toll.violations.append(f"{repeated} requests were sent again after one kill")
    rejects = folder / ".propsync" / "job" / "rejects.ndjson"
    if rejects.exists():
        places = [json.loads(line)["row"] for line in rejects.read_text().splitlines()]
        if len(places) != len(set(places)):
            toll.violations.append("a reject stands twice in rejects.ndjson")
