"""What was measured, as a JSON file below .cache/bench, so that parts can be measured again by themselves."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.environments import CACHE

FILE = CACHE / "results.json"


def load() -> dict[str, Any]:
    """All parts measured so far."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def keep(part: str, values: object) -> None:
    """Put a part's figures in place of its older ones."""
    CACHE.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(load() | {part: values, "machine": machine()}, indent=1) + "\n")


def machine() -> dict[str, str]:
    """Where this was measured."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    names = ("pyarrow", "arro3-io", "aiohttp", "numpy")
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": sys.version.split()[0],
        "libraries": ", ".join(f"{name} {version(name)}" for name in names),
    }


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
