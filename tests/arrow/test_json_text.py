"""JSON keeps every digit, and its lines are those of the rows, wherever in their buffers the rows begin."""

from __future__ import annotations

import json
import math

import pyarrow as pa
import pytest

from etl.arrow.json_text import (
    dump_json,
    group_by_kind,
    json_as_text,
    json_column,
    json_lines,
    load_json,
)

DEEP = pa.array([{"a": n, "b": {"c": str(n), "d": {"e": [n]}}} for n in range(10)])
COLUMNS = {
    "struct": pa.array([{"a": n} for n in range(10)]),
    "deep struct": DEEP,
    "struct of a cut struct": pa.StructArray.from_arrays([DEEP.slice(2, 8)], ["$set"]),
    "struct of structs": pa.StructArray.from_arrays([DEEP, DEEP], ["x", "y"]),
    "list of structs": pa.array([[{"q": {"r": n}}] for n in range(10)]),
    "map of structs": pa.array(
        [[("k", {"r": {"s": n}})] for n in range(10)],
        pa.map_(pa.string(), pa.struct({"r": pa.struct({"s": pa.int64()})})),
    ),
    "list of lists of structs": pa.array([[[{"q": {"r": n}}]] for n in range(10)]),
    "dictionary": pa.array(["a", "b"] * 5).dictionary_encode(),
}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("123456789012345678901234567890", None),
        ("1e400", "1e999"),
        ('{"a":[-1e400,2.5],"b":null}', '{"a":[-1e999,2.5],"b":null}'),
        ('"\\ud800"', '"\ud800"'),
        ("9" * 500, "1e999"),
    ],
)
def test_a_value_is_written_as_it_was_read(text: str, written: str | None) -> None:
    assert dump_json(load_json(text)) == (written or text)


@pytest.mark.parametrize("text", ["NaN", "[1,]", "Infinity"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        load_json(text)


def test_nesting_has_an_end() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        dump_json(deep)
    assert math.isinf(load_json("1e400"))


def test_values_are_grouped_by_kind() -> None:
    texts = ['"a"', None, "true", "-5", str(2**63), str(2**64), "1.5", "[1, 2.5]", '["a", null]', "[true]"]
    texts += ["[1]", f"[{2**64}]", '[1, "a"]', '{"a": 1}', f"[{2**53 + 1}, 0.5]"]
    found = {
        (kind, str(values.type)): (rows.tolist(), values.to_pylist())
        for kind, rows, values in group_by_kind(texts)
    }
    assert found == {
        ("typed", "string"): ([0], ["a"]),
        ("typed", "bool"): ([2], [True]),
        ("typed", "int64"): ([3], [-5]),
        ("typed", "uint64"): ([4], [2**63]),
        ("huge", "string"): ([5], [str(2**64)]),
        ("typed", "double"): ([6], [1.5]),
        ("typed", "list<item: double>"): ([7], [[1.0, 2.5]]),
        ("typed", "list<item: string>"): ([8], [["a", None]]),
        ("typed", "list<item: bool>"): ([9], [[True]]),
        ("typed", "list<item: int64>"): ([10], [[1]]),
        ("nested", "string"): ([11, 12, 13, 14], texts[11:]),
    }


def test_json_as_text_is_plain() -> None:
    column = json_column(['"a b"', None, '{"c":1}'])
    assert json_as_text(column).to_pylist() == ["a b", None, '{"c":1}']
    assert pa.record_batch([column], ["v"]).schema.field("v").type == column.type


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("start", [0, 3])
def test_cut_columns_come_out_right(name: str, start: int) -> None:
    column = COLUMNS[name].slice(start, 4)
    expected = [
        dict(value) if isinstance(value, list) and "map" in name else value for value in column.to_pylist()
    ]
    lines = json_lines(pa.record_batch([column], ["v"])).decode().splitlines()
    found = [json.loads(line)["v"] for line in lines]
    assert found == [_plain(value) for value in expected]


@pytest.mark.parametrize("start", [0, 3])
def test_cut_structs_keep_their_nulls(start: int) -> None:
    inner = [None, {"b": None}, {"b": 1}]
    structs = pa.array([None if n % 4 == 1 else {"a": inner[n % 3], "e": {}} for n in range(10)]).slice(start)
    lines = json_lines(pa.record_batch([structs], ["v"]), explicit_nulls=True).decode().splitlines()
    assert [json.loads(line)["v"] for line in lines] == structs.to_pylist()


def _plain(value: object) -> object:
    return json.loads(json.dumps(value))


def test_nulls_are_left_out_or_shown() -> None:
    rows = pa.record_batch({"a": pa.array([None, 1]), "b": ["x", None]})
    assert json_lines(rows) == b'{"b":"x"}\n{"a":1}\n'
    assert json_lines(rows, explicit_nulls=True) == b'{"a":null,"b":"x"}\n{"a":1,"b":null}\n'
    assert json_lines(rows.slice(0, 0)) == b""
