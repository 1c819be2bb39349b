"""The plots of docs/performance.md. Runs in a virtual environment of its own, with matplotlib.

python plots.py RESULTS FOLDER svg|png
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found]

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS, OTHERS, LIMIT = "#2a6fbb", "#9aa5b1", "#444c56"
BARS = {
    "bare": "limit: read + JSON, one thread",
    "produce": "propsync, no network",
    "propsync-parquet-1000": "propsync, Parquet",
    "propsync-csv-1000": "propsync, CSV",
    "script": "pandas + json + aiohttp",
    "drt": "drt-core, limits lifted",
    "sdk": "amplitude-analytics",
    "drt-as-it-comes": "drt-core, as it comes",
}


def speed(peers: Mapping[str, Any], axes: Any) -> None:
    names = [name for name in BARS if name in peers]
    values = [
        peers[name][0]["rows"] / statistics.median(one["seconds"] for one in peers[name]) for name in names
    ]
    colours = [LIMIT if name == "bare" else OURS if "pro" in name else OTHERS for name in names]
    bars = axes.barh([BARS[name] for name in names], values, color=colours)
    axes.bar_label(bars, [f"{value:,.0f}" for value in values], padding=4)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 3, max(values) * 4)
    axes.set_xlabel("rows a second (each step is ten times as many)")


def memory(steps: list[dict[str, float]], axes: Any) -> None:
    rows = [one["rows"] / 1e6 for one in steps]
    together = [one["together"] for one in steps]
    megabytes = [one["megabytes"] for one in steps]
    seconds = [one["seconds"] / one["rows"] * 1e6 for one in steps]
    axes.plot(rows, together, "o-", color=OURS, label="peak memory, both processes")
    axes.plot(rows, megabytes, "o:", color=OURS, label="of the larger")
    axes.axhline(250, color=LIMIT, linestyle="--", linewidth=1, label="target: under 250 MB")
    axes.set_ylim(0, max(290.0, max(together) * 1.1))
    axes.legend(frameon=False, loc="lower right")
    axes.set_xlim(0, rows[-1] * 1.03)
    axes.set_xlabel("million rows")
    axes.set_ylabel("peak memory, MB")
    other = axes.twinx()
    other.spines["top"].set_visible(False)
    other.plot(rows, seconds, "s:", color=OTHERS)
    other.set_ylim(0, max(seconds) * 2.2)
    other.set_ylabel("seconds a million rows (dotted)")


def limits(found: Mapping[str, Any], axes: Any) -> None:
    offered, admitted = zip(*found["by_second"][:-1], strict=True)
    axes.step(range(len(offered)), offered, where="post", color=OTHERS, label="offered")
    axes.step(range(len(admitted)), admitted, where="post", color=OURS, label="admitted")
    axes.axhline(found["limit"], color=LIMIT, linestyle="--", linewidth=1, label="what the server admits")
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, len(offered) - 1)
    axes.set_xlabel("seconds since the first request")
    axes.set_ylabel("identifications a second")
    axes.legend(frameon=False, loc="lower right")


def main(results: str, folder: str, kind: str) -> None:
    found = json.loads(Path(results).read_text())
    mpl.rcParams.update(
        {
            "svg.hashsalt": "propsync",
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )
    drawn: dict[str, tuple[Callable[[Any], None], float]] = {
        "speed": (lambda axes: speed(found["peers"], axes), 4.0),
        "memory": (lambda axes: memory(found["memory"], axes), 3.6),
        "limits": (lambda axes: limits(found["limits"], axes), 3.6),
    }
    for name, (draw, height) in drawn.items():
        figure, axes = plt.subplots(figsize=(8, height), layout="constrained")
        draw(axes)
        dated = {"metadata": {"Date": None}} if kind == "svg" else {}
        figure.savefig(Path(folder) / f"{name}.{kind}", dpi=110, **dated)


if __name__ == "__main__":
    main(*sys.argv[1:])
