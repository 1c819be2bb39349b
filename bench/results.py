"""What was measured, as a JSON file below .cache/bench, so that parts can be measured again by themselves."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

CACHE = Path(__file__).parents[1] / ".cache" / "bench"
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
