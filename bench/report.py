"""docs/performance.md: the figures as tables, and each target with whether it holds."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import results

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
    "sdk": "amplitude-analytics (official SDK)",
    "script": "pandas, json, aiohttp",
}
WHOLE = "propsync-parquet-1000"
_PARTS = ("machine", "versions", "peers", "memory", "checkpoint", "limits", "nights", "help")
_HEADING = "| what | measured | target | |\n|---|---|---|---|"


def write_report(root: Path) -> None:
    """Print the page and write it. Raises SystemExit if a part of it was not measured yet."""
    found = results.load()
    if missing := [part for part in _PARTS if part not in found]:
        raise SystemExit(f"measure these first: {', '.join(missing)}")
    page = "\n".join(lines(found)) + "\n"
    print(page)
    (root / "docs" / "performance.md").write_text(page, encoding="utf-8")


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
    yield from ["## The second night", "", *night_lines(found["nights"], found["checkpoint"]), ""]
    yield from ["## A server with a limit", "", *_limits(found["limits"])]


def targets(found: Mapping[str, Any]) -> Iterator[str]:
    """A line for each target: what was measured, and whether it holds."""
    peers, memory, limits = found["peers"], found["memory"], found["limits"]
    whole = rate(peers[WHOLE], "seconds")
    yield at_least(
        "of the rate of read, map, encode without network", whole / rate(peers["produce"], "seconds"), 0.8
    )
    yield at_least(
        "of the limit, read and write JSON alone on one thread", whole / rate(peers["bare"], "seconds"), 0.8
    )
    for name, times in (("drt", 20), ("sdk", 50), ("script", 10)):
        if name in peers:
            yield _against(name, whole, rate(peers[WHOLE], "wall"), rate(peers[name], "seconds"), times)
    yield at_least("CSV of the rate of Parquet", rate(peers["propsync-csv-1000"], "seconds") / whole, 0.6)
    megabytes = [sample["megabytes"] for sample in memory]
    together = [sample["together"] for sample in memory]
    each = [sample["seconds"] / sample["rows"] for sample in memory]
    largest = f"{memory[-1]['rows']:,} rows"
    yield holding(
        f"peak memory, up to {largest}", f"{max(megabytes):.0f} MB", "under 250 MB", max(megabytes) < 250
    )
    yield holding(
        "the same, both processes together", f"{max(together):.0f} MB", "under 250 MB", max(together) < 250
    )
    yield _flat(f"memory, from {memory[0]['rows']:,} to {largest}", megabytes)
    yield _flat(f"time a row, from {memory[0]['rows']:,} to {largest}", each)
    share = limits["admitted_share"]
    yield holding(
        "`--rate max` at a limit: of what could go in", f"{share:.1%}", "at least 97 %", share >= 0.97
    )
    share = limits["refused_share"]
    yield holding("requests refused after 10 s", f"{share:.1%}", "under 2 %", share < 0.02)
    off = max(-limits["steady_low"], limits["steady_high"])
    yield holding("`--rate 3000`, over any 10 s", f"{off:.2%} off at most", "within 1 %", off <= 0.01)
    yield holding("the most in any second", f"{limits['burst']:,}", "at most 6,000", limits["burst"] <= 6000)
    costs = costs_of(found["checkpoint"], WHOLE, "no-checkpoint")
    cost = statistics.median(costs)
    measured = f"{cost:+.1%} of the run ({len(costs)} pairs, {min(costs):+.0%} to {max(costs):+.0%})"
    yield holding("checkpoint and fsync", measured, "under 5 %", cost < 0.05)
    yield from night_targets(found["nights"])
    helping = statistics.median(found["help"]["propsync --help"])
    yield holding("the help of the command, `--help`", f"{helping:.3f} s", "under 0.15 s", helping < 0.15)


def _against(name: str, whole: float, started: float, other: float, times: int) -> str:
    """Both without their start; and ours with it against the other without, which is true at least."""
    fair, least = whole / other, started / other
    holds = "holds" if least >= times else "holds, but not with the start" if fair >= times else "missed"
    measured = f"{fair:.1f} times; {least:.1f} if only ours has to start"
    return f"| against {NAMES[name]} | {measured} | at least {times} | {holds} |"


def _flat(what: str, values: list[float]) -> str:
    off = max(values) / min(values) - 1
    return holding(what, f"{off:.1%} from least to most", "within 10 %", off <= 0.1)


def _speed(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"The sink is {found['sink']}. Rows a second without the start of the program,\n"
        "the middle of several rounds; the spread is from the slowest to the fastest; the wall time is\n"
        "that of the whole process.\n"
    )
    yield "| program | rows | rounds | rows/s | spread | wall | peak memory of a process | bytes a row |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for name, samples in found["peers"].items():
        size = samples[0]["bytes"] / samples[0]["rows"]
        yield (
            f"| {NAMES[name]} | {samples[0]['rows']:,} | {len(samples)} | {rate(samples, 'seconds'):,.0f} "
            f"| {spread(samples, 'seconds'):.0%} | {median(samples, 'wall'):.2f} s "
            f"| {median(samples, 'megabytes'):,.0f} MB | {f'{size:,.0f}' if size else ''} |"
        )
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
    yield "| rows | peak memory, both processes | of the larger | seconds a million rows | rows/s |"
    yield "|--:|--:|--:|--:|--:|"
    for one in memory:
        each = one["seconds"] / one["rows"] * 1e6
        yield (
            f"| {one['rows']:,} | {one['together']:.0f} MB | {one['megabytes']:.0f} MB | {each:.2f} "
            f"| {1e6 / each:,.0f} |"
        )


def _limits(limits: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"The sandbox admits {limits['limit']:,} identifications a second and answers after 80 ms; what is "
        "above\nis a 429. With `--rate max`, nobody tells propsync the limit. From the tenth second on, for "
        f"{limits['seconds']:.0f} seconds,\n{limits['admitted_share']:.1%} of what could go in went in, and "
        f"{limits['refused_share']:.1%} of the requests were refused."
    )


def night_targets(nights: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each target, at the most users that were measured."""
    for night in [night for night in nights if night["users"] == nights[-1]["users"]]:
        who = f"{night['users']:,} users, `changes: {night['mode']}`:"
        yield at_least(f"{who} nothing changed; of the rate of read, map, encode", night["share"], 0.8)
        yield at_least(f"{who} the same with the start and the end of both", night["share_whole"], 0.8)
        size = night["megabytes_same"]
        yield holding(f"{who} nothing changed; peak memory", f"{size:.0f} MB", "under 400 MB", size < 400)
        wanted = night["users"] // 50
        share = f"{night['arrived']:,} of {wanted:,}, and nothing else"
        yield holding(f"{who} 2 % changed; arrived", share, "exactly these", night["arrived"] == wanted)
        renewal = night["renewal"]
        yield holding(f"{who} merging 2 % into the snapshot", f"{renewal:.1f} s", "under 30 s", renewal < 30)
        if night["mode"] == "user":
            each = night["bytes"] / night["users"]
            yield holding(f"{who} the snapshot", f"{each:.1f} bytes a user", "under 24", each < 24)


