"""The second night in docs/performance.md: targets, the table, and the straight line to 100 million users."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from bench.targets import at_least, costs_of, holding

FAR = 100  # times the users of the first step
_Nights = list[dict[str, Any]]


def night_targets(nights: _Nights) -> Iterator[str]:
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


def night_lines(nights: _Nights, checkpoint: Mapping[str, Any]) -> Iterator[str]:
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
    yield from ["", *_memory(nights), "", *_far(nights), "", "![Time and size by users](img/nights.svg)"]
    if "first-night" in checkpoint:
        costs = costs_of(checkpoint, "first-night", "propsync-parquet-1000")
        yield ""
        yield (
            "A first night, on which all are sent, with `changes: property` beside one with `changes: off`:\n"
            f"{statistics.median(costs):+.0%} of the time of the whole process ({len(costs)} pairs of runs, "
            f"{min(costs):+.0%} to {max(costs):+.0%})."
        )


def _memory(nights: _Nights) -> Iterator[str]:
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


def _far(nights: _Nights) -> Iterator[str]:
    """What the lines through the measured points say of more users."""
    users = FAR * nights[0]["users"]
    yield f"The straight lines through these points, and what they say of {users:,} users:"
    yield ""
    yield "| `changes` | | a million users | at none | so many | farthest point from the line |"
    yield "|---|---|--:|--:|--:|--:|"
    names = {
        "first": "baseline, s",
        "same": "nothing changed, s",
        "changed": "2 % changed, s",
        "renewal": "merging 2 %, s",
        "renewal_first": "merging all, s",
        "bytes": "snapshot, MB",
    }
    for mode in dict.fromkeys(night["mode"] for night in nights):
        own = [night for night in nights if night["mode"] == mode]
        for name, said in names.items():
            scale = 1e6 if name == "bytes" else 1.0
            slope, start, off = line([(night["users"], night[name] / scale) for night in own])
            yield (
                f"| {mode} | {said} | {slope * 1e6:,.2f} | {start:z,.1f} | **{slope * users + start:,.0f}** "
                f"| {off:.0%} |"
            )


def line(points: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Slope and start of the straight line, and the farthest that a point is from it, as a share of it."""
    slope, start = statistics.linear_regression(*zip(*points, strict=True))
    off = max(abs(y / (slope * x + start) - 1) for x, y in points)
    return slope, start, off
