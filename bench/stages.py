"""What a part of the way takes, without the rest: rows a second inside one process.

    python -m bench.stages STAGE JOB FILE
    python -m bench.stages renewals SNAPSHOT

The stages: `columns` reads the columns of a Parquet file on one thread, with nothing else; `bare` writes
them as JSON lines, too, which is the limit; `read`, `map` and `produce` go one stage further each; `produce`
is all before sending.
`uncommitted` is the whole of `propsync run`, whose arguments follow, without writing the checkpoint.
`renewals` is writing a snapshot.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from etl.process import configure_allocation, watch_imports

FIELDS = ("platform", "os_name", "app_version", "language")
_ROWS = 16_384


def columns(path: Path) -> None:
    import pyarrow.parquet as pq

    for _ in pq.ParquetFile(path, memory_map=True).iter_batches(_ROWS, use_threads=False):
        pass


def bare(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from arro3.io import write_ndjson

    for batch in pq.ParquetFile(path, memory_map=True).iter_batches(_ROWS, use_threads=False):
        names = [name for name in batch.schema.names if name not in {"id", *FIELDS}]
        properties = pa.StructArray.from_arrays([batch[name] for name in names], names=names)
        wrapped = pa.StructArray.from_arrays([properties], names=["$set"])
        fields = [name for name in FIELDS if name in batch.schema.names]
        lines = pa.RecordBatch.from_arrays(
            [batch["id"], *(batch[name] for name in fields), wrapped],
            names=["user_id", *fields, "user_properties"],
        )
        write_ndjson(lines, io.BytesIO())


def stages(job_file: Path, path: Path) -> dict[str, Callable[[], None]]:
    """The work of each stage, with all imports and opening done."""
    from etl.encoder import Limits
    from etl.job.spec import Job
    from etl.pipeline.row_pipeline import RowPipeline
    from etl.reader import open_source
    from etl.tally import RowRange

    job = Job.load(job_file, environ={})
    production = RowPipeline(job, open_source([path]), limits=Limits(identifications=1000))

    def read() -> None:
        for _ in production.source.read(RowRange(0)):
            pass

    def read_and_map() -> None:
        for batch in production.source.read(RowRange(0)):
            production.rows.mapper.map(batch)

    def produce() -> None:
        for _ in production.chunks([RowRange(0)]):
            pass

    alone = {"columns": lambda: columns(path), "bare": lambda: bare(path)}
    return alone | {"read": read, "map": read_and_map, "produce": produce}


def renewals(path: Path) -> dict[str, float]:
    """The seconds it takes to write the snapshot at `path`, which stays as it is, without anything else.

    `some`: anew, with every 50th user changed; `everybody`: from nothing, with the same users.
    """
    import numpy as np

    from bench.data import EVERY
    from bench.results import CACHE
    from etl.job.spec import Job
    from etl.snapshot import Snapshot, SnapshotWriter, layout_of

    random, copy, found = np.random.default_rng(5), path.with_name("copy.arrow"), {}
    with Snapshot.open(path) or sys.exit("no snapshot") as old:
        job = Job.load(CACHE / f"{path.parents[1].name}-parquet-{old.mode}.yml", environ={})
        layout = layout_of(job.identification, job.changes) or sys.exit("nothing is compared")
        # An export is in no order that a snapshot knows of.
        keys = random.permutation(np.concatenate([part.keys for part in old.pieces()]))
        fingerprints = random.integers(1, 2**32, (_ROWS, len(layout.names))).astype(layout.dtype)
        for name, some, before in (("some", keys[::EVERY].copy(), old), ("everybody", keys, None)):
            start = time.perf_counter()
            with SnapshotWriter(copy, layout, old.header, old=before) as writer:
                for first in range(0, len(some), _ROWS):
                    rows = some[first : first + _ROWS].reshape(-1, 1)
                    writer.add(rows, fingerprints[: len(rows)])
                entries = writer.finish()
            found[name] = time.perf_counter() - start
            if entries != len(old):
                raise RuntimeError(f"{entries:,} entries of {len(old):,}")
            copy.unlink()
    return found


def run_uncommitted(arguments: list[str]) -> None:
    """Run the command as it is, but for the checkpoint: nothing is written for a committed chunk."""
    from etl.__main__ import main as propsync
    from etl.checkpoint import Checkpoint

    Checkpoint.commit = lambda *_: None  # type: ignore[method-assign]
    sys.argv[1:] = arguments
    propsync()


def main() -> None:
    stage, *arguments = sys.argv[1:]
    configure_allocation()  # before Arrow is imported, as the command does
    if stage == "uncommitted":
        run_uncommitted(arguments)
    watch_imports()  # as the command does: else the first conversion would import pandas, and be timed
    if stage == "renewals":
        print(json.dumps(renewals(Path(arguments[0]))))
        return
    work = stages(*map(Path, arguments))[stage]
    if stage in {"bare", "columns"}:
        import arro3.io  # noqa: F401 - imports are not part of the work
        import pyarrow.parquet  # noqa: F401
    start = time.perf_counter()
    work()
    print(json.dumps({"seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