def night_lines(nights: list[dict[str, Any]], checkpoint: Mapping[str, Any]) -> Iterator[str]:
    """The section, line by line."""
    yield (
        "*Baseline* records everybody (`propsync baseline`: it writes the snapshot and sends nothing).\n"
        "Then come nights on which nothing changed, in turns with reading, mapping and encoding alone, and\n"
        "one on which every 50th user has another plan. All that is sent goes to a recorder, and in the end\n"
        "every value in it is compared with the export: these users and no others came, each once, by\n"
        "`user` with all they have, by `property` with the plan alone. *Merging* is writing the snapshot\n"
        "by itself, with 2 % of the users, and with all of them, as on a first night."
    )
    yield ""
    yield "| `changes` | users | baseline | nothing changed | rows/s | of read, map, encode | start to end |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for night in nights:
        yield (
            f"| {night['mode']} | {night['users']:,} | {night['first']:.1f} s | {night['same']:.1f} s "
            f"| {night['users'] / night['same']:,.0f} | {night['share']:.2f} | {night['share_whole']:.2f} |"
        )
    yield ""
    yield "| `changes` | users | 2 % changed | merging 2 % | merging all | snapshot | bytes a user |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for night in nights:
        yield (
            f"| {night['mode']} | {night['users']:,} | {night['changed']:.1f} s | {night['renewal']:.1f} s "
            f"| {night['renewal_first']:.1f} s | {night['bytes'] / 1e6:,.0f} MB "
            f"| {night['bytes'] / night['users']:.1f} |"
        )
    yield from ["", *_night_memory(nights)]
    if "first-night" in checkpoint:
        costs = costs_of(checkpoint, "first-night", "propsync-parquet-1000")
        yield ""
        yield (
            "A first night, on which all are sent, with `changes: property` beside one with `changes: off`:\n"
            f"{statistics.median(costs):+.0%} of the time of the whole process ({len(costs)} pairs of runs, "
            f"{min(costs):+.0%} to {max(costs):+.0%})."
        )


def _night_memory(nights: list[dict[str, Any]]) -> Iterator[str]:
    yield (
        "Peak memory of both processes together and, in brackets, of the larger, with what is mapped of the\n"
        "snapshot and of the export:\n"
    )
    yield "| `changes` | users | baseline | nothing changed | 2 % changed |"
    yield "|---|--:|--:|--:|--:|"
    for night in nights:
        yield (
            f"| {night['mode']} | {night['users']:,} | {night['megabytes_first']:.0f} MB "
            f"| {night['megabytes_same']:.0f} MB ({night['largest_same']:.0f}) "
            f"| {night['megabytes_changed']:.0f} MB ({night['largest_changed']:.0f}) |"
        )


# --- figures of samples ------------------------------------------------------------


def median(samples: Sequence[dict[str, Any]], name: str) -> float:
    """The middle of a figure."""
    return float(statistics.median(sample[name] for sample in samples))


def rate(samples: Sequence[dict[str, Any]], seconds: str) -> float:
    """Rows a second, by the middle of `seconds` or `wall`."""
    return float(samples[0]["rows"] / median(samples, seconds))


def spread(samples: Sequence[dict[str, Any]], seconds: str) -> float:
    """How far the slowest run is from the fastest, as a share of the middle one."""
    values = [sample[seconds] for sample in samples]
    return float((max(values) - min(values)) / statistics.median(values))


def holding(what: str, measured: str, target: str, holds: bool) -> str:
    """A target, and whether it holds."""
    return f"| {what} | {measured} | {target} | {'holds' if holds else 'missed'} |"


def at_least(what: str, share: float, least: float) -> str:
    """A target for a share of something."""
    return holding(what, f"{share:.2f}", f"at least {least}", share >= least)


def costs_of(found: Mapping[str, Any], one: str, other: str) -> list[float]:
    """How much longer than the other one takes, as a share, in each pair of runs one after the other."""
    return [own["wall"] / its["wall"] - 1 for own, its in zip(found[one], found[other], strict=True)]
