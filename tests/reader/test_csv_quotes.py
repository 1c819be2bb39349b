"""Quotes, escapes, marks and headers anywhere: rows and rejects are those of a slow and plain reader."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.model import Reject
from etl.reader import decoding
from etl.reader.file_reader import RowSpans, split_batches
from etl.tally import RowRange
from tests.examples import each_row, examples
from tests.reader.csv_reference import Found, Reference
from tests.reader.reading import csv_batches, csv_reader, opened, read, rejects_of, rows_of, written

many = settings(max_examples=examples(200), deadline=None)
signs = st.sampled_from(
    [
        "a",
        "b",
        "é",
        " ",
        ",",
        '"',
        '""',
        '","',
        "\\",
        '\\"',
        "\\\\",
        "\n",
        "\r\n",
        "\r",
        "\ufeff",
        "\ufdd0",
        "\ufdd0e",
        "N",
    ]
)
texts = st.lists(signs, max_size=40).map("".join)
# Lines that are mostly regular, so that wrong quotes swallow good lines, and records repeat the header.
fields = st.sampled_from(
    [
        "a",
        "",
        '"a"',
        '"a,\nb"',
        '"x ""y"" z"',
        '""',
        '5" disk',
        '"a"b',
        '"a',
        'a"',
        '"a\\"',
        '"a\\"b"',
        "a\\,b",
        "a\\",
        "\\N",
    ]
)
rows = st.lists(st.lists(fields, min_size=2, max_size=2).map(",".join) | st.just('a,"b"'), max_size=25)
ends = st.sampled_from(["\n", "\r\n", "\r"])


def found_in(path: Path, block: int, **options: str) -> list[Found]:
    """What our reader finds, in the words of the other."""
    pieces = csv_batches(path, block, **options)
    rejects = {reject.row: _found(reject) for reject in rejects_of(pieces)}
    good = {row: Found(tuple(values.values())) for row, values in rows_of(pieces).items()}
    both = {**good, **rejects}
    assert sorted(both) == list(range(1, len(both) + 1))
    return [both[row] for row in sorted(both)]


def _found(reject: Reject) -> Found:
    values = json.loads(reject.values)
    if reject.code in {"stray_quote", "unclosed_quote"}:
        return Found((), reject.code, values["line"], 1 + reject.swallowed)
    extra = values.pop("extra fields", [])
    return Found((*values.values(), *extra), reject.code)


@many
@given(
    text=texts | st.tuples(rows, ends).map(lambda both: both[1].join(both[0])),
    block=st.integers(1, 70) | st.just(1 << 20),
)
@pytest.mark.parametrize("escape", ["", "\\"])
def test_every_text_is_read_as_the_slow_reader_reads_it(text: str, block: int, escape: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), "x.csv", f"a,b\n{text}")
        expected = Reference(f"a,b\n{text}", escape=escape).records
        assert found_in(path, block, escape=escape, delimiter=",") == expected


@many
@given(
    text=st.tuples(rows, ends).map(lambda both: both[1].join(both[0])),
    block=st.integers(1, 70),
    first=st.integers(1, 12),
    length=st.integers(0, 12),
)
def test_any_stretch_is_that_part_of_the_whole(text: str, block: int, first: int, length: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), "x.csv", f"a,b\n{text}")
        whole = csv_batches(path, 1 << 20)
        spans = RowSpans([(first, first + length)])
        part = list(split_batches(csv_reader(path, block).batches(spans, ["b"]), spans, 3))
        inside = range(first, first + length)
        assert rejects_of(part) == [reject for reject in rejects_of(whole) if reject.row in inside]
        assert rows_of(part) == {
            row: {"b": values["b"]} for row, values in rows_of(whole).items() if row in inside
        }


@many
@given(text=texts, delimiter=st.sampled_from(";|\t^"), quote=st.sampled_from(["'", "|", ""]))
def test_other_delimiters_and_quotes_mean_the_same(text: str, delimiter: str, quote: str) -> None:
    if delimiter == quote:
        return
    text = f"a{delimiter}b\n" + text.replace(",", delimiter).replace('"', quote or '"')
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), "x.csv", text)
        expected = Reference(text, delimiter, quote, "\\").records
        assert found_in(path, 50, delimiter=delimiter, quote=quote, escape="\\") == expected


@each_row("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1"])
def test_marks_in_the_middle_are_dropped_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    mark = "" if encoding == "latin-1" else "\ufeff"
    lines = ["a,b", "1,x", f'{mark}"2",y', f"{mark}{mark}3,z", f"4,{mark}w", f"{mark}a,b"]
    data = "\r\n".join(lines).encode(encoding)
    option = encoding if encoding in {"utf-16-be", "latin-1"} else "utf-8"
    for block in (1, 5, 1 << 20):
        found = csv_batches(written(tmp_path, "x.csv", data), block, encoding=option)
        assert [list(row.values()) for row in rows_of(found).values()] == [
            ["1", "x"], ["2", "y"], ["3", "z"], ["4", f"{mark}w"]
        ]  # fmt: skip
        assert [(reject.row, reject.code) for reject in rejects_of(found)] == [(5, "repeated_header")]


@each_row(
    ("lines", "repeats"),
    [
        (["a,b", '"a","b"', "a,B", "a ,b", "a,b,", "b,a"], {1, 3}),
        (["a", "a", "b", '"a"'], {1, 3}),
        (["a,b", "a,b", "x,b", "a,y"], {1}),
    ],
)
@each_row("columns", [["a"], None])
def test_only_a_record_with_the_names_of_the_header_repeats_it(
    tmp_path: Path, lines: list[str], repeats: set[int], columns: list[str] | None
) -> None:
    source = opened(written(tmp_path, "x.csv", "\n".join(lines)))
    found = rejects_of(source.read(RowRange(0), columns=columns))
    assert {reject.row for reject in found if reject.code == "repeated_header"} == repeats


def test_a_reason_names_the_escape_only_where_it_would_help(tmp_path: Path) -> None:
    _, plain = read(tmp_path, 'a,b\n1,"x"y\n')
    _, escaped = read(tmp_path, 'a,b\n1,"x\\"y"\n')
    _, given_one = read(tmp_path, 'a,b\n1,"x"y\\"\n', escape="\\")
    assert ["escape" in rejects[0].reason for rejects in (plain, escaped, given_one)] == [False, True, False]


@pytest.mark.parametrize("most", [1 << 22, pytest.param(1 << 25, marks=pytest.mark.soak)])
def test_an_open_quote_needs_no_more_memory_than_a_record_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(decoding, "MAX_RECORD", most)
    mebibytes = most >> 20
    path = tmp_path / "big.csv"
    with path.open("wb") as file:
        file.write(b'a,b\n1,"x\n')
        for _ in range(mebibytes):
            file.write(b"12345678,abcdefghijklmnopqrstuvwxyz12\n" * (1 << 15))
    found = csv_reader(path).batches(RowSpans([(1, None)]), ["a"])
    sizes = [batch.stop - batch.first for batch in found]
    assert sum(sizes) == 1 + mebibytes * (1 << 15)
    assert max(sizes) < 120_000  # rows of a block, not of all that was looked at
