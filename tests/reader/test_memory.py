"""Tables in memory are read like files; a stream comes only once, and a spent one is an error, not empty."""

from __future__ import annotations

import datetime as dt
import gc
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import dataset

from etl import Job, plan, preview, run
from etl.errors import SourceError
from etl.reader import open_source
from etl.sandbox import Sandbox
from etl.tally import RowRange
from tests.examples import each_row
from tests.reader.reading import batches, rejects_of, rows_of

ROWS = [{"id": f"user-{i}", "n": i} for i in range(1, 8)]
TABLE = pa.Table.from_pylist(ROWS)


class Stream:
    """Another library's table: it has Arrow's stream interface and nothing else."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return TABLE.__arrow_c_stream__(requested_schema)


class SizedStream(Stream):
    """Another library's table that holds its rows, so it can be read again."""

    def __len__(self) -> int:
        return len(ROWS)


class SingleValues:
    """As polars' Series: a stream of values and not of rows."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pa.chunked_array([[1, 2]]).__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return 2


class Relation(Stream):
    """As DuckDB's relation: it has a length, and to know that, all its rows are computed."""

    def __len__(self) -> int:
        raise AssertionError("nobody may ask")


Relation.__module__ = "_duckdb"


class Scan:
    """As a scan of pyiceberg."""

    def to_arrow_batch_reader(self) -> pa.RecordBatchReader:
        return TABLE.to_reader(max_chunksize=3)

    def to_arrow(self) -> pa.Table:
        raise AssertionError("that would read all of it")


class LazyFrame:
    """As polars' LazyFrame."""

    def head(self, count: int) -> LazyFrame:
        assert count == 0
        return self

    def collect(self) -> pa.Table:
        return TABLE.slice(0, 0)

    def collect_batches(self, *, maintain_order: bool, chunk_size: int) -> Iterator[pa.Table]:
        assert maintain_order
        return iter(TABLE.slice(start, chunk_size) for start in range(0, len(TABLE), chunk_size))


class OneBatch:
    """Another library's record batch."""

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return TABLE.combine_chunks().to_batches()[0].__arrow_c_array__(requested_schema)


@each_row(
    ("given", "name", "repeatable", "total"),
    [
        (TABLE, "table", True, 7),
        (TABLE.combine_chunks().to_batches()[0], "table", True, 7),
        (TABLE.to_pandas(), "dataframe", True, 7),
        (SizedStream(), "table", True, 7),
        (TABLE.to_reader(max_chunksize=2), "stream", False, None),
        (Stream(), "stream", False, None),
        (Relation(), "stream", False, None),
        (dataset.dataset(TABLE), "stream", False, None),
        (dataset.dataset(TABLE).scanner(), "stream", False, None),
        (Scan(), "stream", False, None),
        (LazyFrame(), "stream", False, None),
        (iter(TABLE.to_batches(max_chunksize=2)), "stream", False, None),
        ((part for part in (TABLE.slice(0, 3), TABLE.slice(3).to_pandas())), "stream", False, None),
        (OneBatch(), "table", True, 7),
    ],
)
def test_reads_whatever_speaks_arrow(given: Any, name: str, repeatable: bool, total: int | None) -> None:
    source = open_source([given], batch_rows=3)
    (file,) = source.files
    assert (file.name, file.format, file.size, file.modified) == (name, "arrow", None, None)
    assert (source.repeatable, source.total_rows(), source.total_bytes()) == (repeatable, total, None)
    assert rows_of(batches(source)) == dict(enumerate(ROWS, start=1))
    assert source.changed() is None


def test_a_stream_can_begin_late_but_only_once() -> None:
    source = open_source([TABLE.to_reader(max_chunksize=2)])
    assert list(rows_of(batches(source, 0, 4, 6))) == [4, 5]
    with pytest.raises(SourceError, match="stream was read already"):
        batches(source)


def test_tables_are_told_apart_by_number() -> None:
    source = open_source([TABLE, TABLE.slice(3), TABLE.to_pandas()])
    assert [file.name for file in source.files] == ["table", "table 2", "dataframe"]
    assert len(rows_of(batches(source, 1))) == 4
    assert {batch.source for batch in batches(source, 1)} == {"table 2"}


def test_another_table_has_another_sample() -> None:
    tables = [TABLE, TABLE.slice(1), TABLE.slice(0, 6), TABLE.rename_columns(["id", "m"])]
    assert len({open_source([table]).files[0].sample for table in tables}) == len(tables)
    assert open_source([TABLE]).files == open_source([pa.Table.from_pylist(ROWS)]).files


