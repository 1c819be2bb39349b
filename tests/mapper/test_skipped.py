"""`invalid: skip`: a value that doesn't fit is left out and counted, and its row goes without it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.arrow.json_type import json_column
from etl.job.spec import ColumnSpec, Identification
from etl.mapper import Mapper
from etl.model import Mapped
from tests.mapper.mapping import USER, batch_of, outcomes, sent, setting, with_users

LONG = "x" * 1025


def mapped_of(texts: list[str | None], **spec: Any) -> Mapped:
    column = ColumnSpec(column="v", invalid="skip", **spec)
    return Mapper(setting(column)).map(with_users(pa.array(texts, pa.string()), text=True))


def counts(mapped: Mapped) -> dict[tuple[str, str], int]:
    return {(some.column, some.reason): len(some.rows) for some in mapped.skipped}


@pytest.mark.parametrize(
    ("type_", "text", "code"),
    [
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
    ],
)
def test_a_value_that_does_not_fit_is_left_out_and_counted(type_: str | None, text: str, code: str) -> None:
    mapped = mapped_of([text, None, text], type=type_)
    assert (mapped.rejects, sent(mapped)) == ((), [])
    assert [(s.column, s.reason, s.rows.tolist()) for s in mapped.skipped] == [("v", code, [1, 3])]


def test_nothing_speaks_for_a_value_that_is_wrong() -> None:
    assert outcomes(["x", "", "2"], type="number", invalid="skip", default="0") == [None, 0, 2]
    spec = ColumnSpec(column="v", type="number", invalid="skip", null="unset")
    mapped = Mapper(setting(spec)).map(with_users(pa.array(["x", "", "2"]), text=True))
    assert [one["user_properties"] for one in sent(mapped)] == [{"$unset": {"p": "-"}}, {"$set": {"p": 2}}]


@pytest.mark.parametrize("operator", ["$set", "$setOnce", "$add", "$append", "$preInsert", "$remove"])
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
