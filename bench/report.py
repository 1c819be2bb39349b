"""docs/performance.md: the figures as tables, each target and whether it holds, and the plots."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import results
from bench.environments import python_of
from bench.results import median, rate, spread

NAMES = {
    "bare": "reading and writing JSON alone, one thread",
    "read": "propsync: read",
    "map": "propsync: read, map",
    "produce": "propsync: read, map, encode",
    "propsync-parquet-1000": "**propsync**, Parquet, 1,000 a request",
    "propsync-parquet-500": "**propsync**, Parquet, 500 a request",
    "propsync-csv-1000": "**propsync**, CSV, 1,000 a request",
    "propsync-world-1000": "**propsync**, Parquet, texts outside ASCII",
    "drt": "drt-core, limits lifted",
    "drt-as-it-comes": "drt-core, as it comes",
    "sdk": "amplitude-analytics (official SDK)",
    "script": "pandas, json, aiohttp",
}
WHOLE = "propsync-parquet-1000"
_HEADING = "| what | measured | target | |\n|---|---|---|---|"


def write_report(root: Path) -> None:
    """Print the tables, and write the page and the plots."""
    found = results.load()
    page = "\n".join(lines(found)) + "\n"
    print(page)
    (root / "docs" / "performance.md").write_text(page, encoding="utf-8")
    (root / "docs" / "img").mkdir(exist_ok=True)
    plots: list[str | Path] = [
        python_of("plots"),
        root / "bench" / "plots.py",
        results.FILE,
        root / "docs" / "img",
        "svg",
    ]
    subprocess.run(plots, check=True)


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The page, line by line."""
    machine = found["machine"]
    yield "# Performance"
    yield ""
    yield (
        "What a run takes, measured by `make bench`, beside the limit and beside what people use today.\n"
        f"The figures are of one machine ({machine['processor']}, {machine['cores']} cores "
        f"shared with others, {machine['memory']}, {machine['system']},\n"
        f"Python {machine['python']}, {machine['libraries']})\n"
        "and only mean something beside each other. [How it is measured](../bench/README.md)"
    )
    yield from ["", "## Targets", "", _HEADING, *targets(found), ""]
    yield from ["## Rows a second", "", *_speed(found), ""]
    yield from ["## Memory and time by rows", "", *_memory(found["memory"]), ""]
    yield from ["## The second night", "", *_nights(found["nights"]), ""]
    yield from ["## A server with a limit", "", *_limits(found["limits"])]


def targets(found: Mapping[str, Any]) -> Iterator[str]:
    """A line for each target: what was measured, and whether it holds."""
    peers, memory, limits = found["peers"], found["memory"], found["limits"]
    whole = rate(peers[WHOLE], "seconds")
    yield _least(
        "of the rate of read, map, encode without network", whole / rate(peers["produce"], "seconds"), 0.8
    )
    yield _least(
        "of the limit, read and write JSON alone on one thread", whole / rate(peers["bare"], "seconds"), 0.8
    )
    for name, times in (("drt", 20), ("sdk", 50), ("script", 10)):
        if name in peers:
            yield _against(name, whole, rate(peers[WHOLE], "wall"), rate(peers[name], "seconds"), times)
    yield _least("CSV of the rate of Parquet", rate(peers["propsync-csv-1000"], "seconds") / whole, 0.6)
    megabytes = [sample["megabytes"] for sample in memory]
    together = [sample["together"] for sample in memory]
    each = [sample["seconds"] / sample["rows"] for sample in memory]
    largest = f"{memory[-1]['rows']:,} rows"
    yield _line(
        f"peak memory, up to {largest}", f"{max(megabytes):.0f} MB", "under 250 MB", max(megabytes) < 250
    )
    yield _line(
        "the same, both processes together", f"{max(together):.0f} MB", "under 250 MB", max(together) < 250
    )
    yield _flat(f"memory, from {memory[0]['rows']:,} to {largest}", megabytes)
    yield _flat(f"time a row, from {memory[0]['rows']:,} to {largest}", each)
    share = limits["admitted_share"]
    yield _line(
        "`--rate max` at a limit: of what could go in", f"{share:.1%}", "at least 97 %", share >= 0.97
    )
    share = limits["refused_share"]
    yield _line("requests refused after 10 s", f"{share:.1%}", "under 2 %", share < 0.02)
    off = max(-limits["steady_low"], limits["steady_high"])
    yield _line("`--rate 3000`, over any 10 s", f"{off:.2%} off at most", "within 1 %", off <= 0.01)
    yield _line("the most in any second", f"{limits['burst']:,}", "at most 6,000", limits["burst"] <= 6000)
    costs = _costs(found["checkpoint"])
    cost = statistics.median(costs)
    measured = f"{cost:+.1%} of the run ({len(costs)} pairs, {min(costs):+.0%} to {max(costs):+.0%})"
    yield _line("checkpoint and fsync", measured, "under 5 %", cost < 0.05)
    yield from _night_targets(found["nights"])
    helping = statistics.median(found["help"]["propsync --help"])
    yield _line("the help of the command, `--help`", f"{helping:.3f} s", "under 0.15 s", helping < 0.15)


def _against(name: str, whole: float, started: float, other: float, times: int) -> str:
    """Both without their start; and ours with it against the other without, which is true at least."""
    fair, least = whole / other, started / other
    holds = "holds" if least >= times else "holds, but not with the start" if fair >= times else "missed"
    measured = f"{fair:.1f} times; {least:.1f} if only ours has to start"
    return f"| against {NAMES[name]} | {measured} | at least {times} | {holds} |"


