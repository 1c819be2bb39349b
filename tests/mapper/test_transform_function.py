"""The job's own transform: a function on DataFrames, and the frames that it sees."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.arrow.json_text import json_lines
from etl.errors import ExitCode, TransformError, UsageError
from etl.job.column_spec import ColumnSpec
from etl.mapper import Mapper, framed, frames, load_transform, within
from etl.mapper.transform_function import Transform
from etl.model import Batch, Mapped, Reject
from etl.tally import RowRange
from tests.examples import each_row, examples
from tests.mapper.arrow_samples import ARROW_SAMPLES
from tests.mapper.mapping import batch_of, reasons, sent, setting

BATCH = batch_of({"u": pa.array(["user-5", "user-6", "user-7"]), "n": pa.array([1, None, 3])}, first=5)


def mapped_with(transform: Transform, **spec: Any) -> Mapped:
    return Mapper(setting(ColumnSpec(column="v", **spec)), transform=transform).map(BATCH)


def properties(mapped: Mapped) -> list[Any]:
    return [line["user_properties"]["$set"]["p"] for line in sent(mapped)]


def test_it_may_add_columns_and_types_stay() -> None:
    def doubled(frame: pd.DataFrame) -> pd.DataFrame:
        assert frame.index.tolist() == [5, 6, 7]
        return frame.assign(v=frame["n"] * 2)

    mapped = mapped_with(doubled)
    assert properties(mapped) == [2, 6]
    assert mapped.kept.tolist() == [0, 2]
    assert mapped.batch is BATCH


def test_rows_that_it_drops_are_rejects_with_their_original_values() -> None:
    mapped = mapped_with(lambda frame: frame[frame["n"] > 1].assign(v="x", u="someone"))
    assert mapped.kept.tolist() == [2]
    assert [(reject.row, reject.code, reject.values) for reject in mapped.rejects] == [
        (5, "dropped", '{"u":"user-5","n":1}'),
        (6, "dropped", '{"u":"user-6","n":null}'),
    ]


def test_rows_keep_their_places_when_it_sorts_or_fails_some() -> None:
    mapped = mapped_with(lambda frame: frame.iloc[::-1].assign(v=["c", "2", "1"]), type="integer")
    assert [line["user_id"] for line in sent(mapped)] == ["user-5", "user-6"]
    assert mapped.kept.tolist() == [0, 1]
    assert reasons(mapped) == {7: 'column v: "c" is not a whole number of at most 64 bits'}


def test_a_column_without_values_counts_as_text() -> None:
    empty = mapped_with(lambda frame: frame.assign(v=None))
    full = mapped_with(lambda frame: frame.assign(v=pd.Series(["a", None, "b"], frame.index)))
    assert empty.identifications.schema == full.identifications.schema


def test_it_is_not_called_without_rows() -> None:
    mapper = Mapper(setting(ColumnSpec(column="v")), transform=lambda frame: 1 / 0)  # type: ignore[arg-type, return-value]
    nothing = batch_of({"u": pa.array([], pa.string())})
    assert mapper.map(nothing).identifications.num_rows == 0


@each_row(
    ("transform", "words"),
    [
        (lambda frame: frame["missing"], "failed: KeyError"),
        (lambda frame: None, "returned NoneType, not a DataFrame"),
        (lambda frame: pd.concat([frame, frame]), "returned a row twice"),
        (lambda frame: frame.reset_index(drop=True), "returned a row with the index 0"),
        (lambda frame: frame.set_index("u"), "returned a row with the index 'user-5'"),
        (lambda frame: frame.set_index("u", append=True), "returned a row with the index (5, 'user-5')"),
        (lambda frame: frame.assign(v=[1, "a", {}]), "returned columns of mixed types"),
        (lambda frame: frame, "returned no column v"),
    ],
)
def test_its_failure_names_it_and_the_rows(transform: Transform, words: str) -> None:
    with pytest.raises(TransformError) as caught:
        mapped_with(transform)
    assert words in caught.value.message
    assert "f.csv" in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == ExitCode.SOURCE


def test_an_exception_in_it_is_not_lost() -> None:
    with pytest.raises(
        TransformError, match=r"test_transform_function:.*<lambda> failed.*f\.csv, rows 5 to 7"
    ) as caught:
        mapped_with(lambda frame: 1 / 0)  # type: ignore[arg-type, return-value]
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


class _MuteError(BaseException):
    """Whose words can't be had."""

    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize("error", [SystemExit("enough"), SystemExit(0), GeneratorExit(), _MuteError()])
def test_it_can_not_end_the_run_without_a_word(error: BaseException) -> None:
    def leaving(frame: pd.DataFrame) -> pd.DataFrame:
        raise error

    with pytest.raises(TransformError, match=f"leaving failed: {type(error).__name__}") as caught:
        mapped_with(leaving)
    assert caught.value.__cause__ is error


def test_a_ctrl_c_in_it_stays_one() -> None:
    def interrupted(frame: pd.DataFrame) -> pd.DataFrame:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mapped_with(interrupted)


def test_it_is_found_beside_the_job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", ["elsewhere"])
    (tmp_path / "tidy_up_here.py").write_text(
        "def clean(frame):\n    return frame.assign(v='x')\nnumber = 1\n"
    )
    (tmp_path / "broken_here.py").write_text("import no_such_module_here\n")
    (tmp_path / "leaving_here.py").write_text("import sys\nsys.exit('enough')\n")
    assert properties(mapped_with(load_transform("tidy_up_here:clean", tmp_path))) == ["x"] * 3
    for reference, words in {
        "tidy_up_here:tidy": "has no function tidy",
        "tidy_up_here:number": "has no function number",
        "broken_here:clean": "No module named 'no_such_module_here'",
        "leaving_here:clean": "can't be imported: SystemExit: enough",
        "nowhere_here:clean": "No module named 'nowhere_here'",
        "tidy_up_here": "isn't of the form package.module:function",
    }.items():
        with pytest.raises(UsageError, match=words) as caught:
            load_transform(reference, tmp_path)
        assert caught.value.hint


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
def test_a_range_is_mapped_as_in_the_whole(
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


@each_row("kind", ARROW_SAMPLES)
def test_any_type_can_be_put_together(kind: str) -> None:
    array, _ = ARROW_SAMPLES[kind]
    rows = pa.RecordBatch.from_arrays([array], names=["v"])
    parts = [
        Batch("f.parquet", 0, at, at + 1, np.array([at]), rows.slice(at - 1, 1))
        for at in range(1, len(array) + 1)
    ]
    frame = next(frames(parts, len(array)))
    assert frame.rows.equals(rows) or str(frame.rows["v"]) == str(array)
