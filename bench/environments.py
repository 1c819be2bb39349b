"""The virtual environments of the peers, below .cache/bench; made anew when a version here changes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).parents[1] / ".cache" / "bench"
NEEDS: Final = {
    "drt": ("drt-core==1.2.1", "duckdb==1.4.*"),
    "sdk": ("amplitude-analytics==1.3.0", "pyarrow"),
    "script": ("pandas", "pyarrow", "aiohttp"),
    "plots": ("matplotlib>=3.9",),
}


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
    names = [need.split("=")[0].rstrip(">") for need in NEEDS[peer]]
    done = subprocess.run([python_of(peer), "-c", code, *names], check=True, capture_output=True, text=True)
    return done.stdout.strip()
