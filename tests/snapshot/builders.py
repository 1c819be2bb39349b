"""Jobs, rows and snapshots for the tests of this stage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from etl.arrow.json_text import json_lines, splice_json
from etl.job.spec import Job
from etl.mapper import Mapper
from etl.model import Batch, Mapped
from etl.snapshot import (
    DiffedBatch,
    Differ,
    FinalChanges,
    Layout,
    Snapshot,
    SnapshotHeader,
    SnapshotWriter,
    layout_of,
)
from etl.subject import user_keys

Row = Mapping[str, Any]
Identification = dict[str, Any]
Keys = Callable[[pa.RecordBatch], NDArray[np.uint64]]


def job_of(identification: Mapping[str, object], **others: object) -> Job:
    return Job.of({"name": "test", "source": "rows.parquet", "identification": identification, **others})


def layout_for(job: Job) -> Layout:
    layout = layout_of(job.identification, job.changes)
    assert layout is not None
    return layout


def batch_of(
    rows: Sequence[Row], schema: pa.Schema, *, first: int = 1, runs: Sequence[int] | None = None
) -> Batch:
    record_batch = pa.RecordBatch.from_pylist([dict(row) for row in rows], schema)
    numbers = np.arange(first, first + len(rows))
    number_of_runs = None if runs is None else np.array(runs, dtype=np.int64)
    return Batch("rows.parquet", 0, first, first + len(rows), numbers, record_batch, runs=number_of_runs)


def mapped_of(job: Job, rows: Sequence[Row], schema: pa.Schema, ends: Iterable[int] = ()) -> list[Mapped]:
    """The rows, mapped in batches that end at `ends` and at the rows' end."""
    mapper = Mapper(job.identification)
    borders = sorted({0, len(rows), *(end for end in ends if end < len(rows))})
    return [mapper.map(batch_of(rows[a:b], schema, first=a + 1)) for a, b in pairwise(borders)]


def differ_for(job: Job, snapshot: Snapshot | None, *, final: FinalChanges | None = None) -> Differ:
    splice = splice_json if Mapper(job.identification).has_raw_json else None
    return Differ(layout_for(job), snapshot, final=final, splice=splice)


def sent_by(compared: DiffedBatch) -> list[tuple[int, Identification]]:
    """The number of each row that is left, and what is left of it."""
    mapped = compared.mapped
    numbers = mapped.batch.numbers[mapped.kept].tolist()
    lines = splice_json(json_lines(mapped.identifications)).splitlines()
    return [(number, json.loads(line)) for number, line in zip(numbers, lines, strict=True)]


def header(number: int = 1) -> SnapshotHeader:
    return SnapshotHeader(number, f"run-{number}", "https://api2.amplitude.com", "test")


def renewed(
    path: Path, job: Job, compared: Iterable[DiffedBatch], *, number: int = 1, keys: Keys = user_keys
) -> None:
    """Take everything that is left for accepted."""
    with (
        opened_if_any(path) as old,
        SnapshotWriter(path, layout_for(job), header(number), old=old) as new,
    ):
        for some in compared:
            assert some.mapped.fingerprints is not None
            new.add(keys(some.mapped.identifications), some.mapped.fingerprints)
        new.finish()


def few_keys(count: int) -> Keys:
    """Keys of which there are only `count` for users, so that strangers share one."""

    def keys(identifications: pa.RecordBatch) -> NDArray[np.uint64]:
        full = user_keys(identifications)
        few = full % np.uint64(count) << np.uint64(60)
        if full.shape[1] == 2:  # a row without a device has a key there that no device has
            few[:, 1] = np.where(full[:, 1] == ~full[:, 0], ~few[:, 0], few[:, 1])
        return few

    return keys


@contextmanager
def keyed_by(keys: Keys) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("etl.snapshot.diff.user_keys", keys)
        yield


@contextmanager
def opened_if_any(path: Path) -> Iterator[Snapshot | None]:
    with Snapshot.open(path) or nullcontext() as snapshot:
        yield snapshot


def opened(path: Path) -> Snapshot:
    snapshot = Snapshot.open(path)
    assert snapshot is not None
    return snapshot
