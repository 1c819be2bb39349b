"""CSV as the real world writes it: every record is a row or a reject, and no value changes on the way."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.errors import SourceError
from etl.job.sections import CsvOptions
from etl.reader import decoding, open_source
from etl.reader.csv_reader import checked
from tests.examples import each_row, examples
from tests.reader.reading import (
    batches,
    csv_batches,
    csv_text,
    opened,
    read,
    rejects_of,
    rows_of,
    written,
)

many = settings(
    max_examples=examples(150),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
fields = st.text(st.sampled_from("ab\",;|\t\n\r'é 0\\"), max_size=6)
records = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.lists(fields, min_size=n, max_size=n), min_size=1, max_size=12)
)


@many
@given(
    rows=records,
    delimiter=st.sampled_from(",;\t|"),
    style=st.sampled_from(
        [(csv.QUOTE_MINIMAL, "\r\n"), *((csv.QUOTE_ALL, end) for end in ("\n", "\r\n", "\r"))]
    ),
    block=st.integers(1, 64),
)
def test_reads_back_what_another_writer_wrote(
    tmp_path: Path, rows: list[list[str]], delimiter: str, style: tuple[int, str], block: int
) -> None:
    names = [f"c{i}" for i in range(len(rows[0]))]
    text = csv_text([names, *rows], delimiter=delimiter, quoting=style[0], lineterminator=style[1])
    path = written(tmp_path, "x.csv", text)
    found = csv_batches(path, block, delimiter=delimiter)
    assert [list(row.values()) for row in rows_of(found).values()] == rows
    assert rejects_of(found) == []


@many
@given(rows=st.lists(fields, min_size=1, max_size=40), block=st.integers(1, 64))
def test_blocks_never_change_what_is_read(tmp_path: Path, rows: list[str], block: int) -> None:
    path = written(tmp_path, "x.csv", "a,b\n" + "\n".join(rows))
    small, whole = csv_batches(path, block), csv_batches(path, 1 << 20)
    assert rows_of(small) == rows_of(whole)
    assert rejects_of(small) == rejects_of(whole)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_finds_the_delimiter_outside_quotes(tmp_path: Path, delimiter: str) -> None:
    header = delimiter.join(['"a,;|,;|,;|"', "b", "c"])
    rows, _ = read(tmp_path, f"{header}\n1{delimiter}2{delimiter}3\n")
    assert list(rows[1].values()) == ["1", "2", "3"]


def test_a_given_delimiter_wins(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, "a;b,c;d^e\n1^2\n", delimiter="^")
    assert rows == {1: {"a;b,c;d": "1", "e": "2"}}


def test_a_tsv_is_split_at_tabs_though_commas_are_more(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, "a,b,c,d\te\n1\t2\n", "x.tsv.gz")
    assert rows == {1: {"a,b,c,d": "1", "e": "2"}}


def test_values_stay_text_and_are_never_null(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, 'a,b,c,d\n00123,NULL,,""\ntrue,1e5,NaN, x \n')
    assert list(rows[1].values()) == ["00123", "NULL", "", ""]
    assert list(rows[2].values()) == ["true", "1e5", "NaN", " x "]


@each_row(
    ("data", "options"),
    [
        ("a,b\n1,Zoë\n".encode(), {}),
        ("\ufeffa,b\n1,Zoë\n".encode(), {}),
        ("\ufeffa,b\n1,Zoë\n".encode(), {"encoding": "latin-1"}),
        ("a,b\n1,Zoë\n".encode("utf-16"), {}),
        ("a,b\n1,Zoë\n".encode("utf-32"), {}),
        ("a,b\n1,Zoë\n".encode("utf-16-be"), {"encoding": "utf-16-be"}),
        ("a,b\n1,Zoë\n".encode("latin-1"), {"encoding": "latin-1"}),
        ("a,b\n1,Zoë\n".encode("cp1252"), {"encoding": "Windows-1252"}),
    ],
)
def test_text_comes_out_the_same_from_any_encoding(
    tmp_path: Path, data: bytes, options: dict[str, Any]
) -> None:
    assert read(tmp_path, data, **options) == ({1: {"a": "1", "b": "Zoë"}}, [])


def test_characters_are_not_torn_at_the_border_of_a_block(tmp_path: Path) -> None:
    names = [f"名前{i}" for i in range(40)]
    path = written(
        tmp_path, "x.csv", csv_text([["名", "b"], *[[name, "x"] for name in names]]).encode("shift_jis")
    )
    for block in range(1, 20):
        found = csv_batches(path, block, encoding="shift_jis")
        assert [row["名"] for row in rows_of(found).values()] == names


def test_bytes_that_are_no_text_cost_their_row_only(tmp_path: Path) -> None:
    data = b'a,b\n1,x\n2,M\xfcller\n3,"\xc3\xa9"\n\xff\xfe,4\n5,y\n'
    rows, rejects = read(tmp_path, data)
    assert {n: row["b"] for n, row in rows.items()} == {1: "x", 3: "é", 5: "y"}
    assert [(r.row, r.code, json.loads(r.values)) for r in rejects] == [
        (2, "bad_encoding", {"a": "2", "b": "M\\xfcller"}),
        (4, "bad_encoding", {"a": "\\xff\\xfe", "b": "4"}),
    ]
    remedy = "say which encoding it is with `csv: {encoding: NAME}`"
    assert rejects[0].reason == f'column b: "M\\xfcller" is not utf-8; {remedy}'


def test_bytes_that_an_encoding_lacks_cost_their_row_only(tmp_path: Path) -> None:
    rows, rejects = read(tmp_path, b"a,b\n1,\x81\n2,\x80\n", encoding="cp1252")
    assert rows == {2: {"a": "2", "b": "€"}}
    assert [(r.row, r.code) for r in rejects] == [(1, "bad_encoding")]


def test_a_ragged_row_with_bad_bytes_is_one_reject(tmp_path: Path) -> None:
    rows, rejects = read(tmp_path, b"a,b\n\xff\n2,x\n")
    assert rows == {2: {"a": "2", "b": "x"}}
    assert [(r.row, r.code, r.values) for r in rejects] == [(1, "ragged", '{"a":"\\\\xff"}')]


def test_ragged_rows_are_rejects_with_all_their_fields(tmp_path: Path) -> None:
    rows, rejects = read(tmp_path, 'a,b\n1\n2,3\n4,"5""\n",6,7\n')
    assert rows == {2: {"a": "2", "b": "3"}}
    assert [(r.source.rpartition("/")[2], r.row, r.code) for r in rejects] == [
        ("x.csv", 1, "ragged"),
        ("x.csv", 3, "ragged"),
    ]
    assert json.loads(rejects[0].values) == {"a": "1"}
    assert json.loads(rejects[1].values) == {"a": "4", "b": '5"\n', "extra fields": ["6", "7"]}
    assert rejects[0].reason == '1 field where the header has 2: "1"'


def test_reasons_show_only_the_begin_of_a_long_value(tmp_path: Path) -> None:
    _, (reject,) = read(tmp_path, f"a,b\n{'x' * 5000}\n")
    assert len(reject.reason) < 110
    assert json.loads(reject.values) == {"a": "x" * 5000}


def test_nothing_but_ragged_rows_is_nothing_but_rejects(tmp_path: Path) -> None:
    path = written(tmp_path, "x.csv", "a,b\n" + "x\n" * 500)
    found = csv_batches(path, 100)
    assert len(found) > 5
    assert [reject.row for reject in rejects_of(found)] == list(range(1, 501))


def test_blank_lines_are_no_records(tmp_path: Path) -> None:
    rows, rejects = read(tmp_path, "\n\r\na,b\n\n1,2\n\r\n\n3,4\n\n")
    assert rows == {1: {"a": "1", "b": "2"}, 2: {"a": "3", "b": "4"}}
    assert rejects == []


def test_an_empty_value_in_quotes_is_a_record_of_a_single_column(tmp_path: Path) -> None:
    assert read(tmp_path, 'a\n1\n\n""\n2') == ({1: {"a": "1"}, 2: {"a": ""}, 3: {"a": "2"}}, [])


def test_quotes_inside_plain_fields_are_characters(tmp_path: Path) -> None:
    rows, rejects = read(tmp_path, 'a,b\n5" disk,x\ny"",z"\nlast,row\n')
    assert [tuple(row.values()) for row in rows.values()] == [
        ('5" disk', "x"),
        ('y""', 'z"'),
        ("last", "row"),
    ]
    assert rejects == []


def test_text_after_a_closing_quote_is_a_reject_of_its_first_line(tmp_path: Path) -> None:
    rows, rejects = read(tmp_path, 'a,b\n1,2\n"q"x,3\n4,"x\n5,6\n7,y"z\n8,9\n')
    assert rows == {
        1: {"a": "1", "b": "2"},
        4: {"a": "5", "b": "6"},
        5: {"a": "7", "b": 'y"z'},
        6: {"a": "8", "b": "9"},
    }
    assert [(r.row, r.code, json.loads(r.values), r.swallowed) for r in rejects] == [
        (2, "stray_quote", {"line": '"q"x,3'}, 0),
        (3, "stray_quote", {"line": '4,"x'}, 2),
    ]
    assert "line 3" in rejects[0].reason
    assert "lines 4 to 6" in rejects[1].reason


def test_lines_after_an_open_quote_may_be_ragged(tmp_path: Path) -> None:
    rows, rejects = read(tmp_path, 'a,b\n1,"x\ny\n2,z"w\n')
    assert rows == {3: {"a": "2", "b": 'z"w'}}
    assert [(r.row, r.code) for r in rejects] == [(1, "stray_quote"), (2, "ragged")]


@each_row("end", ["\n", "\r\n", "\r"])
@each_row("size", [1, 7, 1 << 20])
def test_reasons_name_the_lines_of_the_file(tmp_path: Path, end: str, size: int) -> None:
    lines = ["", "a,b", '1,"x', 'y"', "", "2,3", '4,"z', "5,6"]
    found = rejects_of(csv_batches(written(tmp_path, "x.csv", end.join(lines) + end), size))
    assert [reject.code for reject in found] == ["unclosed_quote"]
    assert "lines 7 to 8 (2 lines)" in found[0].reason


def test_without_a_quote_character_quotes_are_characters(tmp_path: Path) -> None:
    rows, rejects = read(tmp_path, '"a",b\n"1,2\n', quote="")
    assert rows == {1: {'"a"': '"1', "b": "2"}}
    assert rejects == []


def test_another_quote_character_can_be_given(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, "a,b\n'x,''y',\"2\n", quote="'")
    assert rows == {1: {"a": "x,'y", "b": '"2'}}


@pytest.mark.parametrize("tail", ['3,"four\n5,6\n7,8', '"3,four\n5,6\n7,8\n', '3,4,"5\n6,7\n8,9'])
def test_an_unclosed_quote_is_told_with_its_place(tmp_path: Path, tail: str) -> None:
    rows, rejects = read(tmp_path, "a,b\n1,2\n" + tail)
    assert {row: values["a"] for row, values in rows.items()}[1] == "1"
    assert [(r.row, r.code, r.swallowed) for r in rejects if r.code != "ragged"] == [(2, "unclosed_quote", 2)]
    assert "lines 3 to 5 (3 lines)" in rejects[0].reason
    assert json.loads(rejects[0].values) == {"line": tail.partition("\n")[0]}
    assert len(rows) + len(rejects) == 4


@pytest.mark.parametrize("block", [64, 300, 1 << 20])
@pytest.mark.parametrize(("tail", "code"), [("", "unclosed_quote"), ('7,8"\n', "unclosed_quote")])
def test_a_quote_that_stays_open_too_long_counts_as_never_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, tail: str, code: str
) -> None:
    monkeypatch.setattr(decoding, "MAX_RECORD", 1000)
    path = written(tmp_path, "x.csv", 'a,b\n1,2\n3,"4\n' + "5,6\n" * 2000 + tail)
    found = csv_batches(path, block)
    assert [(reject.row, reject.code) for reject in rejects_of(found)] == [(2, code)]
    assert len(rows_of(found)) == 2001 + bool(tail)
    assert rejects_of(found)[0].swallowed == 249  # lines that begin within 1,000 bytes


def test_a_line_without_an_end_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_RECORD", 1000)
    path = written(tmp_path, "x.csv", "a,b\n1,2\n3," + "x" * 2000 + "\n5,6\n")
    with pytest.raises(SourceError, match="row 2 is longer than"):
        csv_batches(path, 64)


@pytest.mark.parametrize("quotes", ['a,"b\n1,2\n', 'a,"b"c\n1,2\n'])
def test_wrong_quotes_in_the_header_are_told(tmp_path: Path, quotes: str) -> None:
    with pytest.raises(SourceError, match="in the header a quote"):
        opened(written(tmp_path, "x.csv", quotes))


def test_a_value_may_be_longer_than_a_block(tmp_path: Path) -> None:
    long = "x,\n" * 3000
    path = written(tmp_path, "x.csv", csv_text([["a", "b"], ["1", long], ["2", "3"]]))
    assert rows_of(csv_batches(path, 64)) == {1: {"a": "1", "b": long}, 2: {"a": "2", "b": "3"}}


def test_a_header_may_be_longer_than_a_block(tmp_path: Path) -> None:
    names = [f"column {i}\n" for i in range(500)]
    path = written(tmp_path, "x.csv", csv_text([names, ["1"] * 500]))
    assert rows_of(csv_batches(path, 16)) == {1: dict.fromkeys(names, "1")}


def test_nul_bytes_are_part_of_a_value(tmp_path: Path) -> None:
    assert read(tmp_path, b"a,b\n1\x00,2\n") == ({1: {"a": "1\0", "b": "2"}}, [])


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n\r\n\n", b"\xff\xfe"])
def test_a_file_of_nothing_has_no_columns_and_no_rows(tmp_path: Path, data: bytes) -> None:
    source = opened(written(tmp_path, "x.csv", data))
    assert (source.schema().names, source.total_rows(), batches(source)) == ([], 0, [])


@each_row(
    ("data", "options", "message"),
    [
        (b"a,\xfc\n1,2\n", {}, "encoding"),
        ("a,b\n".encode("utf-16-le"), {}, "NUL bytes"),
        (b"a,b\n", {"encoding": "latin-99"}, "no text encoding called latin-99"),
        (b"a,b\n", {"encoding": "zlib"}, "no text encoding called zlib"),
        (b"a,b\n", {"delimiter": "::"}, "can't be the CSV delimiter"),
        (b"a,b\n", {"delimiter": '"'}, "can't be the CSV delimiter"),
        (b"a,b\n", {"delimiter": "x"}, "can't be the CSV delimiter"),
        (b"a,b\n", {"quote": "''"}, "can't be the CSV quote"),
    ],
)
def test_a_header_that_can_mean_no_columns_is_refused(
    tmp_path: Path, data: bytes, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        opened(written(tmp_path, "x.csv", data), **options)
    assert caught.value.hint


def test_usual_options_are_taken_as_they_are() -> None:
    for options in (
        CsvOptions(),
        CsvOptions(delimiter="\x01", quote=""),
        CsvOptions(delimiter="^", quote="'"),
    ):
        assert checked(options) is options


@each_row(
    ("text", "header", "warns"),
    [
        ("id,plan\nuser-1,pro\n", None, True),
        ("id,plan\nuser-1,pro\n", ("id", "plan"), True),
        ("above\n\n\n", ("id", "plan"), False),
        ("above\n\n\nid,plan\n", None, False),
        ("", None, False),
    ],
)
def test_a_file_that_skip_rows_leaves_out_as_a_whole_is_reported(
    tmp_path: Path, text: str, header: tuple[str, ...] | None, *, warns: bool
) -> None:
    (tmp_path / "u.csv").write_text(text)
    source = open_source([str(tmp_path / "u.csv")], csv=CsvOptions(header=header, skip_rows=3))
    assert [warning.code for warning in source.warnings] == ["skip_rows"] * warns
