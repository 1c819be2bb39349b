"""Who is measured: the command of each contender, and how many rows it gets."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.children import BenchError, Ran, ran
from bench.results import CACHE
from bench.sink import Counts, Sink

KEY = {"AMPLITUDE_API_KEY": "bench-key-0123456789"}
ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).with_name("peers")
# What each peer needs in its own virtual environment.
NEEDS = {
    "drt": ("drt-core==1.2.1", "duckdb==1.4.*"),
    "sdk": ("amplitude-analytics==1.3.0", "pyarrow"),
    "script": ("pandas", "pyarrow", "aiohttp"),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One run. `seconds` is what the program itself counts, without its start; `wall` is all of it.

    `processor` is the processor seconds of all its processes, `megabytes` the peak of the largest of them,
    `together` that of all; see `Ran`.
    """

    rows: int
    wall: float
    seconds: float
    processor: float
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
    counts: bool = True
    environment: dict[str, str] = field(default_factory=dict)


def propsync(
    url: str, path: Path, *options: str | Path, batch: int = 1000, rate: str = "max", changes: str = "off"
) -> list[str | Path]:
    """`propsync run`, beginning anew, with a checkpoint on disk and its summary as JSON."""
    command: list[str | Path] = [sys.executable, "-m", "etl", "run", job_of(path, changes), path]
    command += ["--json", "--restart", "--endpoint", url]
    return [*command, "--rate", rate, "--batch-size", str(batch), *options]


def job_of(path: Path, changes: str = "off") -> Path:
    """The job file for an export."""
    users = "plain" if len(path.suffixes) == 1 or path.suffixes[0] == ".changed" else "names"
    return CACHE / f"{users}-{path.suffix[1:]}-{changes}.yml"


def stage(name: str, users: str) -> Contender:
    """A part of propsync, or the limit, without the network."""

    def command(_: str, file: Callable[[str], Path]) -> list[str | Path]:
        path = file(USERS[users] + "parquet")
        return [sys.executable, "-m", "bench.stages", name, job_of(path), path]

    return Contender(f"{users}-{name}", command, batch=None)


def whole(kind: str, users: str = "plain", batch: int = 1000) -> Contender:
    """All of propsync."""
    name = f"{users}-{kind}" if batch == 1000 else f"{users}-{kind}-{batch}"
    return Contender(
        name,
        lambda url, file: propsync(url, file(USERS[users] + kind), batch=batch),
        batch=batch,
        environment=KEY,
    )


def peer(name: str, script: str, share: float, users: str) -> Contender:
    """Another program, in its own environment."""
    return Contender(
        f"{users}-{name}",
        lambda url, file: [python_of(name), PEERS / script, url, file(USERS[users] + "parquet")],
        share=share,
    )


def uncommitted() -> Contender:
    """propsync without writing the checkpoint."""

    def command(url: str, file: Callable[[str], Path]) -> list[str | Path]:
        words = propsync(url, file("parquet"))
        return [words[0], "-m", "bench.stages", "uncommitted", *words[3:]]

    return Contender("plain-no-checkpoint", command, counts=False, environment=KEY)


def first_night(users: str, changes: str) -> Contender:
    """propsync where everybody is new, with or without fingerprints to compare the next night with."""

    def command(url: str, file: Callable[[str], Path]) -> list[str | Path]:
        state = CACHE / "first-night"  # gone, or it would be the second
        shutil.rmtree(state, ignore_errors=True)
        return propsync(url, file(USERS[users] + "parquet"), "--state-dir", state, changes=changes)

    return Contender(f"{users}-first-{changes}", command, environment=KEY)


# The users, and what stands before the ending of their files: `latin` are the names in ASCII.
USERS = {"plain": "", "names": "names.", "latin": "latin."}
BOTH = ("plain", "names")
STAGES = [stage(name, users) for users in BOTH for name in ("columns", "bare", "read", "map", "produce")]
WHOLE = [
    *[whole("parquet"), whole("csv"), whole("parquet", "names"), whole("csv", "names")],
    *[whole("parquet", batch=500), whole("parquet", "latin")],
]
OTHERS = [
    peer(name, script, share, users)
    for users in BOTH
    for name, script, share in (
        ("drt", "drt_run.py", 0.1),
        ("sdk", "sdk.py", 0.05),
        ("script", "script.py", 0.2),
    )
]
CHECKPOINT = [whole("parquet"), uncommitted()]
FIRST_NIGHTS = [first_night(users, changes) for users in BOTH for changes in ("off", "user", "property")]


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
    return Sample(
        count,
        took.wall,
        seconds,
        took.processor,
        took.megabytes,
        came.requests,
        came.bytes,
        took.together,
    )


def _check(contender: Contender, rows: int, came: Counts, took: Ran) -> None:
    wanted = -(-rows // contender.batch) if contender.batch else 0
    # The SDK sends what it has when its worker wakes up, so some of its batches are smaller.
    if came.fine != came.requests or not wanted <= came.requests <= wanted * 2 + 16:
        raise BenchError(f"{contender.name} sent {came} for {rows:,} rows; {wanted:,} requests were expected")
    for name in ("rows", "accepted"):
        if contender.counts and took.told.get(name, rows) != rows:
            raise BenchError(f"{contender.name} says {dict(took.told)}, not {rows:,} rows")


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made if there is none yet."""
    folder = CACHE / "venvs" / peer
    stamp, python = folder / ".needs", folder / "bin" / "python"
    needs = "\n".join(NEEDS[peer])
    if not stamp.exists() or stamp.read_text() != needs:
        print(f"setting up {peer}: {', '.join(NEEDS[peer])}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *NEEDS[peer]], check=True)
        stamp.write_text(needs)
    return python


def versions(peer: str) -> str:
    """What is installed of what the peer needs, as `name version, ...`."""
    code = (
        "import sys; from importlib.metadata import version;"
        "print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))"
    )
    names = [need.split("=")[0] for need in NEEDS[peer]]
    done = subprocess.run([python_of(peer), "-c", code, *names], check=True, capture_output=True, text=True)
    return done.stdout.strip()