def test_another_thread_may_be_importing_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Spark does while it makes the rows of a DataFrame."""
    monkeypatch.setitem(sys.modules, "pandas", types.ModuleType("pandas"))
    assert len(rows_of(batches(open_source([iter([TABLE])]), 0))) == len(ROWS)


def test_a_frame_keeps_its_types_and_loses_its_index() -> None:
    frame = pd.DataFrame(
        {
            "plan": pd.Categorical(["pro", None]),
            "when": pd.to_datetime(["2024-01-01", "NaT"], utc=True),
            "tags": [["a"], None],
            7: [1.5, float("nan")],
        },
        index=pd.Index([10, 20], name="key"),
    )
    moment = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    assert rows_of(batches(open_source([frame]))) == {
        1: {"plan": "pro", "when": moment, "tags": ["a"], "7": 1.5},
        2: {"plan": None, "when": None, "tags": None, "7": None},
    }


def test_text_that_is_none_costs_its_row_only() -> None:
    names = pa.array([b"a", b"\xff", None], pa.binary()).view(pa.string())
    coded = pa.DictionaryArray.from_arrays(pa.array([0, 0, 1]), names.slice(0, 2))
    found = batches(open_source([pa.table({"name": names, "coded": coded.slice(0, 3)})]))
    assert rows_of(found) == {1: {"name": "a", "coded": "a"}}
    assert [(r.row, r.reason) for r in rejects_of(found)] == [
        (2, 'column name: "\\xff" is not UTF-8 text'),
        (3, 'column coded: "\\xff" is not UTF-8 text'),
    ]
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), names)
    for nested in (lists, pa.StructArray.from_arrays([lists], ["tags"])):
        found = batches(open_source([pa.table({"x": nested})]))
        assert list(rows_of(found)) == [1, 3]
        assert [r.row for r in rejects_of(found)] == [2]
    found = batches(open_source([pa.table({"id": [1, 2, 3], "name": names})]))
    assert rows_of(found) == {1: {"id": 1, "name": "a"}, 3: {"id": 3, "name": None}}
    assert [(r.row, r.code, r.values) for r in rejects_of(found)] == [
        (2, "bad_encoding", '{"id":2,"name":"\\\\xff"}')
    ]


def test_a_broken_table_stops_the_run() -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\xff\0\0\0\x02\0\0\0"), pa.py_buffer(b"ab")]
    )
    with pytest.raises(SourceError, match=r"table: rows 1 to 1 are damaged"):
        batches(open_source([pa.table({"x": broken})]))


@each_row(
    ("given", "message"),
    [
        (pd.DataFrame({"x": [1, "a", b"c"]}), "can't be a table"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "a"),
        (pa.Table.from_arrays([pa.array([1])] * 2, names=["a", "a"]), "column a more than once"),
        (7, "a int is not a source"),
        ([{"id": 1}], "a list is not a source"),
        (Stream, "Stream is a class"),
        (SingleValues(), "can't be a table"),
    ],
)
def test_what_can_be_no_table_is_refused(given: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        open_source([given])
    assert caught.value.hint


def named(module: str, *methods: str) -> object:
    """An object of another library's type."""
    kind = type("Thing", (), dict.fromkeys(methods, lambda _: None))
    kind.__module__ = module
    return kind()


