"""Frames are the same however rows are read, and rows of a range are those of the whole file."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.job.spec import ColumnSpec
from etl.json_lines import json_lines
from etl.mapper import Mapper, framed, frames, within
from etl.model import Batch, Mapped, Reject, RowRange
from tests.examples import examples
from tests.mapper.mapping import setting
from tests.mapper.zoo import ZOO

SIZE = 7


def file_of(readable: list[bool]) -> Batch:
    """A whole file, in which each row can be read or not."""
    numbers = np.flatnonzero(readable).astype(np.int64) + 1
    return Batch(
        "f.csv",
        0,
        1,
        len(readable) + 1,
        numbers,
        pa.record_batch({"u": [f"user-{n}" for n in numbers], "n": numbers}),
        tuple(Reject("f.csv", n, "bad", "why", "{}") for n, good in enumerate(readable, 1) if not good),
        runs=numbers * 2,
    )


def read(file: Batch, row_range: RowRange, breaks: set[int]) -> list[Batch]:
    """The rows of a range as a reader gives them, in batches that end at `breaks`."""
    first, stop = min(row_range.first, file.stop), min(row_range.stop or file.stop, file.stop)
    ends = sorted({first, stop, *(at for at in breaks if first < at < stop)})
    found = []
    for low, high in pairwise(ends):
        at, end = np.searchsorted(file.numbers, (low, high))
        rejects = tuple(reject for reject in file.rejects if low <= reject.row < high)
        rows = file.rows.slice(at, end - at)
        found.append(
            Batch("f.csv", 0, low, high, file.numbers[at:end], rows, rejects, runs=file.numbers[at:end] * 2)
        )
    return found


def looking_around(frame: pd.DataFrame) -> pd.DataFrame:
    total = frame["n"].astype("int64").cumsum()
    return frame.assign(v=total * 1000 + len(frame))[frame["n"].astype("int64") % 5 != 0]


MAPPER = Mapper(setting(ColumnSpec(column="v")), transform=looking_around)
READABLE = st.lists(st.sampled_from([True, True, True, False]), max_size=40)
BREAKS = st.sets(st.integers(2, 40), max_size=6)


def rows_of(mapped: list[Mapped]) -> list[tuple[object, ...]]:
    """Every row of mapped batches that tile a range, and what became of it."""
    for before, after in pairwise(mapped):
        assert before.batch.stop == after.batch.first
    found: list[tuple[object, ...]] = []
    for one in mapped:
        batch = one.batch
        assert len(batch.numbers) + len(batch.rejects) == batch.stop - batch.first
        assert batch.runs is not None
        assert batch.runs.tolist() == (batch.numbers * 2).tolist()
        assert batch.rows["n"].to_pylist() == batch.numbers.tolist()
        numbers = batch.numbers[one.kept].tolist()
        lines = json_lines(one.identifications).splitlines()
        found += [(number, line.decode()) for number, line in zip(numbers, lines, strict=True)]
        found += [(reject.row, reject.code) for reject in one.rejects]
    return sorted(found)


@settings(max_examples=examples(40))
@given(READABLE, BREAKS, BREAKS, st.data())
def test_a_stretch_is_mapped_as_in_the_whole(
    readable: list[bool], breaks: set[int], others: set[int], data: st.DataObject
) -> None:
    file = file_of(readable)
    whole = rows_of(
        [MAPPER.map(frame) for frame in frames(read(file, framed(RowRange(0), SIZE), breaks), SIZE)]
    )
    first = data.draw(st.integers(1, file.stop))
    stop = data.draw(st.none() | st.integers(first, file.stop))
    gap = RowRange(0, first, stop)
    batches = read(file, framed(gap, SIZE), others)
    part = [within(MAPPER.map(frame), gap) for frame in frames(batches, SIZE)]
    assert rows_of(part) == [row for row in whole if first <= row[0] < (stop or file.stop)]  # type: ignore[operator]


@given(READABLE, BREAKS)
def test_frames_have_fixed_borders(readable: list[bool], breaks: set[int]) -> None:
    file = file_of(readable)
    found = list(frames(read(file, RowRange(0), breaks), SIZE))
    assert [(frame.first, frame.stop) for frame in found] == [
        (first, min(first + SIZE, file.stop)) for first in range(1, file.stop, SIZE)
    ]


@pytest.mark.parametrize("kind", ZOO)
def test_any_type_can_be_put_together(kind: str) -> None:
    array, _ = ZOO[kind]
    rows = pa.RecordBatch.from_arrays([array], names=["v"])
    parts = [
        Batch("f.parquet", 0, at, at + 1, np.array([at]), rows.slice(at - 1, 1))
        for at in range(1, len(array) + 1)
    ]
    frame = next(frames(parts, len(array)))
    assert frame.rows.equals(rows) or str(frame.rows["v"]) == str(array)
