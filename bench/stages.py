"""Where the time of a run goes: rows a second of each stage, and of the whole against a local sink.

    python bench/stages.py [ROWS]

The limit is what reading the file and writing its rows as JSON lines takes on one thread, with nothing else.
All figures are of one process after the other on this machine, and only mean something beside each other.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from arro3.io import write_ndjson

from etl import Job, run
from etl.encoder import Limits
from etl.model import Stretch
from etl.pipeline.production import Production
from etl.reader import open_source

KEY = "bench-key-0123456789"
BATCH = 100_000


def write_users(path: Path, rows: int) -> None:
    """Fourteen columns: an id, six short strings, four doubles, three integers."""
    random = np.random.default_rng(1)
    writer = None
    for start in range(0, rows, BATCH):
        count = min(BATCH, rows - start)
        columns = {"id": pa.array([f"user-{n:09d}" for n in range(start, start + count)])}
        columns |= {f"s{n}": pa.array(random.integers(0, 1000, count)).cast(pa.string()) for n in range(6)}
        columns |= {f"f{n}": pa.array(random.random(count) * 1000) for n in range(4)}
        columns |= {f"i{n}": pa.array(random.integers(0, 10**6, count)) for n in range(3)}
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def job_of(path: Path) -> Job:
    names = [f"s{n}" for n in range(6)] + [f"f{n}" for n in range(4)] + [f"i{n}" for n in range(3)]
    identification = {"user_id": "id", "user_properties": {name: name for name in names}}
    return Job.of(
        {"name": "bench", "source": str(path), "identification": identification}, folder=path.parent
    )


@contextmanager
def sink() -> Iterator[str]:
    """A server in a process of its own that reads bodies and answers at once."""
    command = [sys.executable, "-m", "etl", "sandbox", "--sink"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split()[-1]
        finally:
            server.terminate()


def bare(path: Path) -> None:
    for batch in pq.ParquetFile(path).iter_batches(16384):
        properties = pa.StructArray.from_arrays(batch.columns[1:], names=batch.schema.names[1:])
        wrapped = pa.StructArray.from_arrays([properties], names=["$set"])
        lines = pa.RecordBatch.from_arrays([batch.column(0), wrapped], names=["user_id", "user_properties"])
        write_ndjson(lines, io.BytesIO())


def read(production: Production) -> None:
    for _ in production.source.read(Stretch(0)):
        pass


def read_and_map(production: Production) -> None:
    for batch in production.source.read(Stretch(0)):
        production.mapper.map(batch)


def produce(production: Production) -> None:
    for _ in production.chunks([Stretch(0)]):
        pass


def rate(rows: int, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return rows / (time.perf_counter() - start)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder, sink() as url:
        path = Path(folder) / "users.parquet"
        write_users(path, rows)
        job = job_of(path)
        production = Production.of(job, open_source([path]), Limits(identifications=1000))
        stages: dict[str, Callable[[], object]] = {
            "read and write_ndjson alone (the limit)": lambda: bare(path),
            "read": lambda: read(production),
            "read, map": lambda: read_and_map(production),
            "read, map, encode": lambda: produce(production),
            "the whole run, to a local sink": lambda: run(
                job, key=KEY, endpoint=url, rate=None, requests_per_second=None, batch_size=1000
            ),
        }
        for name, work in stages.items():
            print(f"{name:<42} {rate(rows, work):>12,.0f} rows/s")


if __name__ == "__main__":
    main()