def _costs(checkpoint: Mapping[str, Any]) -> list[float]:
    """What the checkpoint adds, in each pair of runs one after the other."""
    pairs = zip(checkpoint[WHOLE], checkpoint["no-checkpoint"], strict=True)
    return [one["wall"] / other["wall"] - 1 for one, other in pairs]


def _least(what: str, share: float, least: float) -> str:
    return _line(what, f"{share:.2f}", f"at least {least}", share >= least)


def _flat(what: str, values: list[float]) -> str:
    off = max(values) / min(values) - 1
    return _line(what, f"{off:.1%} from least to most", "within 10 %", off <= 0.1)


def _line(what: str, measured: str, target: str, holds: bool) -> str:
    return f"| {what} | {measured} | {target} | {'holds' if holds else 'missed'} |"


def _speed(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"The sink is {found['sink']}. Rows a second without the start of the program,\n"
        "the middle of several rounds; the spread is from the slowest to the fastest; the wall time is\n"
        "that of the whole process.\n"
    )
    yield "| program | rows | rounds | rows/s | spread | wall | peak memory | bytes a row |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for name, samples in found["peers"].items():
        size = samples[0]["bytes"] / samples[0]["rows"]
        yield (
            f"| {NAMES[name]} | {samples[0]['rows']:,} | {len(samples)} | {rate(samples, 'seconds'):,.0f} "
            f"| {spread(samples, 'seconds'):.0%} | {median(samples, 'wall'):.2f} s "
            f"| {median(samples, 'megabytes'):,.0f} MB | {f'{size:,.0f}' if size else ''} |"
        )
    yield ""
    yield "![Rows a second by program](img/speed.svg)"
    yield ""
    used = dict.fromkeys(", ".join(found["versions"].values()).split(", "))
    yield f"Versions: {', '.join(used)}.\nEach sent the same users: {_same(found['same'])}"


def _same(same: Mapping[str, int]) -> str:
    return (
        f"{min(same.values()):,} of each were read back and compared,\nvalue by value. drt can't send "
        "device fields and carries these as properties;\nthe SDK adds an insert id, a time and its name "
        "to each user."
    )


def _memory(memory: list[dict[str, float]]) -> Iterator[str]:
    yield "| rows | peak memory | seconds a million rows | rows/s |"
    yield "|--:|--:|--:|--:|"
    for one in memory:
        each = one["seconds"] / one["rows"] * 1e6
        yield f"| {one['rows']:,} | {one['megabytes']:.0f} MB | {each:.2f} | {1e6 / each:,.0f} |"
    yield from ["", "![Memory and time by rows](img/memory.svg)"]


def _night_targets(nights: list[dict[str, Any]]) -> Iterator[str]:
    for night in [night for night in nights if night["users"] == nights[-1]["users"]]:
        who = f"{night['users']:,} users, by {night['mode']}:"
        yield _least(f"{who} an unchanged night, of read, map, encode", night["produce"] / night["same"], 0.8)
        size = night["megabytes_same"]
        yield _line(f"{who} its peak memory", f"{size:.0f} MB", "under 400 MB", size < 400)
        renewal = night["renewal"]
        yield _line(f"{who} writing the snapshot", f"{renewal:.1f} s", "under 30 s", renewal < 30)
        if night["mode"] == "user":
            each = night["bytes"] / night["users"]
            yield _line(f"{who} the snapshot", f"{each:.1f} bytes a user", "under 24", each < 24)


def _nights(nights: list[dict[str, Any]]) -> Iterator[str]:
    yield (
        "A night on which nothing changed, and one on which every 50th user has another plan: exactly\n"
        "these users were sent. *First* is recording everybody (`propsync baseline`), *renewal* writing\n"
        "the snapshot alone. The last line of each is the straight line through those above it."
    )
    yield ""
    yield "| by | users | first | unchanged | rows/s | memory | 2 % changed | memory | renewal | snapshot |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for mode in dict.fromkeys(night["mode"] for night in nights):
        own = [night for night in nights if night["mode"] == mode]
        yield from map(_night, own)
        yield _expected(mode, own, 100 * own[0]["users"])
    yield from ["", "![Time and size by users](img/nights.svg)"]


def _night(night: Mapping[str, Any]) -> str:
    return (
        f"| {night['mode']} | {night['users']:,} | {night['first']:.1f} s | {night['same']:.1f} s "
        f"| {night['users'] / night['same']:,.0f} | {night['megabytes_same']:.0f} MB "
        f"| {night['changed']:.1f} s | {night['megabytes_changed']:.0f} MB | {night['renewal']:.1f} s "
        f"| {night['bytes'] / 1e6:,.0f} MB |"
    )


def _expected(mode: str, nights: list[dict[str, Any]], users: int) -> str:
    """What the line through the measured points says of so many users."""
    sizes = [night["users"] for night in nights]

    def at(name: str) -> float:
        slope, start = statistics.linear_regression(sizes, [night[name] for night in nights])
        return slope * users + start

    return (
        f"| {mode} | *{users:,}* | *{at('first'):.0f} s* | *{at('same'):.0f} s* | | "
        f"| *{at('changed'):.0f} s* | | *{at('renewal'):.0f} s* | *{at('bytes') / 1e6:,.0f} MB* |"
    )


def _limits(limits: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"The sandbox admits {limits['limit']:,} identifications a second and answers after 80 ms; what is "
        "above\nis a 429. With `--rate max`, nobody tells propsync the limit. From the tenth second on, for "
        f"{limits['seconds']:.0f} seconds,\n{limits['admitted_share']:.1%} of what could go in went in, and "
        f"{limits['refused_share']:.1%} of the requests were refused."
    )
    yield from ["", "![Offered and admitted](img/limits.svg)"]
