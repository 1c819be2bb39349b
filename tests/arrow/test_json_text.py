"""JSON keeps every digit, and its values are grouped by kind."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from etl.arrow.json_text import dump_json, group_by_kind, json_as_text, json_column, load_json


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
