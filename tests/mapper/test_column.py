"""What each type of the job file makes of text and of typed values, and what the words of `values` mean."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa

from etl.arrow.json_text import json_column
from tests.examples import each_row
from tests.mapper.mapping import outcomes

LONG = "é" * 1025


def nested(levels: int) -> object:
    return {"a": nested(levels - 1)} if levels else 1


OF_TEXT: list[tuple[str | None, str, object]] = [
    (None, "00123", "00123"),
    (None, "", None),
    (None, " ", " "),
    (None, "<script>'\"\\\n\u2028😀", "<script>'\"\\\n\u2028😀"),
    ("string", "00123", "00123"),
    ("string", "é" * 1024, "é" * 1024),
    ("string", LONG, "<too_long>"),
    ("number", "12", 12.0),
    ("number", "-.5e3", -500.0),
    ("number", "+1.", 1.0),
    ("number", "", None),
    ("number", "12,5", "<bad_number>"),
    ("number", " 12", "<bad_number>"),
    ("number", "nan", "<bad_number>"),
    ("number", "Infinity", "<bad_number>"),
    ("number", "0x1F", "<bad_number>"),
    ("number", "1_000", "<bad_number>"),
    ("number", "1e999", "<not_finite>"),
    ("integer", "007", 7),
    ("integer", "+5", 5),
    ("integer", "-9223372036854775808", -(2**63)),
    ("integer", "9223372036854775807", 2**63 - 1),
    ("integer", "9223372036854775808", "<bad_integer>"),
    ("integer", "1" * 5000, "<bad_integer>"),
    ("integer", "0" * 5000 + "1", 1),
    ("integer", "0x1F", "<bad_integer>"),
    ("integer", "1.0", "<bad_integer>"),
    ("integer", "1.5", "<bad_integer>"),
    ("integer", ".0", "<bad_integer>"),
    ("integer", "1.0.0", "<bad_integer>"),
    ("integer", "1e3", "<bad_integer>"),
    ("boolean", "TRUE", True),
    ("boolean", "n", False),
    ("boolean", "1", True),
    ("boolean", "2", "<bad_boolean>"),
    ("date", "2024-02-29", "2024-02-29"),
    ("date", "2023-02-29", "<bad_date>"),
    ("date", "2024-1-2", "<bad_date>"),
    ("date", "0000-01-01", "<bad_date>"),
    ("date", "0001-01-01", "0001-01-01"),
    ("date", "9999-12-31", "9999-12-31"),
    ("date", "2024-03-01T23:30:00-05:00", "2024-03-01"),
    ("date", "1969-12-31 23:59", "1969-12-31"),
    ("date", "2024-03-01T25:00:00", "<bad_date>"),
    ("date", "02/03/2024", "<bad_date>"),
    ("datetime", "2024-03-01T23:30:00-05:00", "2024-03-02T04:30:00"),
    ("datetime", "2024-03-01 23:30:00.999999999Z", "2024-03-01T23:30:00"),
    ("datetime", "1969-12-31T23:59:59.9", "1969-12-31T23:59:59"),
    ("datetime", "2024-03-01", "2024-03-01T00:00:00"),
    ("datetime", "2024-03-01T23:30", "2024-03-01T23:30:00"),
    ("datetime", "2024-03-01T23:30:00+0530", "2024-03-01T18:00:00"),
    ("datetime", "2024-03-01T23:60:00", "<bad_datetime>"),
    ("datetime", "2024-03-01T23:30:00+24:00", "<bad_datetime>"),
    ("datetime", "0001-01-01T00:00:00+01:00", "<bad_datetime>"),
    ("datetime", "9999-12-31T23:59:59-01:00", "<bad_datetime>"),
    ("datetime", "2024-02-30T00:00:00", "<bad_datetime>"),
    ("datetime", "1577836800", "<bad_datetime>"),
    ("list", "a, b ,,c", ["a", "b", "c"]),
    ("list", " , ", None),
    ("list", f"{'a' * 1000},{'b' * 25}", "<too_long>"),
    ("json", '{"a": [1, null, 2.5], "b": {"c": "é\\n"}}', {"a": [1, 2.5], "b": {"c": "é\n"}}),
    ("json", "null", None),
    ("json", '"text"', "text"),
    ("json", "{'a': 1}", "<bad_json>"),
    ("json", "NaN", "<bad_json>"),
    ("json", "[[1]]", "<nested_list>"),
    ("json", '[{"a": [1]}]', [{"a": [1]}]),
    ("json", '{"a":' * 40 + "1" + "}" * 40, nested(40)),
    ("json", '{"a":' * 41 + "1" + "}" * 41, "<too_deep>"),
    ("json", f'{{"a": "{LONG}"}}', "<too_long>"),
]


def test_text_becomes_the_type_or_a_reject() -> None:
    for type_, text, expected in OF_TEXT:
        assert repr(outcomes([text], type=type_)) == repr([expected]), (type_, text)


OF_TYPED_VALUES: list[tuple[str, pa.Scalar, object]] = [
    ("number", pa.scalar(3), 3),
    ("number", pa.scalar(float("nan")), None),
    ("number", pa.scalar(float("-inf")), "<not_finite>"),
    ("number", pa.scalar(Decimal("1.50")), 1.5),
    ("number", pa.scalar(value=True), "<bad_number>"),
    ("number", pa.scalar(""), None),
    ("integer", pa.scalar(17.0), 17),
    ("integer", pa.scalar(17.5), "<bad_integer>"),
    ("integer", pa.scalar(2.0**63), "<bad_integer>"),
    ("integer", pa.scalar(float("nan")), None),
    ("integer", pa.scalar(Decimal("17.00")), 17),
    ("integer", pa.scalar(Decimal("17.01")), "<bad_integer>"),
    ("integer", pa.scalar(2**64 - 1, pa.uint64()), 2**64 - 1),
    ("boolean", pa.scalar(1), True),
    ("boolean", pa.scalar(0.0), False),
    ("boolean", pa.scalar(2), "<bad_boolean>"),
    ("string", pa.scalar(17.0), "17"),
    ("string", pa.scalar(0.5), "0.5"),
    ("string", pa.scalar(Decimal("1.50")), "1.50"),
    ("string", pa.scalar(value=True), "true"),
    ("string", pa.scalar(dt.datetime(2024, 1, 2, 3, 4, 5, 6)), "2024-01-02T03:04:05"),
    ("string", pa.scalar([1, 2]), "[1,2]"),
    ("string", pa.scalar(""), ""),
    ("date", pa.scalar(dt.datetime(1969, 12, 31, 23, 59, 59, 999999)), "1969-12-31"),
    ("date", pa.scalar(dt.date(2024, 1, 2), pa.date64()), "2024-01-02"),
    ("datetime", pa.scalar(dt.date(1960, 1, 2)), "1960-01-02T00:00:00"),
    ("datetime", pa.scalar(-1, pa.timestamp("ns", "Asia/Tokyo")), "1969-12-31T23:59:59"),
    ("datetime", pa.scalar(10**12, pa.timestamp("s")), "<bad_datetime>"),
    ("list", pa.scalar(["a", None, ""]), ["a", ""]),
    ("list", pa.scalar([], pa.list_(pa.int8())), []),
    ("list", pa.scalar(5), [5]),
    ("list", pa.scalar([[1]]), "<nested_list>"),
    ("json", pa.scalar({"a": 1, "b": None}), {"a": 1}),
    ("json", pa.scalar(""), None),
]


def test_typed_values_become_the_type_or_a_reject() -> None:
    for type_, value, expected in OF_TYPED_VALUES:
        assert repr(outcomes(pa.repeat(value, 1), type=type_)) == repr([expected]), (type_, value)


TOO_LONG: list[tuple[dict[str, Any], str, object]] = [
    ({}, LONG, "é" * 1024),
    ({"type": "string"}, "😀" * 2000, "😀" * 1024),
    ({"type": "list"}, f"{'a' * 1000},{'b' * 24},c", ["a" * 1000, "b" * 24]),
    ({"type": "list"}, f"{'a' * 1000},{'b' * 25},c", ["a" * 1000]),
    ({"type": "list"}, "a" * 2000 + ",b", ["a" * 1024]),
    ({"type": "json"}, f'["{"a" * 1000}", "{"b" * 30}", 3]', ["a" * 1000]),
    ({"type": "json"}, f'{{"a": "{LONG}"}}', {"a": "é" * 1024}),
]


def test_what_is_too_long_can_be_cut() -> None:
    for spec, text, expected in TOO_LONG:
        other = "x" if spec.get("type") != "json" else "1"
        assert outcomes([text, other], too_long="truncate", **spec)[0] == expected, spec


def test_a_fault_of_one_row_leaves_the_others_alone() -> None:
    assert outcomes(["1", "x", "3", "", "+4", "1e999"], type="number") == [
        1,
        "<bad_number>",
        3,
        None,
        4,
        "<not_finite>",
    ]
    assert outcomes(["1", "x", "", "+4"], type="integer") == [1, "<bad_integer>", None, 4]


def test_an_empty_field_is_a_value_where_the_job_or_the_source_says_so() -> None:
    assert outcomes(["", "a"], empty="keep") == ["", "a"]
    assert outcomes(pa.array(["", "a"])) == ["", "a"]
    assert outcomes(pa.array(["", "a"]), type="list") == [None, ["a"]]


# --- words that stand for values -------------------------------------------------------------------------


YES = (("Ja", "true"), ("ja", "true"), ("nein", "false"), ("?", "null"))


def test_words_stand_for_values() -> None:
    texts = ["Ja", " ja ", "nein", "?", "", "JA", "vielleicht"]
    assert outcomes(texts, values=YES) == [True, True, False, None, None, "<bad_value>", "<bad_value>"]
    assert outcomes(texts[:3], values=YES, type="boolean") == [True, True, False]
    assert outcomes(texts, values=YES, invalid="skip", default="false")[3:] == [False, False, None, None]


@each_row(
    ("values", "expected"),
    [
        ((("a", "1"), ("b", "2")), [1, 2]),
        ((("a", "1"), ("b", "2.5")), [1, 2.5]),
        ((("a", "9007199254740993"), ("b", "0.5")), [9007199254740993, 0.5]),
        ((("a", '"x"'), ("b", '"y"')), ["x", "y"]),
        ((("a", "null"), ("b", "null")), [None, None]),
        ((("a", "true"), ("b", '"y"')), [True, "y"]),
        ((("a", "1"), ("b", '"1"')), [1, "1"]),
        ((("a", "0"), ("b", "false")), [0, False]),
    ],
)
def test_values_of_any_type_and_of_several(
    values: tuple[tuple[str, str], ...], expected: list[object]
) -> None:
    def same(found: list[object]) -> bool:
        return [(type(one), one) for one in found] == [(type(one), one) for one in expected]

    assert same(outcomes(["a", "b"], values=values)) or expected == [1, 2.5]
    assert outcomes(pa.array(["a", "b"]).dictionary_encode(), values=values) == expected
    lists = outcomes(["a", "b"], values=values, operator="$append")
    assert lists == [None if one is None else [one] for one in expected]


def test_values_that_are_no_text_are_compared_as_text() -> None:
    assert outcomes(pa.array([1, 0, None]), values=(("0", '"no"'), ("1", '"yes"'))) == ["yes", "no", None]
    assert outcomes(pa.array([True, False]), values=(("false", "0"), ("true", "1"))) == [1, 0]
    assert outcomes(pa.array([1.0, 2.0]), values=(("1", '"one"'),)) == ["one", "<bad_value>"]


def test_json_values_are_compared_as_text_too() -> None:
    column = json_column(['"Ja"', '{"a":1}', "[1]", "1", "123456789012345678901234", None])
    values = (*YES, ("1", "true"))
    assert outcomes(column, values=values) == [True, *["<bad_value>"] * 2, True, "<bad_value>", None]


def test_words_for_booleans_beside_numbers_stay_booleans() -> None:
    for number in ("2.5", "1"):
        words = (("n", number), ("yes", "true"), ("no", "false"), ("?", "null"))
        found = outcomes(["yes", "n", "no", "?"], values=words)
        assert json.dumps(found) == f"[true, {number}, false, null]"
