"""A source shows what it holds, how much, and whether it changed, without reading more than it must."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.arrow.json_text import is_json
from etl.errors import SourceError
from etl.job.sections import CsvOptions
from etl.reader import open_source
from etl.reader.file_reader import OPEN, RowSpans
from etl.tally import RowRange
from tests.reader.reading import batches, opened, rows_of, workbook, written

TABLE = pa.table({"id": ["user-1", "user-2", "user-3"]})


def folder_of(tmp_path: Path) -> Path:
    written(tmp_path, "users/a.csv", "id,n,n\nuser-1,1,2\nuser-2,3\n")
    written(tmp_path, "users/b.ndjson", '{"id": "user-3"}\n{"n": 1}\n')
    pq.write_table(TABLE, tmp_path / "users" / "c.parquet")
    written(tmp_path, "users/d.csv", "\n")
    return tmp_path / "users"


def test_counts_good_and_bad_rows_until_there_are_enough(tmp_path: Path) -> None:
    source = open_source([folder_of(tmp_path)])
    assert source.count_rows(100) == 7
    assert source.count_rows(3) == 3
    assert source.total_rows() is None
    assert open_source([TABLE, TABLE]).total_rows() == 6
    assert source.total_bytes() == sum(path.stat().st_size for path in (tmp_path / "users").iterdir())
    assert [source.is_empty(file) for file in range(4)] == [False, False, False, True]


def test_columns_can_be_looked_up_and_added(tmp_path: Path) -> None:
    source = open_source([folder_of(tmp_path)])
    assert source.names(0) == ["id", "n (column 2)", "n (column 3)"]
    assert source.repeated(0) == {"n": [2, 3]}
    assert source.lacks(1, ["id", "n", "other"]) == ["other"]
    wider = source.with_columns(2, ["plan"])
    assert rows_of(batches(wider, 2))[1] == {"id": "user-1", "plan": None}
    source.fetch()  # nothing is from the web


MIXED: list[tuple[str, object]] = [("id", "v"), ("user-1", 1), ("user-2", "x")]


@pytest.mark.parametrize(
    ("name", "json"),
    [("a.csv", False), ("b.ndjson", True), ("c.parquet", False), ("d.xlsx", True)],
)
def test_json_comes_from_those_who_say_that_they_give_it(tmp_path: Path, name: str, *, json: bool) -> None:
    written(tmp_path, "a.csv", "".join(f"{key},{value}\n" for key, value in MIXED))
    written(tmp_path, "b.ndjson", '{"id": "user-1", "v": 1}\n{"id": "user-2", "v": "x"}\n')
    pq.write_table(TABLE.append_column("v", TABLE["id"]), tmp_path / "c.parquet")
    workbook(tmp_path / "d.xlsx", MIXED)
    source = open_source([tmp_path / name])
    read = source.read(RowRange(0), used=["v"])
    assert any(is_json(batch.rows["v"].type) for batch in read) is source.gives_json is json


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("id;n\n1;2\n", None),
        ("Title\nid,n\n1,2\n", "the header has 1 name, and the lines after it have 2 fields"),
        ("user@example.com,x\n", "the header looks like data (`user@example.com`)"),
    ],
)
def test_a_header_that_may_be_none_is_remarked(tmp_path: Path, text: str, remark: str | None) -> None:
    found = opened(written(tmp_path, "x.csv", text)).remarks()
    assert [remark in one for one in found if remark] == [True] * (remark is not None)
    assert open_source([tmp_path / "x.csv"], csv=CsvOptions(header=("a", "b"))).remarks() == []


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_list_for_a_spreadsheet_is_none_whatever_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    path = written(tmp_path, "x.csv", "source,row,code,reason,faults,id\nu.csv,1,short_id,r,f,u1\n")
    with pytest.raises(SourceError, match="list of rejects for a spreadsheet"):
        open_source([path], csv=CsvOptions(delimiter=delimiter))


def test_a_file_can_be_read_from_a_copy_under_its_name(tmp_path: Path) -> None:
    path, copy = written(tmp_path, "x.csv", "id\nuser-1\n"), written(tmp_path, "y.csv", "id\nuser-2\n")
    source = open_source([path])
    assert source.path(0) == path.resolve()
    assert open_source([TABLE]).path(0) is None
    kept = source.reading_from(0, copy)
    assert kept.files[0].name == str(path)
    assert rows_of(kept.read(RowRange(0))) == {1: {"id": "user-2"}}


def test_equal_content_has_an_equal_digest(tmp_path: Path) -> None:
    first, second = written(tmp_path, "x.csv", "id\nuser-1\n"), written(tmp_path, "y.csv", "id\nuser-1\n")
    source = open_source([first, second, TABLE, TABLE.slice(1), TABLE.to_reader()])
    digests = [source.digest(file) for file in range(5)]
    assert digests[0] == digests[1] is not None
    assert digests[2] not in (digests[3], None)
    assert digests[4] is None
    assert [source.digest_bytes(file) is None for file in range(5)] == [False, False, False, False, True]
    assert source.digest(0, lambda: True) is None
    first.write_text("id\nuser-2\n")
    assert source.digest(0) is None


def test_spans_that_overlap_are_merged() -> None:
    merged = RowSpans([(1, 4), (2, 3), (3, 6), (8, None), (9, 12)])
    assert list(merged.within(1, OPEN)) == [(1, 6), (8, OPEN)]
    assert list(RowSpans([(1, 6), (3, 3), (8, None)]).within(5, 10)) == [(5, 6), (8, 10)]


@pytest.mark.parametrize("name", ["x.csv", "x.ndjson", "x.csv.gz", "utf-16.csv"])
def test_the_number_of_rows_is_estimated_by_the_bytes_that_were_read(tmp_path: Path, name: str) -> None:
    """Within a tenth after a block, and exactly in the end, also if another file follows or is known."""
    chance, rows = random.Random(1), 60_000
    notes = [f"{chance.getrandbits(20 * chance.randint(1, 9)):x}" for _ in range(rows)]
    pack: Callable[[str], bytes] = {
        "x.csv.gz": lambda text: gzip.compress(text.encode(), 1),
        "utf-16.csv": lambda text: text.encode("utf-16"),
    }.get(name, str.encode)
    line = '{"id": "user-%d", "note": "%s"}\n' if name == "x.ndjson" else "user-%d,%s\n"
    header = "" if name == "x.ndjson" else "id,note\n"
    text = "".join(line % pair for pair in enumerate(notes))
    first = written(tmp_path, name, pack(header + text))
    second = written(tmp_path, f"second-{name}", pack(header + text))
    source = open_source([first, second, TABLE])
    assert name == "x.ndjson" or source.expected_rows() is None
    reading = source.read(RowRange(0))
    for _ in range(2):
        next(reading)
    assert source.expected_rows() == pytest.approx(2 * rows + 3, rel=0.1)
    for file in (0, 1):
        assert sum(batch.stop - batch.first for batch in source.read(RowRange(file))) == rows
    assert source.expected_rows() == 2 * rows + 3
