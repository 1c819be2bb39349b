"""The rules that hold for every source, whatever it is made of."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import SourceError
from etl.job.sections import CsvOptions
from etl.reader import Source, open_source
from etl.tally import RowRange
from tests.examples import examples
from tests.reader.reading import Row, batches, csv_text, rejects_of, rows_of, workbook, written

N = 41
ROWS: list[Row] = [
    {"id": f"user-{i:03d}", "plan": ["pro", "", "free"][i % 3], "logins": i * 7} for i in range(1, N + 1)
]
TEXT: list[Row] = [{name: str(value) for name, value in row.items()} for row in ROWS]
AS_CSV = csv_text([["id", "plan", "logins"], *[list(row.values()) for row in TEXT]])
IN_FOLDERS: list[Row] = [{**row, "dt": "2024-01-01", "kind": "a b"} for row in ROWS]
ESCAPED: list[Row] = [{**row, "plan": f'{row["plan"]}\n,"\\'} for row in TEXT]
WITHOUT_EMPTY: list[Row] = [{**row, "plan": row["plan"] or None} for row in ROWS]
BATCH = 6

anything = settings(max_examples=examples(25), deadline=None, database=None)
bounds = st.integers(min_value=1, max_value=N + 5)


class SourceContract:
    """What a source promises. A subclass says how to make one of ROWS, and how its values come out."""

    expected: list[Row] = ROWS
    text = False
    rejected: tuple[int, ...] = ()
    csv = CsvOptions()

    def make(self, folder: Path) -> object:
        """A location that holds ROWS."""
        raise NotImplementedError

    def make_empty(self, folder: Path) -> object:
        """A location with the same columns and no rows."""
        raise NotImplementedError

    @pytest.fixture
    def source(self, tmp_path: Path) -> Source:
        return open_source([self.make(tmp_path)], batch_rows=BATCH, csv=self.csv)

    def test_gives_every_row_its_place(self, source: Source) -> None:
        expected = {n: row for n, row in enumerate(self.expected, start=1) if n not in self.rejected}
        found = batches(source)
        assert rows_of(found) == expected
        assert tuple(reject.row for reject in rejects_of(found)) == self.rejected
        assert {batch.source for batch in found} == {source.files[0].name}
        assert {batch.text for batch in found} == {self.text}

    def test_any_range_is_that_part_of_the_whole_and_its_batches_tile_it(self, source: Source) -> None:
        rows, rejects = rows_of(batches(source)), rejects_of(batches(source))

        @anything
        @given(first=bounds, length=st.none() | st.integers(0, N + 5))
        def check(first: int, length: int | None) -> None:
            found = batches(source, 0, first, None if length is None else first + length)
            end = N + 1 if length is None else min(N + 1, first + length)
            assert rows_of(found) == {n: row for n, row in rows.items() if first <= n < end}
            assert rejects_of(found) == [reject for reject in rejects if first <= reject.row < end]
            assert [batch.first for batch in found[:1]] == ([first] if first < end else [])
            assert [batch.stop for batch in found[-1:]] == ([end] if first < end else [])
            assert all(left.stop == right.first for left, right in pairwise(found))

        check()

    def test_every_row_of_a_batch_is_good_or_rejected(self, source: Source) -> None:
        for batch in batches(source):
            assert batch.rows.num_rows + len(batch.rejects) == batch.stop - batch.first <= BATCH
            places = sorted([*batch.numbers.tolist(), *(reject.row for reject in batch.rejects)])
            assert places == list(range(batch.first, batch.stop))

    def test_reading_again_gives_the_same(self, source: Source) -> None:
        assert source.repeatable
        assert [batch.rows for batch in batches(source)] == [batch.rows for batch in batches(source)]

    def test_rows_have_the_types_that_the_schema_says(self, source: Source) -> None:
        assert {batch.rows.schema for batch in batches(source)} == {source.schema()}
        assert set(source.schema().names) == set(self.expected[0])

    @pytest.mark.parametrize("columns", [["logins", "id"], ["plan"], ["id", "plan", "logins"]])
    def test_columns_come_as_asked_for(self, source: Source, columns: list[str]) -> None:
        found = list(source.read(RowRange(0), columns=columns))
        assert {tuple(batch.rows.schema.names) for batch in found} == {tuple(columns)}
        whole = rows_of(batches(source))
        assert rows_of(found) == {n: {c: row[c] for c in columns} for n, row in whole.items()}

    def test_rows_are_counted_even_without_columns(self, source: Source) -> None:
        found = list(source.read(RowRange(0), columns=[]))
        assert sum(batch.stop - batch.first for batch in found) == N

    def test_an_unknown_column_is_named_at_once(self, source: Source) -> None:
        with pytest.raises(SourceError, match=r"has no column colour") as caught:
            source.read(RowRange(0), columns=["id", "colour"])
        assert source.files[0].name in str(caught.value)

    def test_a_total_is_the_number_of_rows(self, source: Source) -> None:
        assert source.total_rows() in (None, N)

    def test_an_untouched_source_has_not_changed(self, source: Source) -> None:
        assert source.changed() is None

    def test_opening_again_finds_the_same_files(self, tmp_path: Path) -> None:
        location = self.make(tmp_path)
        assert open_source([location], csv=self.csv).files == open_source([location], csv=self.csv).files

    def test_without_rows_there_is_no_batch_and_no_error(self, tmp_path: Path) -> None:
        source = open_source([self.make_empty(tmp_path)], csv=self.csv)
        assert batches(source) == []
        assert source.schema().names[:1] == ["id"]


class TestCsv(SourceContract):
    expected = TEXT
    text = True

    def make(self, folder: Path) -> object:
        return written(folder, "users.csv", AS_CSV)

    def make_empty(self, folder: Path) -> object:
        return written(folder, "none.csv", "id,plan,logins\n")


class TestCsvWithRaggedRows(TestCsv):
    rejected = (1, 2, 20, N)

    def make(self, folder: Path) -> object:
        lines = AS_CSV.splitlines(keepends=True)
        for row in self.rejected:
            lines[row] = f"ragged {row}\n\n"
        return written(folder, "ragged.csv", "".join(lines))


class TestCsvWithWrongQuotes(TestCsv):
    """Each wrong quote swallows lines before its fault shows; all of them are still rows."""

    rejected = (2, 17, 18, 35)

    def make(self, folder: Path) -> object:
        lines = AS_CSV.splitlines(keepends=True)
        lines[2] = 'x,"open,1\n'
        lines[17] = 'x,closed"here,1,2\n'  # the quote of row 2 closes here, and this row is ragged
        lines[18] = '"q"z,1,2\n'
        lines[35] = '"never closed,1\n'
        return written(folder, "quotes.csv", "".join(lines))


class TestJoinedCsv(TestCsv):
    """Files one after the other, each with its mark and its header, in a gzip member of its own."""

    rejected = (11, 25)

    def make(self, folder: Path) -> object:
        lines = AS_CSV.splitlines(keepends=True)
        for row in self.rejected:
            lines[row] = lines[0].replace("\n", "\r\n")
        parts = ["".join(lines[:11]), "".join(lines[11:25]), "".join(lines[25:])]
        return written(
            folder, "joined.csv.gz", b"".join(gzip.compress(f"\ufeff{part}".encode()) for part in parts)
        )


class TestEscapedCsv(TestCsv):
    """Line ends, quotes and delimiters that are escaped are parts of values."""

    expected = ESCAPED
    csv = CsvOptions(escape="\\")

    def make(self, folder: Path) -> object:
        lines = AS_CSV.splitlines(keepends=True)
        parts = [line.rstrip("\n").split(",") for line in lines]
        text = "".join(f'{a},{b}\\\n\\,\\"\\\\,{c}\n' for a, b, c in parts[1:])
        return written(folder, "escaped.csv", lines[0] + text)


class TestGzippedCsv(TestCsv):
    def make(self, folder: Path) -> object:
        return written(folder, "users.csv.gz", gzip.compress(AS_CSV.encode()))


class TestTsv(TestCsv):
    def make(self, folder: Path) -> object:
        return written(folder, "users.tsv", AS_CSV.replace(",", "\t"))


class TestParquet(SourceContract):
    def make(self, folder: Path) -> object:
        pq.write_table(pa.Table.from_pylist(ROWS), folder / "users.parquet", row_group_size=10)
        return folder / "users.parquet"

    def make_empty(self, folder: Path) -> object:
        pq.write_table(pa.Table.from_pylist(ROWS).slice(0, 0), folder / "none.parquet")
        return folder / "none.parquet"


class TestPackedParquet(TestParquet):
    def make(self, folder: Path) -> object:
        plain = super().make(folder)
        assert isinstance(plain, Path)
        return written(folder, "packed.parquet.gz", gzip.compress(plain.read_bytes()))


class TestNdjson(SourceContract):
    def make(self, folder: Path) -> object:
        return written(folder, "users.ndjson", "".join(f"{json.dumps(row)}\n" for row in ROWS))

    def make_empty(self, folder: Path) -> object:
        return written(folder, "none.ndjson", "\n")

    def test_without_rows_there_is_no_batch_and_no_error(self, tmp_path: Path) -> None:
        source = open_source([self.make_empty(tmp_path)], csv=self.csv)
        assert batches(source) == []
        assert source.schema().names == []


class TestNdjsonWithBadLines(TestNdjson):
    rejected = (3, 4, N)

    def make(self, folder: Path) -> object:
        lines = [json.dumps(row) for row in ROWS]
        for row in self.rejected:
            lines[row - 1] = '{"id": "broken'
        return written(folder, "bad.ndjson", "\n\n".join(lines))


class TestExcel(SourceContract):
    """A workbook has no empty text."""

    expected = WITHOUT_EMPTY

    def make(self, folder: Path) -> object:
        return workbook(folder / "users.xlsx", [[*ROWS[0]], *(list(row.values()) for row in ROWS)])

    def make_empty(self, folder: Path) -> object:
        return workbook(folder / "none.xlsx", [[*ROWS[0]]])


class TestTable(SourceContract):
    def make(self, folder: Path) -> object:
        return pa.concat_tables([pa.Table.from_pylist(ROWS[:17]), pa.Table.from_pylist(ROWS[17:])])

    def make_empty(self, folder: Path) -> object:
        return pa.Table.from_pylist(ROWS).slice(0, 0)


class TestDataFrame(TestTable):
    def make(self, folder: Path) -> object:
        return pd.DataFrame(ROWS, index=range(100, 100 + N))

    def make_empty(self, folder: Path) -> object:
        return pd.DataFrame(ROWS).head(0)


class TestHiveFolder(SourceContract):
    expected = IN_FOLDERS

    def make(self, folder: Path) -> object:
        below = folder / "users" / "dt=2024-01-01" / "kind=a%20b"
        below.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(ROWS), below / "part-0.parquet", row_group_size=16)
        written(folder, "users/_SUCCESS", "")
        written(folder, "users/dt=2024-01-01/.part-0.crc", "x")
        return folder / "users"

    def make_empty(self, folder: Path) -> object:
        below = folder / "none" / "dt=2024-01-01"
        below.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(ROWS).slice(0, 0), below / "part-0.parquet")
        return folder / "none"

    def test_partition_columns_can_be_read_alone(self, source: Source) -> None:
        found = list(source.read(RowRange(0), columns=["dt"]))
        assert rows_of(found) == {n: {"dt": "2024-01-01"} for n in range(1, N + 1)}
