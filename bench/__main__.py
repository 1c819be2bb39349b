"""`make bench`: measures propsync beside the limit and beside other programs, and writes what was found.

    python -m bench [all|PART] [--rows N] [--rounds N]

The parts are same, peers, checkpoint, first-nights, nights, looks, start, memory and limits: each says what
it measures, and keeps its figures below .cache/bench. `report` writes docs/performance.md and its pictures,
and `all` does all. This process imports nothing big: see `bench.children`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from bench import results
from bench.children import BenchError, ran
from bench.contenders import (
    BOTH,
    CHECKPOINT,
    FIRST_NIGHTS,
    KEY,
    OTHERS,
    ROOT,
    STAGES,
    USERS,
    WHOLE,
    Contender,
    Sample,
    measure,
    propsync,
    versions,
)
from bench.limits import burst, control, rates, requests
from bench.nights import MODES, nights
from bench.recorder import differences
from bench.report import write_report
from bench.results import CACHE
from bench.sink import Sink, recording, sandbox, sink

# Short runs come more often, between the long ones: one of them says little on a machine that others share.
MEMORY_TURNS = (1, 5, 1, 10, 1, 20, 1, 5)
_MEMORY_ROUNDS = 2
BYTES_A_ROW = 150


def file_of(kind: str, rows: int) -> Path:
    """The users in a file, made if there is none yet; the job file is beside it."""
    folder = CACHE / "data"
    path = folder / f"users-{rows}.{kind}"
    if not path.exists():
        if shutil.disk_usage(CACHE).free < 2 * BYTES_A_ROW * rows + 2**30:
            raise BenchError(f"too little room for {rows:,} rows below {CACHE}")
        folder.mkdir(parents=True, exist_ok=True)
        making = path.with_name(f"half-{path.name}")
        ran([sys.executable, "-m", "bench.data", making, str(rows)], folder=ROOT)
        making.rename(path)
    return path


def write_jobs() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    code = (
        "import json, sys; from pathlib import Path; from bench.data import job\n"
        "for path in map(Path, sys.argv[1:]): path.write_text(json.dumps(job(*path.stem.split('-'))))"
    )
    wanted = [(kind, changes) for kind in ("parquet", "csv") for changes in ("off", *MODES)]
    paths = [CACHE / f"{users}-{kind}-{changes}.yml" for users in BOTH for kind, changes in wanted]
    ran([sys.executable, "-c", code, *paths], folder=ROOT)


def rounds_of(
    contenders: Sequence[Contender], to: Sink, rows: int, rounds: int
) -> dict[str, list[dict[str, float]]]:
    """Each contender once a round, one after the other, so that all meet the same good and bad times."""
    found: dict[str, list[dict[str, float]]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        for contender in contenders:
            sample = measure(contender, to, rows, file_of)
            found[contender.name].append(asdict(sample))
            print(
                f"  {number + 1}/{rounds} {contender.name:<24}{sample.rows / sample.seconds:>12,.0f} rows/s"
                f"{sample.megabytes:>8,.0f} MB",
                flush=True,
            )
    return found


def measure_same(_: int, __: int) -> None:
    """Every contender sends the same users, and each user is compared."""
    rows = 5000
    found = {}
    for contender in (*WHOLE[:4], *OTHERS):
        before = USERS[contender.name.partition("-")[0]]
        lines = file_of(f"{before}expected", rows).read_text().splitlines()
        expected = [json.loads(line) for line in lines]
        record = CACHE / "record.ndjson"
        with recording(record) as url:
            command = contender.command(url, lambda kind: file_of(kind, rows))
            ran(command, folder=ROOT, environment=contender.environment)
        first, *users = map(json.loads, record.read_text().splitlines())
        for user in users:
            for name in [name for name in user if name.startswith("field_")]:
                user[name.removeprefix("field_")] = user.pop(name)
        wrong = differences(expected, {user["id"]: user for user in users})
        if wrong or first["count"] != rows:
            raise BenchError(
                f"{contender.name} sent {first['count']:,} users; {len(wrong)} wrong: {wrong[:2]}"
            )
        found[contender.name] = first["count"]
        print(f"  {contender.name:<24} {first['count']:,} users, all as they should be", flush=True)
    results.keep("same", found)


def measure_peers(rows: int, rounds: int) -> None:
    """Rows a second: the limit, propsync, and what people use today."""
    with sink(CACHE / "nginx") as to:
        print(f"  sink: {to.name}", flush=True)
        others = [one for one in OTHERS if to.takes_events or not one.name.endswith("sdk")]
        found = rounds_of([*STAGES, *WHOLE], to, rows, rounds)
        found |= rounds_of(others, to, rows, max(3, rounds - 2))
    results.keep("peers", found)
    results.keep("sink", to.name)
    results.keep("versions", {name: versions(name) for name in ("drt", "sdk", "script")})


def measure_checkpoint(rows: int, rounds: int) -> None:
    """The whole run with its checkpoint on disk, and with none."""
    with sink(CACHE / "nginx") as to:
        results.keep("checkpoint", rounds_of(CHECKPOINT, to, rows, rounds))


def measure_first_nights(rows: int, rounds: int) -> None:
    """The whole run where everybody is new: nothing compared, and fingerprints kept for the next night."""
    with sink(CACHE / "nginx") as to:
        results.keep("first-nights", rounds_of(FIRST_NIGHTS, to, rows, rounds))


def measure_memory(rows: int, _: int) -> None:
    """Peak memory and time a row, for more and more rows in turns; the files are deleted again."""
    turns = [rows * turn for turn in MEMORY_TURNS]
    samples: dict[int, list[Sample]] = {count: [] for count in sorted(turns)}
    with sink(CACHE / "nginx") as to:
        for _ in range(_MEMORY_ROUNDS):
            for count in turns:
                sample = measure(WHOLE[0], to, count, file_of)
                samples[count].append(sample)
                print(
                    f"  {count:>12,} rows {sample.megabytes:>8,.0f} MB"
                    f"{sample.seconds / count * 1e6:>8.2f} s a million",
                    flush=True,
                )
    for count in [*samples][1:]:
        file_of("parquet", count).unlink()
    results.keep("memory", [asdict(_worst_and_middle(found)) for found in samples.values()])


def _worst_and_middle(samples: Sequence[Sample]) -> Sample:
    """The middle by time, with the most memory of any."""
    middle = sorted(samples, key=lambda one: one.seconds)[len(samples) // 2]
    megabytes, together = (max(getattr(one, name) for one in samples) for name in ("megabytes", "together"))
    return replace(middle, megabytes=megabytes, together=together)


def measure_nights(rows: int, _: int) -> None:
    """Nights on which nothing changed, or one user in 50, after one on which everybody was new."""
    found = []
    for night in nights(rows, file_of):
        found.append(night)
        print(
            " ",
            *(
                value if isinstance(value, str) else f"{name} {round(value, 2):,}"
                for name, value in night.items()
            ),
        )
    results.keep("nights", found)


def measure_looks(rows: int, rounds: int) -> None:
    """`init` and `check` of three million rows and of 12,000 columns, beside reading the columns."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, path in (("long", file_of("csv", 3 * rows)), ("wide", file_of("wide.csv", 200))):
        job, state = CACHE / f"{name}.yml", CACHE / "looks"
        program: list[str | Path] = [sys.executable, "-m", "etl"]
        commands: dict[str, list[str | Path]] = {
            "init": [*program, "init", path, "--force", "--output", job],
            "check": [*program, "check", job, path, "--state-dir", state],
            "read": [sys.executable, "-m", "bench.stages", "read", job, path],
        }
        times: dict[str, list[float]] = {what: [] for what in commands}
        for _ in range(max(1, rounds - 2)):
            for what, command in commands.items():
                took = ran(command, folder=ROOT, environment=KEY)
                times[what].append(took.told["seconds"] if what == "read" else took.wall)
        print(f"  {name}: " + ", ".join(f"{what} {min(each):.2f} s" for what, each in times.items()))
        found[name] = times
    results.keep("looks", found)


