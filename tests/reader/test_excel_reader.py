"""Workbooks: cells come as what they are, from the sheet and the rows that the job names."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl import Job
from etl.errors import ExitCode, JobError, SourceError
from etl.job.sections import ExcelOptions
from etl.reader import Source, open_source
from etl.reader.files import HEAD
from etl.sandbox import SandboxOptions, running_sandbox
from tests.pipeline.making import run_once
from tests.pipeline.nights import arrived
from tests.reader.reading import batches, read, rejects_of, rows_of, workbook, written

DAY, MOMENT = dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 10, 20, 33)
NOON = dt.time(12, 30)
HOURS = dt.timedelta(hours=30, minutes=5)
NA = ValueError("#N/A")


def column(folder: Path, *cells: Any) -> tuple[pa.DataType, list[Any]]:
    """Type and values of a column of these cells; a column beside it keeps empty rows."""
    path = workbook(folder / "x.xlsx", [["n", "c"], *([n, cell] for n, cell in enumerate(cells))])
    source = open_source([path])
    values = [row.get("c") for row in rows_of(batches(source)).values()]
    return source.schema().field("c").type, values


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["a", None, "00123"], "string", ["a", None, "00123"]),
        ([1.0, 2, None], "int64", [1, 2, None]),
        ([2.0**53, 1.23e15], "int64", [2**53, 1230000000000000]),
        ([1e17, 1.0], "double", [1e17, 1.0]),
        ([1.5, 2], "double", [1.5, 2.0]),
        ([True, False, None], "bool", [True, False, None]),
        ([DAY, None], "date32[day]", [DAY, None]),
        ([MOMENT], "timestamp[us]", [MOMENT]),
        ([MOMENT, DAY], "timestamp[us]", [MOMENT, dt.datetime(2024, 2, 29)]),
        ([NOON, HOURS, -HOURS], "string", ["12:30:00", "30:05:00", "-30:05:00"]),
        ([None, None], "string", [None, None]),
        ([NA, 5], "int64", [None, 5]),
        ([5, "2,50 €", DAY, True], None, ["5", '"2,50 €"', '"2024-02-29"', "true"]),
    ],
)
def test_a_column_has_the_type_of_its_cells(
    tmp_path: Path, cells: list[Any], kind: str | None, values: list[Any]
) -> None:
    found, there = column(tmp_path, *cells)
    assert there == values
    assert kind is None or str(found) == kind


@pytest.mark.parametrize(
    ("early", "late", "values"),
    [
        (5, 1.5, [5.0, 1.5]),
        (DAY, MOMENT, [dt.datetime(2024, 2, 29), MOMENT]),
        (None, "x", [None, "x"]),
        (DAY, 7, ['"2024-02-29"', "7"]),
        ("x", True, ['"x"', "true"]),
    ],
)
def test_a_type_doesn_t_depend_on_where_in_the_sheet_a_cell_stands(
    tmp_path: Path, early: Any, late: Any, values: list[Any]
) -> None:
    _, found = column(tmp_path, early, *[None] * 9_000, late)
    assert [found[0], found[-1]] == values
    assert found.count(None) == 9_000 + values.count(None)


def sheet(folder: Path, *rows: Sequence[Any], **options: Any) -> Source:
    return open_source([workbook(folder / "x.xlsx", rows)], excel=ExcelOptions(**options))


def test_empty_rows_and_columns_around_the_table_are_no_part_of_it(tmp_path: Path) -> None:
    source = sheet(
        tmp_path, [], [None, "id", None, "plan"], [], [None, "user-1"], [], [None, None, None, "x"]
    )
    assert rows_of(batches(source)) == {1: {"id": "user-1", "plan": None}, 2: {"id": None, "plan": "x"}}


def test_a_merged_cell_has_its_value_in_its_first_row(tmp_path: Path) -> None:
    import xlsxwriter

    with xlsxwriter.Workbook(tmp_path / "x.xlsx") as book:
        page = book.add_worksheet()
        page.write_row(0, 0, ["id", "plan"])
        page.write_column(1, 0, ["user-1", "user-2"])
        page.merge_range(1, 1, 2, 1, "pro")
    plans = [row["plan"] for row in rows_of(batches(open_source([tmp_path / "x.xlsx"]))).values()]
    assert plans == ["pro", None]


def test_the_header_may_stand_below_other_rows_or_be_none(tmp_path: Path) -> None:
    title, header, row = ["Customers"], ["id", "plan"], ["user-1", "pro"]
    whole = {1: {"id": "user-1", "plan": "pro"}}
    assert rows_of(batches(sheet(tmp_path, title, header, row, skip_rows=1))) == whole
    assert rows_of(batches(sheet(tmp_path, row, header=("id", "plan")))) == whole
    assert rows_of(batches(sheet(tmp_path, row, header=False))) == {1: {"1": "user-1", "2": "pro"}}
    (remark,) = sheet(tmp_path, title, header, row).remarks()
    assert "1 name" in remark
    assert "`excel: {skip_rows: N}`" in remark


def test_a_row_that_repeats_the_header_is_a_reject(tmp_path: Path) -> None:
    source = sheet(tmp_path, ["customer_id", "mrr"], ["user-1", 5], ["customer_id", "mrr"], ["user-2", 6])
    found = batches(source)
    kept, rejects = rows_of(found), rejects_of(found)
    assert kept == {1: {"customer_id": "user-1", "mrr": 5}, 3: {"customer_id": "user-2", "mrr": 6}}
    assert [(reject.row, reject.code) for reject in rejects] == [(2, "repeated_header")]
    assert json.loads(rejects[0].values) == {"customer_id": "customer_id", "mrr": "mrr"}


def test_names_that_are_repeated_or_empty_are_a_fault_only_where_the_job_uses_them(tmp_path: Path) -> None:
    source = sheet(tmp_path, ["id", "plan", None, "plan", 2024], ["user-1", "a", "b", "c", "d"])
    assert source.names() == ["id", "plan (column 2)", "no name (column 3)", "plan (column 4)", "2024"]
    with running_sandbox() as sandbox:
        for name, error in (("2024", None), ("plan", "columns 2 and 4")):
            job = Job.of({"name": name, "identification": {"user_id": "id", "user_properties": {"p": name}}})
            if error is None:
                run_once(tmp_path, sandbox, tmp_path / "x.xlsx", job=job)
            else:
                with pytest.raises(JobError, match=error):
                    run_once(tmp_path, sandbox, tmp_path / "x.xlsx", job=job)
        assert arrived(sandbox) == {"user-1": {"p": "d"}}


def test_the_first_visible_sheet_is_read_or_the_one_that_is_named(tmp_path: Path) -> None:
    path = workbook(tmp_path / "x.xlsx", [["id"], ["one-1"]], [["id"], ["two-1"]])
    first = open_source([path])
    assert rows_of(batches(first)) == {1: {"id": "one-1"}}
    (warned,) = first.warnings
    assert "2 sheets, and One is read" in warned.message
    job = Job.of({"sheet": "Two", "identification": {"user_id": "id", "user_properties": {"p": "id"}}})
    second = open_source([path], excel=job.excel)
    assert rows_of(batches(second)) == {1: {"id": "two-1"}}
    assert second.warnings == ()
    with pytest.raises(SourceError, match="has no sheet three") as caught:
        open_source([path], excel=ExcelOptions(sheet="three"))
    assert caught.value.hint == "its sheets are: One, Two"


def test_a_workbook_may_be_packed_or_have_another_name(tmp_path: Path) -> None:
    path = workbook(tmp_path / "x.xlsx", [["id"], ["user-1"]])
    expected = {1: {"id": "user-1"}}
    assert read(tmp_path, gzip.compress(path.read_bytes()), "y.xlsx.gz")[0] == expected
    assert read(tmp_path, path.read_bytes(), "y.csv")[0] == expected


def test_a_workbook_may_come_through_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = random.Random(1)
    notes = [f"{noise.getrandbits(8_000):x}" for _ in range(1_500)]
    path = workbook(
        tmp_path / "x.xlsx", [["id", "note"], *([f"user-{n}", note] for n, note in enumerate(notes))]
    )
    assert path.stat().st_size > 1.2 * HEAD
    with path.open("rb") as stream:
        monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": stream})())
        source = open_source(["-"])
    assert [row["note"] for row in rows_of(batches(source)).values()] == notes
    assert source.changed() is None


def test_an_opendocument_sheet_is_read(tmp_path: Path) -> None:
    import zipfile

    spaces = " ".join(
        f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for short, name in {"office": "office", "table": "table", "text": "text"}.items()
    )
    cells = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    rows = "".join(f"<table:table-row>{cells.format(text)}</table:table-row>" for text in ("id", "user-1"))
    table = f'<office:body><office:spreadsheet><table:table table:name="T">{rows}</table:table>'
    with zipfile.ZipFile(tmp_path / "x.ods", "w") as book:
        book.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        manifest = '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>'
        book.writestr("META-INF/manifest.xml", manifest)
        content = f"<office:document-content {spaces}>{table}</office:spreadsheet></office:body>"
        book.writestr("content.xml", f"{content}</office:document-content>")
    assert rows_of(batches(open_source([tmp_path / "x.ods"]))) == {1: {"id": "user-1"}}


@pytest.mark.parametrize(
    "data", [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), b"PK\x03\x04" + bytes(600)]
)
def test_a_damaged_workbook_is_named(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SourceError, match=r"bad\.xlsx") as caught:
        open_source([written(tmp_path, "bad.xlsx", data)])
    assert "CSV" in (caught.value.hint or "")


@pytest.mark.parametrize(("number", "shown_as"), [(1.7e12, "[h]:mm:ss"), (-1e15, "yyyy-mm-dd")])
def test_a_number_that_is_no_time_is_named_with_its_row(tmp_path: Path, number: float, shown_as: str) -> None:
    import xlsxwriter

    with xlsxwriter.Workbook(tmp_path / "x.xlsx") as book:
        sheet = book.add_worksheet("One")
        sheet.write_column(0, 0, ["id", "a", None, "b"])
        sheet.write(3, 1, number, book.add_format({"num_format": shown_as}))
    with pytest.raises(SourceError, match="has a cell in row 4 whose number is too large") as caught:
        open_source([tmp_path / "x.xlsx"])
    assert "format the cell as a number" in str(caught.value.hint)


def test_without_the_extra_the_message_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workbook(tmp_path / "x.xlsx", [["id"], ["user-1"]])
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(SourceError, match="needs an extra") as caught:
        open_source([path])
    assert caught.value.exit_code == ExitCode.SOURCE
    assert 'pip install "propsync[excel]"' in (caught.value.hint or "")


def test_a_workbook_arrives_whole_and_its_rejects_can_be_corrected_and_run(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        ["id", "since", "mrr", "active", "seen"],
        [1230000000000001.0, DAY, 2015.1, True, MOMENT],
        ["user-2", "12.03.2024", "2.015,10 €", False, MOMENT],
        [1.5, DAY, 7, True, MOMENT],
        ["user-4", "k.A.", "viel", None, MOMENT],
    ]
    path = workbook(tmp_path / "x.xlsx", rows)
    properties = {
        "since": {
            "column": "since",
            "type": "date",
            "transform": [{"date_format": ["%d.%m.%Y", "%Y-%m-%d"]}],
        },
        "mrr": {"column": "mrr", "type": "number", "decimal": ",", "thousands": ".", "strip": "€ "},
        "active": "active",
        "seen": {"column": "seen", "type": "datetime"},
    }
    job = Job.of(
        {
            "name": "job",
            "nulls": ["k.A."],
            "identification": {"user_id": "id", "user_properties": properties},
        },
        folder=tmp_path,
    )
    both = {"since": "2024-02-29", "mrr": 2015.1, "active": True, "seen": "2024-02-29T10:20:33"}
    with running_sandbox(SandboxOptions()) as sandbox:
        summary = run_once(tmp_path, sandbox, path, job=job)
        assert summary.rejects_by_code == {"mangled_id": 1, "bad_number": 1}
        expected = {
            "1230000000000001": both,
            "user-2": {**both, "since": "2024-03-12", "active": False},
        }
        assert arrived(sandbox) == expected
        rejects = tmp_path / ".propsync" / "job" / "rejects.ndjson"
        lines = [json.loads(line) for line in rejects.read_text().splitlines()]
        assert [line["values"]["mrr"] for line in lines] == [7, "viel"]
        fixed = rejects.read_text().replace('"id":1.5', '"id":"user-3"').replace('"viel"', '"9,5"')
        again = run_once(tmp_path, sandbox, written(tmp_path, "fixed.ndjson", fixed), job=job)
        assert again.tally.rejected == 0
        expected = {
            "user-3": {**both, "mrr": 7},
            "user-4": {"mrr": 9.5, "seen": both["seen"]},
        }
        assert arrived(sandbox) == expected
