"""docs/performance.md: what people ask first, with a picture each; then each target, and all figures."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import results
from bench.pictures import Bar, bars

NAMES = {
    "columns": "reading the columns alone, one thread",
    "bare": "reading, and writing JSON alone, one thread",
    "read": "propsync: read",
    "map": "propsync: read, map",
    "produce": "propsync: read, map, encode",
    "parquet": "**propsync**, Parquet, 1,000 a request",
    "parquet-500": "**propsync**, Parquet, 500 a request",
    "csv": "**propsync**, CSV, 1,000 a request",
    "drt": "drt-core, limits lifted",
    "sdk": "amplitude-analytics (official SDK)",
    "script": "pandas, json, aiohttp",
}
DATA = {"plain": "codes and words in ASCII", "names": "names and towns, half of them outside ASCII"}
_PARTS = (
    *("machine", "versions", "same", "peers", "memory", "checkpoint", "first-nights", "limits", "nights"),
    *("looks", "start", "few"),
)
_HEADING = "| what | measured | target | |\n|---|---|---|---|"
_USERS = (10_000, 100_000, 1_000_000, 10_000_000, 50_000_000)
_RATES = (1_000, 3_000, 10_000)


def write_report(root: Path) -> None:
    """Print the page, and write it and its pictures. Raises SystemExit if a part was not measured yet."""
    found = results.load()
    if missing := [part for part in _PARTS if part not in found]:
        raise SystemExit(f"measure these first: {', '.join(missing)}")
    page = "\n".join(lines(found)) + "\n"
    print(page)
    (root / "docs" / "performance.md").write_text(page, encoding="utf-8")
    for name, picture in pictures(found):
        (root / "docs" / "images" / f"performance-{name}.svg").write_text(picture, encoding="utf-8")


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The page, line by line."""
    machine = found["machine"]
    yield "# Performance"
    yield ""
    yield (
        "`make bench` measures this page and writes it. The figures are of one machine "
        f"({machine['processor']}, {machine['cores']} cores\nshared with others, {machine['memory']}, "
        f"{machine['system']}, Python {machine['python']}, {machine['libraries']}):\ncompare them with each "
        "other, not with those of another machine. [How it is measured](../bench/README.md)"
    )
    yield from ["", "## How long will my export take?", "", *_durations(found), ""]
    yield from ["## Is that fast?", "", "![Rows a second](images/performance-speed.svg)", ""]
    yield from [*_peers(found), ""]
    yield from ["## How much memory?", "", "![Memory by rows](images/performance-memory.svg)", ""]
    yield "Rows are read and sent in pieces, so twenty times as many take about a tenth more memory."
    yield from [
        "",
        "## What does a night take?",
        "",
        "![Seconds of a night](images/performance-nights.svg)",
        "",
    ]
    yield from [*_night_text(found), "", "## Targets", "", *_missed(found), _HEADING, *targets(found), ""]
    yield from ["## Rows a second", "", *_speed(found), ""]
    yield from ["## Memory and time by rows", "", *_memory(found["memory"]), ""]
    yield from ["## Nights", "", *night_lines(found["nights"], found["first-nights"]), ""]
    yield from ["## A server with a limit", "", *_limits(found["limits"])]


# --- what people ask first ------------------------------------------------------------


def _durations(found: Mapping[str, Any]) -> Iterator[str]:
    most = {users: rate(found["peers"][f"{users}-parquet"], "seconds") for users in DATA}
    least = min(most.values())
    yield (
        "As long as your plan admits: **users, divided by the rate**. propsync sends 1,000 users a second "
        "unless you\nsay otherwise; `--rate max` finds what your plan admits. The last column is what this "
        "machine can do where\nnobody sets a limit.\n"
    )
    yield f"| users | {' | '.join(f'{one:,} a second' for one in _RATES)} | no limit |"
    yield "|--:|" + "--:|" * (len(_RATES) + 1)
    for users in _USERS:
        times = (users / min(one, least) for one in (*_RATES, least))
        yield f"| {users:,} | {' | '.join(map(for_people, times))} |"
    yield ""
    yield (
        "From the second night on, only those who changed are sent: with 2 % of a million users, that is "
        f"{for_people(20_000 / _RATES[0])}\nat 1,000 a second, and the comparison with all the others before "
        "that takes seconds (see below). For your own\nfile, `propsync check job.yml --rate 3000` says it."
    )


