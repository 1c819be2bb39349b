"""JSON lines are those of the rows, wherever in their buffers the rows begin."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from etl.arrow.json_text import json_lines, json_texts, mark_json_text
from etl.pipeline.figures import countable, json_of

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


def test_values_are_counted_as_the_json_that_is_sent() -> None:
    """Elements that are not text lie in a list of text with marks, which nobody is to see."""
    lists = pa.array([["a", mark_json_text('{"b":1}'), mark_json_text("2")], ["c"], []])
    assert json_of(countable(lists), lists.type) == ['["a",{"b":1},2]', '["c"]', "[]"]


@pytest.mark.parametrize(
    "kind", [pa.date32(), pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.large_string(), pa.float64()]
)
def test_lists_of_every_type_are_counted_as_json(kind: pa.DataType) -> None:
    texts = pa.array(["1"] * 3) if pa.types.is_large_string(kind) else pa.array([1, 2, 3])
    elements = texts.cast(pa.int32()).cast(kind) if pa.types.is_date(kind) else texts.cast(kind)
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 3]), elements)
    assert [json.loads(text) for text in json_of(countable(lists), lists.type)] == [
        json.loads(text) for text in json_texts(lists).to_pylist()
    ]


def test_maps_are_counted_as_json() -> None:
    maps = pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64()))
    assert json_of(countable(maps), maps.type) == ['{"a":1}', "{}"]
