from __future__ import annotations

import json
from copy import deepcopy
from itertools import permutations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.sandbox.api_rules import (
    IDENTIFICATION_KEYS,
    ORDERED_OPERATORS,
    REFUSED_IDS_LOWER,
    Json,
    Properties,
    RequestRefusedError,
    check,
    parse_identifications,
    update,
)
from tests.examples import each_row


def nested(depth: int) -> Json:
    value: Json = "leaf"
    for _ in range(depth):
        value = {"in": value}
    return value


def with_properties(properties: Json) -> dict[str, Json]:
    return {"user_id": "user-1", "user_properties": properties}


GOOD: list[dict[str, Json]] = [
    {"user_id": "12345"},
    {"device_id": "device-1"},
    {"user_id": None, "device_id": "device-1"},
    {"user_id": "x" * 1024},
    {"user_id": "ab   "},
    {"user_id": "user-1", "unheard_of": 1},
    {"user_id": "user-1", "groups": {str(n): ["a", "b"] for n in range(5)}},
    with_properties(None),
    with_properties({"plain": [1, "a", {"in": ["list"]}], "null": None}),
    with_properties({name: {name: 1} for name in ORDERED_OPERATORS[1:]}),
    with_properties({"$clearAll": "-", "$add": {"n": None}}),
    with_properties({"deep": nested(40)}),
    with_properties({f"p{n}": n for n in range(1000)}),
    {**dict.fromkeys(sorted(IDENTIFICATION_KEYS), "text-value"), "user_properties": {}, "groups": {}},
]
BAD: dict[str, dict[str, Json]] = {
    "no id": {"user_properties": {"a": 1}},
    "null id": {"user_id": None},
    "number as id": {"user_id": 12345},
    "short id": {"user_id": "1234"},
    "long id": {"user_id": "x" * 1025},
    "blank id": {"user_id": "      "},
    "short device": {"user_id": "user-1", "device_id": "d"},
    "number in a string field": {"user_id": "user-1", "app_version": 1.5},
    "true for paying": {"user_id": "user-1", "paying": True},
    "groups in a list": {"user_id": "user-1", "groups": ["a"]},
    "six group types": {"user_id": "user-1", "groups": {str(n): "a" for n in range(6)}},
    "eleven groups": {"user_id": "user-1", "groups": {"org": [str(n) for n in range(11)]}},
    "group as object": {"user_id": "user-1", "groups": {"org": {"a": 1}}},
    "properties in a list": with_properties([1]),
    "plain beside operator": with_properties({"$set": {"a": 1}, "b": 2}),
    "unknown operator": with_properties({"$increment": {"a": 1}}),
    "two operators on one": with_properties({"$set": {"a": 1}, "$unset": {"a": "-"}}),
    "operator without names": with_properties({"$unset": ["a"]}),
    "text added": with_properties({"$add": {"a": "1"}}),
    "truth added": with_properties({"$add": {"a": True}}),
    "list in list": with_properties({"a": [1, [2]]}),
    "list in list, set": with_properties({"$set": {"a": {"b": [[2]]}}}),
    "list in list, appended": with_properties({"$append": {"a": [[2]]}}),
    "too deep": with_properties({"a": nested(41)}),
    "too deep in its list": with_properties({"$append": {"a": nested(40)}}),
    "too many properties": with_properties({f"p{n}": n for n in range(1001)}),
}


@pytest.mark.parametrize("identification", GOOD, ids=[str(one)[:60] for one in GOOD])
def test_takes_what_the_api_takes(identification: dict[str, Json]) -> None:
    check(identification)


@each_row("name", BAD)
def test_refuses_what_the_api_refuses(name: str) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        check(BAD[name])
    assert caught.value.status == 400


@each_row("word", sorted(REFUSED_IDS_LOWER))
def test_a_refused_id_is_refused_in_any_case_and_with_spaces(word: str) -> None:
    for user_id in (word.upper().center(6), word.lower().ljust(6), word.title().rjust(6)):
        with pytest.raises(RequestRefusedError):
            check({"user_id": user_id})


def test_an_answer_never_says_which_identification_is_at_fault() -> None:
    with pytest.raises(RequestRefusedError) as caught:
        check({"user_id": "nobody-else-has-this" * 100})
    assert "nobody" not in caught.value.message


@each_row(
    "text",
    ["", "[", "null", "3", '"a"', "[]", '[{"user_id":"user-1"},1]', '{"user_id":"user-1"', "[null]"]
    + [
        f'{{"user_id":"user-1","user_properties":{{"a":{bad}}}}}' for bad in ("NaN", "-Infinity", '"\\ud800"')
    ],
)
def test_what_isnt_json_objects_is_a_missing_event(text: str) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        parse_identifications(text)
    assert (caught.value.status, caught.value.message) == (400, "missing_event")


def test_one_object_or_an_array_of_them() -> None:
    one: dict[str, Json] = {"user_id": "user-1", "user_properties": {"a": 2**53 + 1}}
    assert parse_identifications(json.dumps(one)) == [one]
    assert parse_identifications(json.dumps([one, one])) == [one, one]


# --- operators -----------------------------------------------------------------------------------------


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