def _peers(found: Mapping[str, Any]) -> Iterator[str]:
    peers = found["peers"]
    for users, what in DATA.items():
        whole = rate(peers[f"{users}-parquet"], "seconds")
        others = {
            name: peers[f"{users}-{name}"] for name in ("drt", "sdk", "script") if f"{users}-{name}" in peers
        }
        times = [f"{whole / rate(some, 'seconds'):.0f} times {NAMES[name]}" for name, some in others.items()]
        yield f"- With {what}: {', '.join(times)}."
    yield (
        "\nAll send the same users from Parquet to a server on the same machine that answers at once, so "
        "these are the\nprograms' own limits; what was sent was read back and compared, value by value."
    )


def _night_text(found: Mapping[str, Any]) -> Iterator[str]:
    night = _night(found["nights"], "names", "property")
    yield (
        f"{night['users']:,} users with names, `changes: property`. On the first night all are sent (as fast "
        "as this machine\ncan; on your plan it takes as long as the table above says). Later, propsync reads "
        "the export, compares it with\nthe snapshot of the night before, and sends what changed."
    )


def _missed(found: Mapping[str, Any]) -> Iterator[str]:
    yield "; ".join(f"*{users}*: {what}" for users, what in DATA.items()) + "."
    missed = sum(line.rstrip(" |").endswith("missed") for line in targets(found))
    if missed:
        yield f"{missed} of {sum(1 for _ in targets(found))} are missed.\n"


def for_people(seconds: float) -> str:
    """A duration in the unit that one would say it in."""
    if seconds < 59.5:
        return f"{max(1, seconds):.0f} s"
    if seconds < 59.5 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 36 * 3600:
        hours = seconds / 3600
        return f"{hours:.1f} h" if hours < 10 else f"{hours:.0f} h"
    return f"{seconds / 86400:.1f} days"