def measure_start(_: int, rounds: int) -> None:
    """How long small commands take, and Python alone; and the processor seconds of runs of 1,000 rows."""
    program = shutil.which("propsync", path=str(Path(sys.executable).parent)) or "propsync"
    job = CACHE / "plain-parquet-off.yml"
    commands: dict[str, list[str | Path]] = {
        "propsync --help": [program, "--help"],
        "propsync status": [program, "status", job],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    with sink(CACHE / "nginx") as to:
        few = [one for one in (*STAGES, *WHOLE) if one.name.endswith(("-bare", "-parquet"))]
        results.keep("few", rounds_of(few, to, 1000, rounds))
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(10):
        for name, command in commands.items():
            found[name].append(ran(command, folder=ROOT).wall)
    print("  " + ", ".join(f"{name}: {min(times):.3f} s at best" for name, times in found.items()))
    results.keep("start", found)


def measure_limits(rows: int, _: int) -> None:
    """A server that admits 5,000 identifications a second behind 80 ms, and a rate of 3,000 that we keep."""
    seconds = 45 if rows >= 1_000_000 else 15
    limit = 5000
    met = requests(journal_of(limit * seconds, "max", "--identifications-per-second", str(limit)))
    judged = control(met, limit, since=10, until=met[-1].at - 1)
    print(
        f"  --rate max: {judged.admitted_share:.1%} of what could go in, {judged.refused_share:.1%} refused, "
        f"over {judged.seconds:.0f} s",
        flush=True,
    )
    steady = requests(journal_of(3000 * seconds // 2, "3000"))
    tens = [rate / 3000 - 1 for rate in rates(steady, min(10, steady[-1].at / 2))]
    print(
        f"  --rate 3000: {min(tens):+.2%} to {max(tens):+.2%}, {burst(steady):,} in a second at most",
        flush=True,
    )
    results.keep(
        "limits",
        {
            **asdict(judged),
            "limit": limit,
            "steady_low": min(tens),
            "steady_high": max(tens),
            "burst": burst(steady),
        },
    )


def journal_of(rows: int, rate: str, *options: str) -> str:
    """What the sandbox wrote down of a run."""
    journal = CACHE / "journal.ndjson"
    journal.unlink(missing_ok=True)
    with sandbox("--latency", "80ms", "--journal", str(journal), *options) as url:
        command = propsync(url, file_of("parquet", rows), rate=rate, batch=500)
        ran(command, folder=ROOT, environment=KEY)
    return journal.read_text()


PARTS: dict[str, Callable[[int, int], None]] = {
    "same": measure_same,
    "peers": measure_peers,
    "checkpoint": measure_checkpoint,
    "first-nights": measure_first_nights,
    "nights": measure_nights,
    "looks": measure_looks,
    "start": measure_start,
    "memory": measure_memory,
    "limits": measure_limits,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("part", nargs="?", default="all", choices=["all", *PARTS, "report"])
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="rows of the fastest; slow ones get fewer"
    )
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    write_jobs()
    try:
        for name, part in PARTS.items():
            if given.part in ("all", name):
                print(f"{name}: {part.__doc__}", flush=True)
                part(given.rows, given.rounds)
        if given.part in ("all", "report"):
            write_report(ROOT)
    except (BenchError, subprocess.CalledProcessError) as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
