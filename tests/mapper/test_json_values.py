"""Lists in text: JSON's and Postgres' arrays are read whole, and never split at their commas."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.job.column_spec import ColumnSpec
from etl.job.identification_spec import Identification
from etl.mapper import Mapper
from tests.mapper.mapping import USER, outcomes, sent, with_users

BAD = "<bad_list>"


FORMS: list[tuple[str, object]] = [
    ('["a","b"]', ["a", "b"]),
    (' [ "a, b" , "c" ] ', ["a, b", "c"]),
    ("[1, 2.5, true, null]", [1, 2.5, True]),
    ('["a", 1, {"b": [2]}]', ["a", 1, {"b": [2]}]),
    ("[]", []),
    ("[[1]]", "<nested_list>"),
    ("['a', 'b']", BAD),
    ('["a","b', BAD),
    ("[a], b", BAD),
    ("[", BAD),
    ("{vip,beta}", ["vip", "beta"]),
    ('{"two words",beta}', ["two words", "beta"]),
    ("{ two words , b }", ["two words", "b"]),
    (r'{"q\"x","back\\slash",""}', ['q"x', "back\\slash", ""]),
    ('{a,NULL,null,"NULL"}', ["a", "NULL"]),
    ("{}", []),
    ("{ }", []),
    ("{{a},{b}}", "<nested_list>"),
    ("{a,,b}", BAD),
    ("{a,}", BAD),
    ("{a", BAD),
    ("{a},{b}", BAD),
    (r'["\ud800"]', "<bad_json>"),
    (r'["\uD83D\uDE00"]', ["\U0001f600"]),
    ('{"a"b}', BAD),
    ('{"a": 1}', BAD),
    ("\u00a0[1]", [1]),
    ("\u3000{a", BAD),
    ("vip, beta", ["vip", "beta"]),
    ("a[1], b", ["a[1]", "b"]),
    ("", None),
]


def test_every_form() -> None:
    for text, expected in FORMS:
        assert outcomes([text], type="list") == [expected], text
        assert outcomes(pa.array([text, None]), type="list") == [expected, None], text
        together = outcomes(["x,y", text, "[1]", text], type="list")
        assert together == [["x", "y"], expected, [1], expected], text


def test_half_a_surrogate_pair_beside_a_path_does_no_harm() -> None:
    texts: list[str | None] = [r'{"a":1,"b":"\ud800"}', r'{"a":"\udc00"}', r'{"a":"\ud83d\ude00"}']
    assert outcomes(texts, path=("a",)) == [1, "<bad_json>", "\U0001f600"]


def test_limits_hold_within_them() -> None:
    many = json.dumps(list(range(400)))
    assert outcomes([many], type="list") == [list(range(400))]
    long = json.dumps(["x" * 600, "y" * 600])
    assert outcomes([long], type="list") == ["<too_long>"]
    assert outcomes([long], type="list", too_long="truncate") == [["x" * 600]]
    assert outcomes([long, "{a"], type="list", invalid="skip") == [None, None]


@pytest.mark.parametrize("operator", ["$append", "$preInsert", "$remove"])
def test_under_operators_for_lists(operator: str) -> None:
    assert outcomes(['["a",1]', "{b}"], type="list", operator=operator) == [["a", 1], ["b"]]


def test_groups_are_text() -> None:
    identification = Identification(USER, groups={"g": ColumnSpec(column="v", type="list")})
    rows = with_users(pa.array(['[1,"a"]', "{b,c}", "d,e"]), text=True)
    assert [one["groups"]["g"] for one in sent(Mapper(identification).map(rows))] == [
        ["1", "a"],
        ["b", "c"],
        ["d", "e"],
    ]


scalars = st.text(max_size=5) | st.integers(-(2**63), 2**63 - 1) | st.booleans()


@given(st.lists(st.lists(scalars, max_size=4), max_size=10), st.sampled_from([",", ";", "]"]))
def test_json_arrays_come_back_whole(lists: list[list[Any]], separator: str) -> None:
    texts: list[str | None] = [json.dumps(one) for one in lists]
    assert outcomes(texts, type="list", separator=separator) == lists


@given(st.lists(st.lists(st.text(max_size=6), max_size=4), max_size=10))
def test_postgres_arrays_come_back_whole(lists: list[list[str]]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    texts: list[str | None] = ["{" + ",".join(map(quoted, one)) + "}" for one in lists]
    assert outcomes(texts, type="list") == lists


def test_a_default_of_a_list_stands_where_no_row_of_the_batch_has_one() -> None:
    expected = [["d"], ["d"]]
    assert outcomes(['{"b":1}', None], path=("a",), default='"d"', operator="$append") == expected
    assert outcomes(['{"b":1}', '{"a":["x"]}'], path=("a",), default='"d"', operator="$append")[0] == ["d"]
