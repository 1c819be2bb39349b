from __future__ import annotations

from copy import deepcopy
from itertools import permutations
from typing import TYPE_CHECKING

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.sandbox.property_operators import Properties, update

if TYPE_CHECKING:
    from etl.sandbox.checks import Json

BEFORE: Properties = {"n": 2, "word": "old", "tags": ["a", "b"]}
CASES: list[tuple[Properties, Properties]] = [
    ({"$set": {"word": "new", "other": 1}}, {**BEFORE, "word": "new", "other": 1}),
    ({"word": "new"}, {**BEFORE, "word": "new"}),
    ({"$set": {"word": None}}, BEFORE),
    ({"$setOnce": {"word": "new", "other": 1}}, {**BEFORE, "other": 1}),
    ({"$add": {"n": 0.5, "fresh": 3}}, {**BEFORE, "n": 2.5, "fresh": 3}),
    ({"$add": {"word": 1}}, BEFORE),
    ({"$append": {"tags": "a", "fresh": "x"}}, {**BEFORE, "tags": ["a", "b", "a"], "fresh": ["x"]}),
    ({"$append": {"word": "new"}}, {**BEFORE, "word": ["old", "new"]}),
    ({"$prepend": {"tags": ["x", "y"]}}, {**BEFORE, "tags": ["x", "y", "a", "b"]}),
    ({"$preInsert": {"tags": ["b", "c", "c"]}}, {**BEFORE, "tags": ["c", "a", "b"]}),
    ({"$postInsert": {"tags": ["b", "c"]}}, {**BEFORE, "tags": ["a", "b", "c"]}),
    ({"$remove": {"tags": "a", "word": "old", "fresh": "x"}}, {**BEFORE, "tags": ["b"]}),
    ({"$unset": {"tags": "-", "fresh": "-"}}, {"n": 2, "word": "old"}),
    ({"$clearAll": "-"}, {}),
    ({"$clearAll": "-", "$set": {"word": "new"}}, {"word": "new"}),
]
VALUES: st.SearchStrategy[Json] = st.one_of(
    st.text(max_size=20), st.integers(-9, 9), st.lists(st.sampled_from("abc"), max_size=4)
)


@pytest.mark.parametrize(("updates", "after"), CASES, ids=[str(updates) for updates, _ in CASES])
def test_an_operator_does_what_the_api_says(updates: Properties, after: Properties) -> None:
    properties = deepcopy(BEFORE)
    update(properties, updates)
    assert properties == after


def test_the_order_of_keys_never_matters() -> None:
    updates: list[tuple[str, Json]] = [
        ("$unset", {"word": "-"}),
        ("$set", {"n": 5}),
        ("$postInsert", {"tags": "c"}),
        ("$clearAll", "-"),
    ]
    outcomes = []
    for order in permutations(updates):
        properties = deepcopy(BEFORE)
        update(properties, dict(order))
        outcomes.append(properties)
    assert outcomes == [{"n": 5, "tags": ["c"]}] * 24


def test_true_is_never_taken_for_one() -> None:
    properties: Properties = {"mixed": [1, "1"]}
    update(properties, {"$postInsert": {"mixed": True}})
    update(properties, {"$remove": {"mixed": 1}})
    assert repr(properties["mixed"]) == "['1', True]"


@given(st.sampled_from(["$unset", "$set", "$setOnce", "$preInsert", "$postInsert", "$remove"]), st.data())
def test_a_resend_changes_nothing_but_under_the_unrepeatable_operators(
    operator: str, data: st.DataObject
) -> None:
    names = st.sampled_from(["p", "q", "r"])
    properties: Properties = data.draw(st.dictionaries(names, VALUES))
    updates: Properties = {operator: data.draw(st.dictionaries(names, VALUES))}
    update(properties, updates)
    once = deepcopy(properties)
    update(properties, updates)
    assert properties == once


def test_a_sum_never_outgrows_what_json_readers_take() -> None:
    properties: Properties = {"n": 2**64 - 1}
    update(properties, {"$add": {"n": 1}})
    assert orjson.loads(orjson.dumps(properties)) == {"n": 2.0**64}


def test_strings_are_cut_at_any_depth_and_lists_end_before_they_are_too_long() -> None:
    properties: Properties = {}
    deep: Json = {"inner": {"text": "x" * 1025}}
    update(properties, {"$set": {"text": "é" * 2000, "deep": deep, "list": ["a" * 1000, "b" * 24, "c"]}})
    assert properties == {
        "text": "é" * 1024,
        "deep": {"inner": {"text": "x" * 1024}},
        "list": ["a" * 1000, "b" * 24],
    }
