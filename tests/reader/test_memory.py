"""Tables in memory are read like files: the same places, the same types, nothing copied from an index."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from etl.errors import SourceError
from etl.model import Stretch
from etl.reader import open_source
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


@pytest.mark.parametrize(
    ("given", "name", "repeatable", "total"),
    [
        (TABLE, "table", True, 7),
        (TABLE.combine_chunks().to_batches()[0], "table", True, 7),
        (TABLE.to_pandas(), "dataframe", True, 7),
        (SizedStream(), "table", True, 7),
        (TABLE.to_reader(max_chunksize=2), "stream", False, None),
        (Stream(), "stream", False, None),
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
    assert rows_of(found) == {}
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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pd.DataFrame({"x": [1, "a", b"c"]}), "can't be a table"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "a"),
        (pa.Table.from_arrays([pa.array([1])] * 2, names=["a", "a"]), "column a more than once"),
        (7, "a int is no source"),
        ([{"id": 1}], "a list is no source"),
    ],
)
def test_what_can_be_no_table_is_refused(given: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        open_source([given])
    assert caught.value.hint


def test_a_column_can_be_read_alone() -> None:
    (batch,) = open_source([TABLE]).read(Stretch(0), columns=["n"])
    assert batch.rows.to_pydict() == {"n": [1, 2, 3, 4, 5, 6, 7]}