def pictures(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The name of each picture, and its SVG."""
    speeds = []
    for name, label in (
        ("parquet", "propsync"),
        ("script", "a script"),
        ("drt", "drt"),
        ("sdk", "official SDK"),
    ):
        for users, what in (("plain", "ASCII"), ("names", "names")):
            if samples := found["peers"].get(f"{users}-{name}"):
                value = rate(samples, "seconds")
                speeds.append(Bar(f"{label}, {what}", value, f"{value:,.0f}", own=name == "parquet"))
    yield "speed", bars("Users sent in a second", "without a limit of the server; longer is better", speeds)
    sizes = [
        Bar(f"{one['rows']:,} rows", one["together"], f"{one['together']:.0f} MB") for one in found["memory"]
    ]
    yield "memory", bars("Memory of a run", "all processes together, at its peak; shorter is better", sizes)
    night = _night(found["nights"], "names", "property")
    first = night["users"] / rate(found["first-nights"]["names-first-property"], "wall")
    nights = [
        Bar("first night, all are sent", first, f"{first:.1f} s"),
        Bar("2 % changed", night["changed"], f"{night['changed']:.1f} s"),
        Bar("nothing changed", night["same"], f"{night['same']:.1f} s"),
    ]
    yield "nights", bars(f"A night with {night['users']:,} users", "seconds; shorter is better", nights)


def _night(nights: Sequence[dict[str, Any]], data: str, mode: str) -> dict[str, Any]:
    return next(one for one in nights if (one["data"], one["mode"]) == (data, mode))


# --- targets --------------------------------------------------------------------------


def targets(found: Mapping[str, Any]) -> Iterator[str]:
    """A line for each target: what was measured, and whether it holds."""
    peers, memory, limits = found["peers"], found["memory"], found["limits"]
    for users in DATA:
        whole = rate(peers[f"{users}-parquet"], "seconds")
        share = whole / rate(peers[f"{users}-produce"], "seconds")
        yield at_least(f"{users}: of the rate of read, map, encode without network", share, 0.8)
        for name, times in (("drt", 30), ("sdk", 80), ("script", 20)):
            if f"{users}-{name}" in peers:
                started = rate(peers[f"{users}-parquet"], "wall")
                yield _against(users, name, whole, started, rate(peers[f"{users}-{name}"], "seconds"), times)
        share = rate(peers[f"{users}-csv"], "seconds") / whole
        yield at_least(f"{users}: CSV of the rate of Parquet", share, 0.6)
        own, alone = (_processor(found, f"{users}-{name}") for name in ("parquet", "bare"))
        yield at_most(
            f"{users}: processor seconds, of those of reading and writing JSON alone", own / alone, 3
        )
    share = rate(peers["names-parquet"], "seconds") / rate(peers["latin-parquet"], "seconds")
    yield at_least("names: of the rate of the same rows in ASCII", share, 0.9)
    megabytes = [sample["megabytes"] for sample in memory]
    together = [sample["together"] for sample in memory]
    each = [sample["seconds"] / sample["rows"] for sample in memory]
    largest = f"{memory[-1]['rows']:,} rows"
    yield holding(
        f"peak memory, all processes together, up to {largest}",
        f"{max(together):.0f} MB",
        "under 250 MB",
        max(together) < 250,
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
    yield cost("checkpoint and fsync", found["checkpoint"], "plain-no-checkpoint", "plain-parquet", 0.05)
    for users in DATA:
        for mode in ("user", "property"):
            what = f"{users}: a first night, `changes: {mode}` beside `off`"
            nights = found["first-nights"]
            yield cost(what, nights, f"{users}-first-off", f"{users}-first-{mode}", 0.15)
    yield from night_targets(found["nights"])
    long, wide = (
        {what: min(times) for what, times in found["looks"][name].items()} for name in ("long", "wide")
    )
    for what in ("init", "check"):
        yield at_most(
            f"`{what}` of three million rows, of the time of reading them", long[what] / long["read"], 2
        )
        yield holding(f"`{what}` of 12,000 columns", f"{wide[what]:.1f} s", "at most 5 s", wide[what] <= 5)
    for command in ("--help", "status"):
        seconds = statistics.median(found["start"][f"propsync {command}"])
        yield holding(f"`propsync {command}`", f"{seconds:.3f} s", "at most 0.08 s", seconds <= 0.08)


def _processor(found: Mapping[str, Any], name: str) -> float:
    """Processor seconds of a run without those of its start, which are of a run of a few rows."""
    return median(found["peers"][name], "processor") - median(found["few"][name], "processor")


def _against(users: str, name: str, whole: float, started: float, other: float, times: int) -> str:
    """Both without their start; and ours with it against the other without, which is true at least."""
    fair, least = whole / other, started / other
    holds = "holds" if least >= times else "holds, but not with the start" if fair >= times else "missed"
    measured = f"{fair:.4g} times; {least:.3g} if only ours has to start"
    return f"| {users}: against {NAMES[name]} | {measured} | at least {times} | {holds} |"


def _flat(what: str, values: list[float]) -> str:
    off = max(values) / min(values) - 1
    return holding(what, f"{off:.1%} from least to most", "within 10 %", off <= 0.1)


def night_targets(nights: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each target and each night that was measured."""
    for night in nights:
        who = f"{night['data']}: {night['users']:,} users, `changes: {night['mode']}`:"
        share = night["share_columns"]
        yield at_least(f"{who} nothing changed; of the rate of reading the columns alone", share, 0.35)
        yield at_least(f"{who} the same; of the rate of read, map, encode", night["share"], 0.8)
        times = night["changed"] / night["same"]
        yield at_most(f"{who} 2 % changed; of the time of a night on which nothing changed", times, 1.3)
        size = max(night["megabytes_same"], night["megabytes_changed"])
        yield holding(f"{who} peak memory", f"{size:.0f} MB", "under 250 MB", size < 250)
        renewal = night["renewal"]
        yield holding(f"{who} merging 2 % into the snapshot", f"{renewal:.1f} s", "under 30 s", renewal < 30)
        wanted = night["users"] // 50
        arrived = f"{night['arrived']:,} of {wanted:,}, and nothing else"
        yield holding(f"{who} 2 % changed; arrived", arrived, "exactly these", night["arrived"] == wanted)
        if night["mode"] == "user":
            each = night["bytes"] / night["users"]
            yield holding(f"{who} the snapshot", f"{each:.1f} bytes a user", "under 24", each < 24)


def holding(what: str, measured: str, target: str, holds: bool) -> str:
    """A target, and whether it holds."""
    return f"| {what} | {measured} | {target} | {'holds' if holds else 'missed'} |"


def at_least(what: str, share: float, least: float) -> str:
    """A target for a share of something."""
    return holding(what, f"{share:.3g}", f"at least {least}", share >= least)


def at_most(what: str, share: float, most: float) -> str:
    """A target for how many times something else it is."""
    return holding(what, f"{share:.3g} times", f"at most {most}", share <= most)


def cost(what: str, found: Mapping[str, Any], before: str, after: str, most: float) -> str:
    """A target for what something adds to a run: the middle of pairs of runs one after the other."""
    pairs = zip(found[before], found[after], strict=True)
    costs = [one["wall"] / other["wall"] - 1 for other, one in pairs]
    middle = statistics.median(costs)
    measured = f"{middle:+.0%} of the run ({len(costs)} pairs, {min(costs):+.0%} to {max(costs):+.0%})"
    return holding(what, measured, f"at most {most:.0%}", middle <= most)


# --- all figures ----------------------------------------------------------------------


def _speed(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"The server is {found['sink']}. Rows a second without the start of the program,\n"
        "the middle of several rounds; the spread is from the slowest to the fastest; the wall time is\n"
        "that of the whole process, and so are the processor seconds."
    )
    for users, what in {**DATA, "latin": "the same names and towns in ASCII"}.items():
        yield f"\nUsers with {what}:\n"
        yield "| program | rows | rounds | rows/s | spread | wall | processor | peak memory | bytes a row |"
        yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
        for name, samples in found["peers"].items():
            if name.partition("-")[0] != users:
                continue
            size = samples[0]["bytes"] / samples[0]["rows"]
            yield (
                f"| {NAMES[name.partition('-')[2]]} | {samples[0]['rows']:,} | {len(samples)} "
                f"| {rate(samples, 'seconds'):,.0f} | {spread(samples, 'seconds'):.0%} "
                f"| {median(samples, 'wall'):.2f} s | {median(samples, 'processor'):.2f} s "
                f"| {median(samples, 'megabytes'):,.0f} MB | {f'{size:,.0f}' if size else ''} |"
            )
    yield ""
    used = dict.fromkeys(", ".join(found["versions"].values()).split(", "))
    yield (
        f"Versions: {', '.join(used)}.\nEach sent the same users: {min(found['same'].values()):,} of each "
        "were read back and compared,\nvalue by value. drt can't send device fields and carries these as "
        "properties;\nthe SDK adds an insert id, a time and its name to each user."
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


def night_lines(nights: list[dict[str, Any]], first: Mapping[str, Any]) -> Iterator[str]:
    """The section, line by line."""
    yield (
        "*Baseline* records everybody (`propsync baseline`: it writes the snapshot and sends nothing).\n"
        "Then come nights on which nothing changed, in turns with reading, mapping and encoding alone, and\n"
        "with reading the columns alone, and one on which every 50th user has another plan. All that is\n"
        "sent goes to a recorder, and in the end every value in it is compared with the export: these users\n"
        "and no others came, each once, by `user` with all they have, by `property` with the plan alone.\n"
        "*Merging* is writing the snapshot by itself, with 2 % of the users, and with all of them.\n"
    )
    yield "| users | `changes` | baseline | the same | of read, map, encode | start to end | of columns |"
    yield "|---|---|--:|--:|--:|--:|--:|"
    for night in nights:
        yield (
            f"| {night['users']:,} {night['data']} | {night['mode']} | {night['first']:.1f} s "
            f"| {night['same']:.1f} s | {night['share']:.2f} | {night['share_whole']:.2f} "
            f"| {night['share_columns']:.2f} |"
        )
    yield ""
    yield "| users | `changes` | 2 % changed | merging 2 % | merging all | snapshot | bytes a user |"
    yield "|---|---|--:|--:|--:|--:|--:|"
    for night in nights:
        yield (
            f"| {night['users']:,} {night['data']} | {night['mode']} | {night['changed']:.1f} s "
            f"| {night['renewal']:.1f} s | {night['renewal_first']:.1f} s | {night['bytes'] / 1e6:,.0f} MB "
            f"| {night['bytes'] / night['users']:.1f} |"
        )
    yield ""
    yield (
        "Peak memory of both processes together and, in brackets, of the larger, with what is mapped of the\n"
        "snapshot and of the export:\n"
    )
    yield "| users | `changes` | baseline | nothing changed | 2 % changed |"
    yield "|---|---|--:|--:|--:|"
    for night in nights:
        yield (
            f"| {night['users']:,} {night['data']} | {night['mode']} | {night['megabytes_first']:.0f} MB "
            f"| {night['megabytes_same']:.0f} MB ({night['largest_same']:.0f}) "
            f"| {night['megabytes_changed']:.0f} MB ({night['largest_changed']:.0f}) |"
        )
    yield "\nA first night, on which all are sent, and of which the whole process is timed:\n"
    yield "| users | `changes` | wall | processor | both processes |"
    yield "|---|---|--:|--:|--:|"
    for name, samples in first.items():
        users, _, mode = name.split("-")
        yield (
            f"| {samples[0]['rows']:,} {users} | {mode} | {median(samples, 'wall'):.2f} s "
            f"| {median(samples, 'processor'):.2f} s | {median(samples, 'together'):.0f} MB |"
        )


# --- figures of samples ---------------------------------------------------------------


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
