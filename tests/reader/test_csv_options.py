"""Files that begin otherwise than with a header, and delimiters of every kind."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import SourceError
from etl.job.sections import CsvOptions
from etl.reader import Source, open_source
from tests.examples import each_row
from tests.reader.reading import batches


def opened(folder: Path, text: str | bytes, **options: Any) -> Source:
    path = folder / "x.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_source([path], csv=CsvOptions(**options))


def rows(source: Source) -> list[dict[str, Any]]:
    return [row for batch in batches(source) for row in batch.rows.to_pylist()]


def rejects(source: Source) -> list[tuple[int, str]]:
    return [(reject.row, reject.code) for batch in batches(source) for reject in batch.rejects]


@each_row("end", ["\n", "\r\n", "\r"])
@each_row(
    ("text", "options"),
    [
        ("Title, of 2024\n\na,b\n1,2\n", {"skip_rows": 2}),
        ('"Title\na,b\n1,2\n', {"skip_rows": 1}),
        ("x;y;z\n\n\na;b\n1;2\n", {"skip_rows": 3}),
        ("1,2\n", {"header": ("a", "b")}),
        ("junk\n1;2\n", {"header": ("a", "b"), "skip_rows": 1}),
        ("sep=;\na;b\n1;2\n", {}),
        ('"sep=|"\na|b\n1|2\n', {}),
        ("SEP=,\na,b\n1,2\n", {}),
        ("sep=#\na#b\n1#2\n", {}),
        ("sep=\u2603\na\u2603b\n1\u26032\n", {}),
        ("sep=\t\na\tb\n1\t2\n", {}),
        ("sep=;\na,b\n1,2\n", {"delimiter": ","}),
        ("sep=;\na;b\n1;2\n", {"skip_rows": 1}),
        ("sep=;\nTitle\na;b\n1;2\n", {"skip_rows": 2}),
        ("sep=;\n1;2\n", {"header": ("a", "b")}),
        ("\ufeffsep=;\na;b\n1;2\n", {}),
    ],
)
def test_what_stands_above_the_rows(tmp_path: Path, text: str, options: dict[str, Any], end: str) -> None:
    source = opened(tmp_path, text.replace("\n", end), **options)
    assert rows(source) == [{"a": "1", "b": "2"}]
    assert rejects(source) == []


def test_without_a_header_columns_go_by_their_places(tmp_path: Path) -> None:
    source = opened(tmp_path, "x;y\nz;\n", header=False)
    assert rows(source) == [{"1": "x", "2": "y"}, {"1": "z", "2": ""}]
    assert source.schema().names == ["1", "2"]
    assert rows(opened(tmp_path, "", header=False)) == []
    assert rows(opened(tmp_path, "", header=("a",))) == []
    assert rows(opened(tmp_path, "a\n", skip_rows=5)) == []


def test_a_header_that_is_there_all_the_same_is_no_row(tmp_path: Path) -> None:
    source = opened(tmp_path, "a,b\n1,2\n", header=("a", "b"))
    assert rows(source) == [{"a": "1", "b": "2"}]
    assert rejects(source) == [(1, "repeated_header")]
    spaced = opened(tmp_path, "a,b\n1,2\na , b\n3,4\na ,x\n")
    assert rows(spaced) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}, {"a": "a ", "b": "x"}]
    assert rejects(spaced) == [(2, "repeated_header")]


def test_lines_are_counted_from_the_top_of_the_file(tmp_path: Path) -> None:
    source = opened(tmp_path, 'sep=,\na,b\n1,2\n"x"y,3\n')
    (reject,) = (reject for batch in batches(source) for reject in batch.rejects)
    assert (reject.row, reject.code, "line 4" in reject.reason) == (2, "stray_quote", True)
    assert rejects(opened(tmp_path, "t\nt\na,b\n1\n", skip_rows=2)) == [(1, "ragged")]


@each_row("delimiter", ["\x01", "~", "§", "\x1f", "\u2603", "😀", "ß", "^", " ", "!", "\x7f"])
def test_any_character_parts_fields(tmp_path: Path, delimiter: str) -> None:
    text = 'a,b\n1,"x,""y"\n"~",é\n1,2,3\n'.replace(",", delimiter)
    source = opened(tmp_path, text, delimiter=delimiter)
    assert rows(source)[1] == {"a": "~", "b": "é"} or delimiter == "~"
    assert rows(source)[0] == {"a": "1", "b": f'x{delimiter}"y'}
    assert rejects(source) == [(3, "ragged")]
    (reject,) = (reject for batch in batches(source) for reject in batch.rejects)
    assert f"1{delimiter}2{delimiter}3" in reject.reason or not delimiter.isprintable()


@each_row("delimiter", ["x", "5", "\n", "\r", '"', "", "::", "\x1a"])
def test_what_can_part_nothing(tmp_path: Path, delimiter: str) -> None:
    with pytest.raises(SourceError, match="delimiter"):
        opened(tmp_path, "a\n", delimiter=delimiter)


def test_the_quote_is_never_taken_for_the_delimiter(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"'\|' can't be the CSV delimiter"):
        opened(tmp_path, "a|b\n1|2\n", quote="|")


@given(
    st.lists(
        st.lists(st.text(alphabet="aé§x \xc2\x1f\ufdd1\ufdd0\u2603", max_size=4), min_size=2, max_size=2),
        max_size=8,
    ),
    st.sampled_from(["§", "\u2603", "é"]),
)
def test_values_hold_a_delimiter_in_quotes(values: list[list[str]], delimiter: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = [f'"{one}"{delimiter}"{other}"\n' for one, other in values]
        source = opened(Path(folder), f"a{delimiter}b\n" + "".join(lines), delimiter=delimiter)
        assert rows(source) == [{"a": one, "b": other} for one, other in values]


def test_repeated_and_empty_names_can_be_told_apart(tmp_path: Path) -> None:
    source = opened(tmp_path, "a,s,s,, ,s (column 2)\n1,2,3,4,5,6\n")
    names = ["a", "s (column 2)'", "s (column 3)", "no name (column 4)", "no name (column 5)", "s (column 2)"]
    assert rows(source) == [dict(zip(names, "123456", strict=True))]
    assert source.repeated(0) == {"s": [2, 3]}


@each_row(
    ("text", "words"),
    [
        (
            '"Users, of 2024"\n\nid,email,plan\nu,e,p\n',
            "the header has 1 name, and the lines after it have 3",
        ),
        ("Report\nid;email;plan\nu;e;p\n", "the header has 1 name, and the lines after it have 3"),
        ("user-1,ada@example.com,pro\nuser-2,alan@example.com,free\n", "looks like data (`ada@example.com`)"),
        ("10001,2024-05-01\n10002,2024-05-02\n", "looks like data (`10001`)"),
        ("id,plan\nu,p\n", None),
        ("id\nu\n", None),
        ("2024,2023\n1,2\n", None),
    ],
)
def test_what_is_odd_about_a_header_is_told(tmp_path: Path, text: str, words: str | None) -> None:
    found = opened(tmp_path, text).remarks()
    assert [words in one for one in found] == [True] if words else found == []


@each_row(
    ("text", "name"),
    [
        ("u-10001,pro\nu-10002,free\n", "u-10001"),
        ("u1,12\nu2,13\n", "u1"),
        ("ada@example.com,pro\nalan@example.com,free\n", "ada@example.com"),
        ("u1;pro\n\nu27;free\n", "u1"),
        ("id,2024-05-01\nu1,12\n", "2024-05-01"),  # one column for each day
        ("q1,q2\na5,a7\n", "q1"),
        ("address_1,plan\nBond St 1,pro\n", "address_1"),
        ("id,plan\n", "id"),
    ],
)
def test_a_column_named_like_the_value_below_it_may_be_data(tmp_path: Path, text: str, name: str) -> None:
    source = opened(tmp_path, text)
    is_data = name.startswith(("u", "ada"))
    assert [f"(`{name}`)" in one for one in source.remarks([name])] == [True] * is_data
    named = opened(tmp_path, text, header=("a", "b"))
    assert named.remarks([name, "a", "b"]) == []
