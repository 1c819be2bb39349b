from __future__ import annotations

from copy import deepcopy
from itertools import permutations
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.sandbox.api_rules import DEVICE_KEYS, LOCATION_KEYS, TEXT_KEYS, Json
from etl.sandbox.profiles import Profile, Profiles, Properties, update

FIELD_UPDATES = st.lists(
    st.dictionaries(st.sampled_from(sorted(TEXT_KEYS)), st.none() | st.sampled_from("abc")), max_size=6
)


def applied(*identifications: dict[str, Json]) -> Profiles:
    profiles = Profiles()
    for identification in identifications:
        profiles.apply(identification)
    return profiles


def found(profiles: Profiles, **ids: str) -> Profile:
    profile = profiles.find(ids.get("user_id"), ids.get("device_id"))
    assert profile is not None
    return profile


@given(FIELD_UPDATES)
def test_setting_one_of_a_family_resets_those_not_given(updates: list[dict[str, Any]]) -> None:
    profiles = applied({"user_id": "user-1"}, *({"user_id": "user-1", **fields} for fields in updates))
    expected: dict[str, str] = {}
    for fields in updates:
        given_fields = {name: value for name, value in fields.items() if value is not None}
        for family in (DEVICE_KEYS, LOCATION_KEYS):
            if set(family) & set(given_fields):
                expected = {name: value for name, value in expected.items() if name not in family}
        expected |= given_fields
    assert found(profiles, user_id="user-1").fields == expected


def test_the_families_are_those_of_the_footnotes() -> None:
    profiles = applied(
        {"user_id": "user-1", **dict.fromkeys(TEXT_KEYS, "old")},
        {"user_id": "user-1", "carrier": "new"},
        {"user_id": "user-1", "dma": "new"},
    )
    kept = TEXT_KEYS - DEVICE_KEYS - LOCATION_KEYS
    assert found(profiles, user_id="user-1").fields == {
        **dict.fromkeys(kept, "old"),
        "carrier": "new",
        "dma": "new",
    }


def test_ids_lose_the_spaces_around_them_and_keep_their_case() -> None:
    profiles = applied({"user_id": " User-1 ", "user_properties": {"a": 1}}, {"user_id": "user-1"})
    assert list(profiles.users) == ["User-1", "user-1"]


def test_a_group_type_is_replaced_and_never_unset() -> None:
    profiles = applied(
        {"user_id": "user-1", "groups": {"org": "a", "team": ["x", "y"]}},
        {"user_id": "user-1", "groups": {"org": ["b", "c"], "team": None}},
        {"user_id": "user-1", "groups": {"team": []}},
    )
    assert found(profiles, user_id="user-1").groups == {"org": ["b", "c"], "team": ["x", "y"]}


def test_a_device_without_a_user_has_a_profile_of_its_own() -> None:
    profiles = applied({"device_id": "device-1", "user_properties": {"a": 1}}, {"user_id": "user-1"})
    assert found(profiles, device_id="device-1").properties == {"a": 1}
    assert found(profiles, user_id="user-1").properties == {}


def test_linking_merges_the_device_and_the_users_values_win() -> None:
    profiles = applied(
        {"user_id": "user-1", "user_properties": {"both": "user"}, "city": "Rome", "groups": {"org": "u"}},
        {
            "device_id": "device-1",
            "user_properties": {"both": "device", "own": "device"},
            "country": "FR",
            "os_name": "iOS",
            "groups": {"org": "d", "team": "d"},
        },
        {"user_id": "user-1", "device_id": "device-1", "user_properties": {"$setOnce": {"own": "late"}}},
    )
    user = found(profiles, user_id="user-1")
    assert user.properties == {"both": "user", "own": "device"}
    assert user.fields == {"city": "Rome", "os_name": "iOS"}
    assert user.groups == {"org": ["u"], "team": ["d"]}
    assert (user.device_ids, list(profiles.devices)) == (["device-1"], [])


def test_a_linked_device_speaks_for_its_first_user_for_good() -> None:
    profiles = applied(
        {"user_id": "user-1", "device_id": "device-1"},
        {"user_id": "user-2", "device_id": "device-1"},
        {"device_id": "device-1", "user_properties": {"a": 1}},
    )
    assert found(profiles, device_id="device-1") == profiles.users["user-1"]
    assert profiles.users["user-1"].properties == {"a": 1}
    assert profiles.users["user-2"].properties == {}


def test_a_user_never_shares_values_with_the_request_or_another_user() -> None:
    tags: Json = ["a"]
    profiles = applied(
        {"user_id": "user-1", "user_properties": {"$append": {"tags": tags}}},
        {"user_id": "user-2", "user_properties": {"$append": {"tags": tags}}},
        {"user_id": "user-2", "user_properties": {"$append": {"tags": "b"}}},
    )
    assert profiles.users["user-1"].properties == {"tags": ["a"]}
    assert profiles.users["user-2"].properties == {"tags": ["a", "b"]}


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