@each_row(
    ("given", "call"),
    [
        ([{"id": 1}, {"id": 2}], "pyarrow.Table.from_pylist(rows)"),
        ({"id": [1]}, "pyarrow.table(data)"),
        (named("polars.lazyframe.frame", "collect"), "frame.collect()"),
        (named("deltalake.table", "to_pyarrow_dataset", "to_pandas"), "table.to_pyarrow_dataset()"),
        (named("pyiceberg.table", "scan"), "table.scan()"),
        (named("pyspark.sql.classic.dataframe", "toArrow", "toPandas"), "frame.toArrow()"),
        (named("pyspark.sql.dataframe", "toPandas"), "frame.toPandas()"),
        (named("_duckdb", "sql"), "connection.sql(...)"),
        (named("somewhere", "to_arrow"), "to_arrow()"),
    ],
)
def test_a_refusal_names_the_call_that_works(given: object, call: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source([given])
    assert call in str(caught.value.hint)


@each_row(
    ("items", "message"),
    [
        ([], "no batch"),
        ([{"id": 1}], "batch 1 of the stream is a dict"),
        ([TABLE, TABLE.rename_columns(["id", "m"])], "batch 2 of the stream differs .* columns m, n"),
        ([TABLE, pa.table({"id": ["a"], "n": ["7"]})], "batch 2 .* column n as string, .* int64"),
        ([TABLE, pa.table({"id": ["a"], "n": [1.5]})], "batch 2 .* column n as double"),
        ([pa.table({"n": pa.array([1], pa.int8())}), pa.table({"n": [300]})], "batch 2 .* column n as int64"),
    ],
)
def test_a_generator_of_something_else_is_refused(items: list[Any], message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        batches(open_source([iter(items)]))
    assert caught.value.hint


def test_batches_of_a_generator_may_differ_in_what_means_nothing() -> None:
    items = [
        pa.table({"id": ["a"], "n": [1]}),
        pa.table({"n": pa.array([2], pa.int16()), "id": pa.array(["b"]).dictionary_encode()}),
        pa.table({"id": pa.nulls(1), "n": pa.nulls(1)}),
    ]
    assert rows_of(batches(open_source([iter(items)]))) == {
        1: {"id": "a", "n": 1}, 2: {"id": "b", "n": 2}, 3: {"id": None, "n": None},
    }  # fmt: skip


def test_a_stream_is_read_as_it_is_asked_for() -> None:
    made: list[int] = []

    def endless() -> Iterator[pa.Table]:
        while True:
            made.append(1)
            yield TABLE

    found = open_source([endless()], batch_rows=4).read(RowRange(0, 1, 12))
    assert [batch.rows.num_rows for batch in found] == [4, 3, 4]
    assert len(made) == 2


def test_a_big_batch_of_a_stream_comes_in_pieces() -> None:
    reader = pa.RecordBatchReader.from_batches(TABLE.schema, TABLE.combine_chunks().to_batches())
    assert [batch.rows.num_rows for batch in batches(open_source([reader], batch_rows=3))] == [3, 3, 1]


def test_a_column_can_be_read_alone() -> None:
    (batch,) = open_source([TABLE]).read(RowRange(0), columns=["n"])
    assert batch.rows.to_pydict() == {"n": [1, 2, 3, 4, 5, 6, 7]}


STREAMED = pa.table({"id": ["user-1", "user-2"], "plan": ["a", "b"]})
IDENTIFICATION = {"user_id": "id", "user_properties": {"plan": "plan"}}


class Once:
    """Another library's stream, which lets itself be asked again and then has nothing."""

    def __init__(self, table: pa.Table) -> None:
        self._reader = table.to_reader()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._reader.__arrow_c_stream__(requested_schema)


class Again:
    """One that hands out a new stream each time."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return STREAMED.to_reader().__arrow_c_stream__(requested_schema)


def job_in(folder: Path) -> Job:
    return Job.of({"name": "job", "identification": IDENTIFICATION}, folder=folder)


@pytest.mark.parametrize(
    "make", [lambda: STREAMED.to_reader(), lambda: Once(STREAMED)], ids=["reader", "other"]
)
@pytest.mark.parametrize("first", ["plan", "run", "preview"])
def test_a_stream_that_was_read_is_no_source(tmp_path: Path, sandbox: Sandbox, make: Any, first: str) -> None:
    job, stream = job_in(tmp_path), make()
    sending: dict[str, Any] = {"key": "any-key", "endpoint": sandbox.url, "rate": None}
    if first == "plan":
        assert plan(job, stream).tally.rows == 2
    elif first == "preview":
        assert list(preview(job, stream, count=1))
    else:
        assert run(job, stream, **sending).tally.rows == 2
    requests = sandbox.stats.requests
    for _ in range(2):
        with pytest.raises(SourceError, match="read already") as caught:
            run(job, stream, **sending)
        assert "read_all" in str(caught.value.hint)
    assert caught.value.exit_code == 7
    assert sandbox.stats.requests == requests


def test_looking_at_its_columns_is_not_reading_it(tmp_path: Path) -> None:
    reader = STREAMED.to_reader()
    assert open_source([reader]).schema().names == ["id", "plan"]
    assert plan(job_in(tmp_path), reader).tally.rows == 2


def test_what_hands_out_a_new_stream_each_time_may_be_read_again(tmp_path: Path) -> None:
    given = Again()
    assert [plan(job_in(tmp_path), given).tally.rows for _ in range(3)] == [2, 2, 2]


def test_a_fresh_stream_without_rows_is_one(tmp_path: Path) -> None:
    assert plan(job_in(tmp_path), STREAMED.schema.empty_table().to_reader()).tally.rows == 0


def test_nothing_is_remembered_of_streams_that_are_gone() -> None:
    from etl.reader import memory

    before = len(memory._spent)
    for _ in range(20):
        list(open_source([STREAMED.to_reader()]).read(RowRange(0)))
    gc.collect()
    assert len(memory._spent) <= before + 1
