"""Who is measured: the command of each contender, and how many rows it gets."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.children import BenchError, Ran, ran
from bench.environments import CACHE, python_of
from bench.sink import Counts, Sink

KEY = {"AMPLITUDE_API_KEY": "bench-key-0123456789"}
ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).with_name("peers")


@dataclass(frozen=True, slots=True)
class Sample:
    """One run. `seconds` is what the program itself counts, without its start; `wall` is all of it.

    `megabytes` is the peak of its largest process, `together` that of all its processes; see `Ran`.
    """

    rows: int
    wall: float
    seconds: float
    megabytes: float
    requests: int = 0
    bytes: int = 0
    together: float = 0.0


@dataclass(frozen=True, slots=True)
class Contender:
    """Something to be measured. `share` of the rows is what it gets: slow ones get fewer.

    `counts`: whether what it says of its rows is true.
    `command` gets the sink's address and a function that gives the file of the rows for an ending.
    """

    name: str
    command: Callable[[str, Callable[[str], Path]], list[str | Path]]
    share: float = 1.0
    batch: int | None = 1000
    kind: str = "parquet"
    counts: bool = True
    environment: dict[str, str] = field(default_factory=dict)


def propsync(
    url: str, path: Path, *options: str | Path, batch: int = 1000, rate: str = "max", job: str | None = None
) -> list[str | Path]:
    """`propsync run`, beginning anew, with a checkpoint on disk and its summary as JSON."""
    job_file = CACHE / f"{job or path.suffix[1:]}.yml"
    command: list[str | Path] = [sys.executable, "-m", "etl", "run", job_file, path, "--json", "--restart"]
    return [*command, "--endpoint", url, "--rate", rate, "--batch-size", str(batch), *options]


def stage(name: str) -> Contender:
    """A part of propsync, or the limit, without the network."""
    return Contender(
        name,
        lambda _, file: [sys.executable, "-m", "bench.stages", name, CACHE / "parquet.yml", file("parquet")],
        batch=None,
    )


def whole(kind: str, batch: int) -> Contender:
    """All of propsync."""
    return Contender(
        f"propsync-{kind.partition('.')[0]}-{batch}",
        lambda url, file: propsync(url, file(kind), batch=batch),
        batch=batch,
        kind=kind,
        environment=KEY,
    )


def peer(
    name: str, environment: str, script: str, share: float, *arguments: str, batch: int = 1000
) -> Contender:
    """Another program, in its own environment."""
    return Contender(
        name,
        lambda url, file: [python_of(environment), PEERS / script, url, file("parquet"), *arguments],
        share=share,
        batch=batch,
    )


def unsettled() -> Contender:
    """propsync without writing the checkpoint."""

    def command(url: str, file: Callable[[str], Path]) -> list[str | Path]:
        words = propsync(url, file("parquet"))
        return [words[0], "-m", "bench.stages", "unsettled", *words[3:]]

    return Contender("no-checkpoint", command, counts=False, environment=KEY)


def first_night() -> Contender:
    """propsync where everybody is new, and fingerprints by property are kept."""

    def command(url: str, file: Callable[[str], Path]) -> list[str | Path]:
        state = CACHE / "first-night"  # gone, or it would be the second
        shutil.rmtree(state, ignore_errors=True)
        return propsync(url, file("parquet"), "--state-dir", state, job="property")

    return Contender("first-night", command, environment=KEY)


STAGES = [stage(name) for name in ("bare", "read", "map", "produce")]
WHOLE = [whole("parquet", 1000), whole("parquet", 500), whole("csv", 1000), whole("world.parquet", 1000)]
OTHERS = [
    peer("drt", "drt", "drt_run.py", 0.1, "lifted"),
    peer("drt-as-it-comes", "drt", "drt_run.py", 0.01, "as-it-comes", batch=100),
    peer("sdk", "sdk", "sdk.py", 0.05),
    peer("script", "script", "script.py", 0.2),
]
SETTLING = [whole("parquet", 1000), unsettled(), first_night()]


def measure(contender: Contender, sink: Sink, rows: int, file: Callable[[str, int], Path]) -> Sample:
    """Run a contender once. Raises BenchError if the sink didn't get the requests that these rows make."""
    count = max(1000, int(rows * contender.share))
    before = sink.count()
    took = ran(
        contender.command(sink.url, lambda kind: file(kind, count)),
        folder=ROOT,
        environment=contender.environment,
    )
    came = sink.count() - before
    _check(contender, count, came, took)
    seconds = took.told.get("seconds", took.wall) if contender.counts else took.wall
    return Sample(count, took.wall, seconds, took.megabytes, came.requests, came.bytes, took.together)


def _check(contender: Contender, rows: int, came: Counts, took: Ran) -> None:
    wanted = -(-rows // contender.batch) if contender.batch else 0
    # The SDK sends what it has when its worker wakes up, so some of its batches are smaller.
    if came.fine != came.requests or not wanted <= came.requests <= wanted * 2 + 16:
        raise BenchError(f"{contender.name} sent {came} for {rows:,} rows; {wanted:,} requests were expected")
    for name in ("rows", "accepted"):
        if contender.counts and took.told.get(name, rows) != rows:
            raise BenchError(f"{contender.name} says {dict(took.told)}, not {rows:,} rows")
