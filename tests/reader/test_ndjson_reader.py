"""NDJSON: one object a line, whatever its neighbours are; reject files hand out the rows in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.errors import SourceError
from etl.reader import decoding, ndjson_reader, open_source
from etl.reader.file_reader import ReadOptions
from etl.reader.ndjson_reader import NdjsonReader
from etl.tally import RowRange
from tests.examples import each_row, examples
from tests.reader.reading import batches, blocks, opened, read, rejects_of, rows_of, unpacked, written

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-2, 2, width=16)
    | st.sampled_from(["", "a", "é\n", "2024-01-01", "NaN"])
)
values = st.recursive(
    scalars,
    lambda v: st.lists(v, max_size=2) | st.dictionaries(st.sampled_from("xy"), v, max_size=2),
    max_leaves=4,
)
objects = st.dictionaries(st.sampled_from("abc"), values, max_size=3)
lines = objects.map(json.dumps) | st.sampled_from(
    ["", " ", "[1]", "{", '{"a":NaN}', '{"a":1}{"a":2}', '{"a":']
)
some = settings(
    max_examples=examples(100),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def ndjson(path: Path, block: int = 1 << 21, look: int = 1 << 26) -> NdjsonReader:
    return NdjsonReader(unpacked(path), ReadOptions(), block, look)


def lines_of(*rows: object) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


@some
@given(content=st.lists(lines, max_size=12), block=st.integers(1, 60))
def test_blocks_never_change_what_is_read(tmp_path: Path, content: list[str], block: int) -> None:
    path = written(tmp_path, "x.ndjson", "\n".join(content))
    small, whole = ndjson(path, block), ndjson(path)
    assert small.schema() == whole.schema()
    columns = whole.schema().names
    some_pieces, all_pieces = blocks(small, columns), blocks(whole, columns)
    assert rows_of(some_pieces) == rows_of(all_pieces)
    assert rejects_of(some_pieces) == rejects_of(all_pieces)
    assert sum(p.stop - p.first for p in some_pieces) == sum(1 for line in content if line.strip())


@some
@given(content=st.lists(objects, max_size=12))
def test_no_object_is_rejected_and_every_value_is_there(
    tmp_path: Path, content: list[dict[str, Any]]
) -> None:
    rows, rejects = read(tmp_path, lines_of(*content), "x.ndjson")
    assert rejects == []
    for row, original in zip(rows.values(), content, strict=True):
        assert {name for name, value in row.items() if value is not None} == {
            name for name, value in original.items() if value is not None
        }


@each_row(
    ("found", "expected"),
    [
        ([1, None, 2], [1, None, 2]),
        ([1, 2.5], [1.0, 2.5]),
        (["2024-01-01", "2024-01-02T10:00:00Z"], ["2024-01-01", "2024-01-02T10:00:00Z"]),
        ([["2024-01-01"], []], [["2024-01-01"], []]),
        ([True, False], [True, False]),
        ([True, 1], ["true", "1"]),
        ([1, "a", None], ["1", "a", None]),
        ([{"x": 1}, {"y": "2"}], [{"x": 1, "y": None}, {"x": None, "y": "2"}]),
        ([[1], ["a"]], [["1"], ["a"]]),
        ([[1], {"x": 1}], ["[1]", '{"x":1}']),
        ([9007199254740993], [9007199254740993]),
        (["", "\U0001f600"], ["", "\U0001f600"]),
    ],
)
def test_a_column_has_the_type_that_its_values_share(
    tmp_path: Path, found: list[Any], expected: list[Any]
) -> None:
    rows, rejects = read(tmp_path, lines_of(*({"v": value} for value in found)), "x.jsonl")
    assert [row["v"] for row in rows.values()] == expected
    assert rejects == []


def test_columns_stand_in_order_of_first_appearance(tmp_path: Path) -> None:
    path = written(tmp_path, "x.ndjson", lines_of({"b": 1}, {"a": 1, "b": 2}, {"c": None}))
    for block in (1, 20, 1000):
        assert ndjson(path, block).schema() == pa.schema(
            [("b", pa.int64()), ("a", pa.int64()), ("c", pa.string())]
        )


@each_row(
    "line",
    [
        "[1]",
        "5",
        "null",
        "{",
        '{"a":1} x',
        '{"a":1}{"a":2}',
        '{"a":NaN}',
        '{"a":1e400}',
        '{"a":01}',
        "{'a':1}",
        '{"a":"\\ud800"}',
    ],
)
def test_a_line_that_is_no_object_costs_its_row_only(tmp_path: Path, line: str) -> None:
    rows, rejects = read(tmp_path, f'{{"a":1}}\n\n{line}\n{{"a":3}}', "x.ndjson")
    assert rows == {1: {"a": 1}, 3: {"a": 3}}
    assert [(r.row, r.code, json.loads(r.values)) for r in rejects] == [(2, "bad_line", {"line": line})]


def test_bytes_that_are_no_text_cost_their_row_only(tmp_path: Path) -> None:
    rows, rejects = read(tmp_path, b'{"a":"x"}\n{"a":"\xff"}\n', "x.ndjson")
    assert rows == {1: {"a": "x"}}
    assert json.loads(rejects[0].values) == {"line": '{"a":"\\xff"}'}


@pytest.mark.parametrize(
    ("late", "reason"),
    [
        ({"n": "many"}, 'column n: "many" is not a whole number'),
        ({"n": 1.5}, "column n: 1.5 is not a whole number"),
        ({"n": True}, "column n: true is not a whole number"),
        ({"o": {"y": 1}}, 'column o: the key "y"'),
    ],
)
def test_what_does_not_fit_the_columns_seen_so_far_is_a_reject(
    tmp_path: Path, late: Any, reason: str
) -> None:
    path = written(tmp_path, "x.ndjson", lines_of(*[{"n": 1, "o": {"x": 2}}] * 9, late, {"n": 3.0, "new": 1}))
    file = ndjson(path, block=30, look=60)
    found = blocks(file, ["n", "o"])
    assert [(r.row, r.code) for r in rejects_of(found)] == [(10, "bad_line")]
    assert rejects_of(found)[0].reason.startswith(reason)
    assert rows_of(found)[11] == {"n": 3, "o": None}


def test_a_byte_order_mark_and_crlf_are_no_content(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, b'\xef\xbb\xbf{"a":1}\r\n\r\n{"a":2}\r\n', "x.ndjson")
    assert rows == {1: {"a": 1}, 2: {"a": 2}}


@pytest.mark.parametrize("between", ["\n", "\r\n", "\n\n"])
def test_a_mark_at_the_start_of_any_line_is_dropped(tmp_path: Path, between: str) -> None:
    text = between.join(['\ufeff{"a":1}', '\ufeff{"a":2}', '{"a":3}', '\ufeff\ufeff{"a":4}'])
    for block in (9, 1 << 20):
        file = ndjson(written(tmp_path, "x.ndjson", text.encode()), block)
        found = blocks(file, ["a"], exact=True)
        assert rows_of(found) == {n: {"a": n} for n in range(1, 5)}
        assert rejects_of(found) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n  "id": 1,\n  "plan": "a"\n}\n{\n  "id": 2\n}\n', "over several lines"),
        ('{"id": 1,\r\n "plan": "a"}\r\n', "over several lines"),
        ('\ufeff{\n\t"id": {\n' + '"x": 1,\n' * 90_000 + '"y": 2}}', "over several lines"),
        ('[{"id":1},\n{"id":2}]\n', "one JSON list"),
        ('[\n  {\n    "id": 1\n  }\n]\n', "one JSON list"),
        ('\n [{"id":1}, {"id":2}]', "one JSON list"),
    ],
)
def test_json_of_another_shape_is_refused_by_what_it_looks_like(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        opened(written(tmp_path, "x.ndjson", text.encode()))
    assert "one object a line" in str(caught.value.hint)
    assert "jq -c" in str(caught.value.hint)


@each_row(
    ("line", "reason"),
    [
        ('{"a":1}{"a":2}', "holds two objects"),
        ('{"a":1}, {"a":2}', "holds two objects"),
        ('{"a":1}\ufeff{"a":2}', "holds two objects"),
        ('{"a":1},', "ends with a comma"),
        ('[{"a":1}]', "is a JSON list"),
        ('{"a":1,"b":[-Infinity]}', "is not JSON because of -Infinity; write null in its place"),
        ('{"a":1', "is not a JSON object"),
    ],
)
def test_a_reject_says_what_its_line_looks_like(tmp_path: Path, line: str, reason: str) -> None:
    path = written(tmp_path, "x.ndjson", f'{{"a":1}}\n{line}\n{{"a":3}}'.encode())
    found = blocks(ndjson(path), ["a"], exact=True)
    (reject,) = rejects_of(found)
    assert (reject.row, reject.code) == (2, "bad_line")
    assert reason in reject.reason
    assert json.loads(reject.values) == {"line": line}
    assert rows_of(found) == {1: {"a": 1}, 3: {"a": 3}}


def test_two_objects_on_a_line_don_t_make_up_for_one_on_two(tmp_path: Path) -> None:
    text = '{"a":1}{"a":2}\n{"a":\n{"b":3}}\n{"a":4}\n'
    file = ndjson(written(tmp_path, "x.ndjson", text))
    found = blocks(file, ["a"], exact=True)
    assert [(r.row, r.code) for r in rejects_of(found)] == [(n, "bad_line") for n in (1, 2, 3)]


@pytest.mark.parametrize("look", [1, 1 << 20])
def test_other_columns_never_reject_a_row(tmp_path: Path, look: int) -> None:
    others = ["1", '"x"', '{"k1":1}', '{"k2":{"z":[]}}', "1e999", '"\\ud800"', '"\udcff"', "[[[]]]", "1" * 30]
    text = "\n".join(f'{{"a":{n},"b":{other}}}' for n, other in enumerate(others))
    path = written(tmp_path, "x.ndjson", text.encode("utf-8", "surrogateescape"))
    found = blocks(ndjson(path, look=look), ["a", "nowhere"], exact=True)
    assert rejects_of(found) == []
    assert rows_of(found) == {n + 1: {"a": n, "nowhere": None} for n in range(len(others))}
    originals = [piece.originals for piece in found if piece.originals is not None]
    assert [text.strip() for some in originals for text in some.to_pylist()] == path.read_bytes().split(b"\n")


@pytest.mark.parametrize(
    "value", ['"\\ud800"', '"\udcff"', '["a", "\\udfff"]', '{"\udcff": 1}', "[" * 500 + "]" * 500]
)
def test_what_is_no_text_costs_its_row_only_where_it_is_used(tmp_path: Path, value: str) -> None:
    text = f'{{"a":1}}\n{{"a":{value}}}\n{{"a":"x"}}'.encode("utf-8", "surrogateescape")
    found = blocks(ndjson(written(tmp_path, "x.ndjson", text)), ["a"], exact=True)
    (reject,) = rejects_of(found)
    assert (reject.row, reject.code) == (2, "bad_line")
    assert reject.reason.startswith("column a: ")


def test_a_byte_that_is_no_text_is_shown_as_one(tmp_path: Path) -> None:
    found = blocks(ndjson(written(tmp_path, "x.ndjson", b'{"a":"M\xfcller"}')), ["a"], exact=True)
    (reject,) = rejects_of(found)
    assert reject.reason == 'column a: "M\\xfcller" is not UTF-8 text'


@pytest.mark.parametrize("look", [1, 1 << 20])
def test_a_column_that_comes_late_is_found(tmp_path: Path, look: int) -> None:
    text = lines_of(*[{"a": 1}] * 50, {"late": "x"})
    file = ndjson(written(tmp_path, "x.ndjson", text), block=20, look=look)
    assert file.lacks(["a", "late", "nowhere"]) == ["nowhere"]
    assert rows_of(blocks(file, ["late"], (51, None), exact=True)) == {51: {"late": "x"}}


def test_columns_without_end_are_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson_reader, "_MOST_COLUMNS", 5)
    monkeypatch.setattr(ndjson_reader, "_KNOWN_SHAPES", 3)
    text = lines_of(*({"id": n, f"key {n}": str(n)} for n in range(40)))
    file = ndjson(written(tmp_path, "x.ndjson", text))
    assert len(file.names()) == 5
    assert file.lacks(["key 39", "key 40"]) == ["key 40"]
    assert rows_of(blocks(file, ["id", "key 39"], (40, None), exact=True))[40] == {"id": 39, "key 39": "39"}


def test_nesting_beyond_measure_costs_its_row_only(tmp_path: Path) -> None:
    deep = "[" * 900 + "]" * 900
    rows, rejects = read(tmp_path, f'{{"a":{deep}}}\n{{"a":[1]}}\n', "x.ndjson")
    assert list(rows) == [2]
    assert [(r.row, r.reason) for r in rejects] == [(1, "column a: the value is nested too deep")]


def test_deep_nesting_ends_in_text(tmp_path: Path) -> None:
    deep = "[" * 200 + "]" * 200
    rows, _ = read(tmp_path, f'{{"a":{deep}}}\n', "x.ndjson")
    value = rows[1]["a"]
    while isinstance(value, list):
        (value,) = value
    assert set(value) == {"[", "]"}


def test_a_line_that_never_ends_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_RECORD", 1000)
    path = written(tmp_path, "x.ndjson", '{"a":1}\n{"a":"' + "x" * 9000 + '"}\n')
    with pytest.raises(SourceError, match="row 2 is longer than"):
        ndjson(path, block=64).schema()


def test_one_json_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="one JSON list"):
        opened(written(tmp_path, "x.json", ' [{"a":1}]'))


def rejected(source: str, *rows: object) -> str:
    return lines_of(
        *({"source": source, "row": 7, "code": "ragged", "reason": "", "values": v} for v in rows)
    )


def test_rejects_of_a_csv_come_back_as_csv_text(tmp_path: Path) -> None:
    text = rejected("a/users.csv.gz", {"id": "1", "plan": ""}, {"id": 2, "extra fields": ["x"]})
    source = opened(written(tmp_path, "rejects.ndjson", text))
    found = batches(source)
    assert {batch.text for batch in found} == {True}
    assert set(source.schema().types) == {pa.string()}
    assert rows_of(found) == {
        1: {"id": "1", "plan": "", "extra fields": None},
        2: {"id": "2", "plan": None, "extra fields": '["x"]'},
    }


def test_rejects_of_other_files_keep_their_types(tmp_path: Path) -> None:
    text = rejected("users.parquet", {"id": 1, "plan": ""}, {"id": 2, "plan": None})
    found = batches(opened(written(tmp_path, "rejects.ndjson", text)))
    assert {batch.text for batch in found} == {False}
    assert rows_of(found) == {1: {"id": 1, "plan": ""}, 2: {"id": 2, "plan": None}}


def test_a_reject_without_values_is_a_reject_again(tmp_path: Path) -> None:
    text = rejected("users.parquet", {"id": 1}) + '{"source":"x","row":2}\n' + rejected("x", "text")
    found = batches(opened(written(tmp_path, "rejects.ndjson", text)))
    assert rows_of(found) == {1: {"id": 1}}
    assert [(r.row, r.code) for r in rejects_of(found)] == [(2, "bad_line"), (3, "bad_line")]


def test_a_reject_file_with_bytes_that_are_no_text_has_bad_lines(tmp_path: Path) -> None:
    line = b'{"source":"a","row":1,"code":"c","reason":"r","values":{"id":"user-1","plan":"%s"}}\n'
    path = tmp_path / "rejects.ndjson"
    path.write_bytes(line % b"pro" + line % b"\xc1")
    found = list(open_source([path]).read(RowRange(0), used=["id", "plan"]))
    assert [batch.rows.to_pylist() for batch in found] == [[{"id": "user-1", "plan": "pro"}]]
    assert [(r.row, r.code) for batch in found for r in batch.rejects] == [(2, "bad_line")]


def test_what_folders_say_stands_in_the_originals_of_every_row(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{}, {"a": 1}, {"a": "{}"}, {"a": {"b": {}}}]
    texts = ["{}", "{ }", *map(json.dumps, rows), ' { "a" : 1}']
    folder = {"dt": "2024-01-01", "k": 'a\\1"'}
    path = written(tmp_path, 'dt=2024-01-01/k=a%5C1"/x.ndjson', "\n".join(texts))
    found = list(opened(path).read(RowRange(0), used=["a", "dt"]))
    originals = [text for batch in found if batch.originals for text in batch.originals.to_pylist()]
    assert list(map(json.loads, originals)) == [{**folder, **json.loads(text)} for text in texts]
