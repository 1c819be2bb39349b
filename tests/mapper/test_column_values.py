"""Texts that mean null, and `invalid: skip`."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.arrow.json_text import json_column
from etl.job.column_spec import ColumnSpec
from etl.job.identification_spec import Identification
from etl.job.scalars import ValueType
from etl.mapper import Mapper
from etl.model import Mapped, counts_of
from tests.examples import each_row
from tests.mapper.mapping import USER, batch_of, outcomes, reasons, sent, setting, with_users

WORDS = ("", "-", "NULL", "\\N", "k.A.")


@each_row("type_", [None, *get_args(ValueType)])
def test_words_for_null_are_null_under_every_type(type_: str | None) -> None:
    texts: list[str | None] = ["NULL", " NULL ", "\\N", "-", "\tk.A.", "\u00a0-"]
    assert outcomes(texts, type=type_, nulls=WORDS) == [None] * 6
    if type_ is None:
        assert outcomes(texts, nulls=WORDS, default='"x"') == ["x"] * 6


def test_other_words_stay_what_they_are() -> None:
    texts = ["null", "NULLS", "K.A.", "--", "x"]
    assert outcomes(texts, nulls=WORDS) == texts


def test_they_are_compared_before_any_step() -> None:
    assert outcomes(["NULL", "free"], nulls=("NULL",), transform=()) == [None, "free"]
    assert outcomes(["null"], nulls=("NULL",)) == ["null"]


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["NULL", "pro"]).dictionary_encode(),
        pa.array(["NULL", "pro"], pa.large_string()),
        pa.array(["NULL", "pro"], pa.string_view()),
        pa.array([b"NULL", b"pro"]),
    ],
    ids=lambda array: str(array.type),
)
def test_text_of_any_kind_is_compared(array: pa.Array) -> None:
    assert outcomes(array, nulls=("NULL",)) == [None, "pro"]


def test_what_is_not_text_is_not_compared() -> None:
    assert outcomes(pa.array([-1, 1]), nulls=("-1",)) == [-1, 1]


def test_empty_text_can_be_a_word_for_null_where_it_is_a_value() -> None:
    assert outcomes(["", " ", "x"], empty="keep") == ["", " ", "x"]
    assert outcomes(["", " ", "x"], empty="keep", nulls=("",)) == [None, None, "x"]
    assert outcomes(pa.array(["", "x"]), nulls=("",)) == [None, "x"]


def test_an_id_that_means_null_is_missing() -> None:
    identification = Identification(
        {"user_id": ColumnSpec(column="u", nulls=("NULL",))},
        operators={"$set": {"p": ColumnSpec(column="v")}},
    )
    rows = batch_of({"u": pa.array(["user-1", " NULL"]), "v": pa.array(["a", "b"])}, text=True)
    mapped = Mapper(identification).map(rows)
    assert [one["user_id"] for one in sent(mapped)] == ["user-1"]
    assert [(reject.row, reject.code) for reject in mapped.rejects] == [(2, "missing_id")]
    assert "there is no user_id" in reasons(mapped)[2]


@given(st.lists(st.sampled_from(["NULL", " NULL", "-", "x", "", "NUL"]) | st.text(max_size=3), min_size=1))
def test_words_for_null_are_what_empty_fields_are(texts: list[str]) -> None:
    emptied = ["" if text.strip() in {"NULL", "-"} else text for text in texts]
    assert outcomes(texts, nulls=("NULL", "-")) == outcomes(emptied)


LONG = "x" * 1025


def mapped_of(texts: list[str | None], **spec: Any) -> Mapped:
    column = ColumnSpec(column="v", invalid="skip", **spec)
    return Mapper(setting(column)).map(with_users(pa.array(texts, pa.string()), text=True))


def counts(mapped: Mapped) -> dict[tuple[str, str], int]:
    return {(column, reason): count for column, reason, count in counts_of(mapped.skipped)}


UNFIT: list[tuple[str | None, str, str]] = [
    (None, LONG, "too_long"),
    ("string", LONG, "too_long"),
    ("number", "12,5", "bad_number"),
    ("number", "1e999", "not_finite"),
    ("integer", "1.5", "bad_integer"),
    ("boolean", "maybe", "bad_boolean"),
    ("date", "soon", "bad_date"),
    ("datetime", "soon", "bad_datetime"),
    ("list", f"a,{LONG}", "too_long"),
    ("json", "{", "bad_json"),
]


def test_a_value_that_does_not_fit_is_left_out_and_counted() -> None:
    for type_, text, code in UNFIT:
        mapped = mapped_of([text, None, text], type=type_)
        assert (mapped.rejects, sent(mapped)) == ((), [])
        assert [(s.column, s.reason, s.rows.tolist()) for s in mapped.skipped] == [("v", code, [1, 3])]


def test_nothing_speaks_for_a_value_that_is_wrong() -> None:
    assert outcomes(["x", "", "2"], type="number", invalid="skip", default="0") == [None, 0, 2]
    spec = ColumnSpec(column="v", type="number", invalid="skip", null="unset")
    mapped = Mapper(setting(spec)).map(with_users(pa.array(["x", "", "2"]), text=True))
    assert [one["user_properties"] for one in sent(mapped)] == [{"$unset": {"p": "-"}}, {"$set": {"p": 2}}]


@each_row("operator", ["$set", "$setOnce", "$add", "$append", "$preInsert", "$remove"])
def test_under_every_operator(operator: str) -> None:
    expected = [None, [1] if operator in {"$append", "$preInsert", "$remove"} else 1]
    assert outcomes(["x", "1"], type="number", invalid="skip", operator=operator) == expected


def test_values_of_a_rejected_row_are_not_counted() -> None:
    identification = Identification(
        USER,
        operators={
            "$set": {
                "a": ColumnSpec(column="a", type="number", invalid="skip"),
                "b": ColumnSpec(column="b", type="number"),
            }
        },
    )
    columns = {
        "u": pa.array(["user-1", "user-2", "user-3"]),
        "a": pa.array(["x", "x", "1"]),
        "b": pa.array(["1", "x", "x"]),
    }
    mapped = Mapper(identification).map(batch_of(columns, text=True, first=11))
    assert [reject.row for reject in mapped.rejects] == [12, 13]
    assert [(some.column, some.rows.tolist()) for some in mapped.skipped] == [("a", [11])]
    assert sent(mapped) == [{"user_id": "user-1", "user_properties": {"$set": {"b": 1}}}]


def test_fields_and_groups_go_without_it_too() -> None:
    identification = Identification(
        USER | {"language": ColumnSpec(column="v", invalid="skip", type="integer")},
        groups={"g": ColumnSpec(column="v", invalid="skip", type="integer")},
    )
    mapped = Mapper(identification).map(with_users(pa.array(["x", "7"]), text=True))
    assert sent(mapped) == [{"user_id": "user-1", "language": "7", "groups": {"g": "7"}}]
    assert counts(mapped) == {("v", "bad_integer"): 2}


def test_json_values_and_lists() -> None:
    column = json_column(['{"a":[[1]]}', "[[1],[2]]", '{"a":1}', '"x"', "5"])
    spec = ColumnSpec(column="v", invalid="skip")
    mapped = Mapper(setting(spec)).map(with_users(column))
    assert [one["user_properties"]["$set"]["p"] for one in sent(mapped)] == [{"a": 1}, "x", 5]
    assert counts(mapped) == {("v", "nested_list"): 2}
    lists = pa.array([["a"], ["x" * 1025]])
    assert outcomes(lists, invalid="skip") == [["a"], None]


@given(st.lists(st.sampled_from(["1", "x", "", "2.5", LONG]), min_size=1, max_size=30), st.data())
def test_a_batch_in_pieces_counts_the_same(texts: list[str], data: st.DataObject) -> None:
    whole = mapped_of(list(texts), type="number")
    border = data.draw(st.integers(1, len(texts)))
    parts = [whole.between(1, border + 1), whole.between(border + 1, len(texts) + 1)]
    together = Counter[tuple[str, str]]()
    for part in parts:
        together.update(counts(part))
    assert +together == counts(whole)
    assert sum(together.values()) == sum(text in {"x", LONG} for text in texts)
