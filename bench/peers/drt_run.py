"""drt with its DuckDB source and its Amplitude destination. Runs in a virtual environment of its own.

    python drt_run.py URL FILE

drt leaves out columns that are named like fields of the API (platform, os_name ...): it can't send those. So
that it carries the same values, they go as properties whose names begin with `field_`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

FIELDS = ("platform", "os_name", "app_version", "language")
LIFTED = "  batch_size: 1000\n  rate_limit: {requests_per_second: 0}\n"


def write_project(folder: Path, path: str) -> None:
    duckdb = import_module("duckdb")  # which only the environment of this peer is sure to have
    columns = [name for name, *_ in duckdb.connect().execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()]
    fields = [name for name in FIELDS if name in columns]
    renamed = ", ".join(f"{name} AS field_{name}" for name in fields)
    query = f"SELECT id AS user_id, * EXCLUDE (id, {', '.join(fields)}), {renamed} FROM '{path}'"
    (folder / ".drt").mkdir()
    (folder / ".drt" / "profiles.yml").write_text("bench:\n  type: duckdb\n  database: ':memory:'\n")
    (folder / "drt_project.yml").write_text("name: bench\nprofile: bench\n")
    (folder / "syncs").mkdir()
    (folder / "syncs" / "users.yml").write_text(
        f"name: users\nmodel: |\n  {query}\n"
        "destination:\n  type: amplitude\n  api_key_env: AMPLITUDE_API_KEY\n  endpoint: identify\n"
        f"sync:\n  mode: full\n{LIFTED}"
    )


def send(url: str, path: str) -> float:
    with tempfile.TemporaryDirectory() as name:
        write_project(Path(name), path)
        os.environ |= {"HOME": name, "DO_NOT_TRACK": "1", "AMPLITUDE_API_KEY": "bench-key-0123456789"}
        os.chdir(name)
        import drt.destinations.amplitude as destination  # type: ignore[import-not-found]
        from drt.cli.main import app  # type: ignore[import-not-found]

        destination._AMPLITUDE_HOSTS = {"default": url, "eu": url}  # noqa: SLF001 - it has no other way
        start = time.perf_counter()
        try:
            app(["run"])
        except SystemExit as end:
            if end.code:
                raise
        os.chdir("/")
        return time.perf_counter() - start


if __name__ == "__main__":
    seconds = send(*sys.argv[1:])
    print("\n" + json.dumps({"seconds": seconds}))
