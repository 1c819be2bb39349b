"""Whose profile an identification changes, what is kept of the change, and that stored maps are dicts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.sandbox import profiles as module
from etl.sandbox.api_rules import DEVICE_KEYS, LOCATION_KEYS, TEXT_KEYS, Json
from etl.sandbox.profiles import (
    MOST_UPDATES,
    MapStore,
    Profile,
    Profiles,
    StoredMap,
    Update,
    note_update,
    property_changes,
    type_name,
)

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


# --- changes and counts of properties ------------------------------------------------------------------


def test_the_history_is_bounded_and_knows_each_last_change() -> None:
    updates: list[Update] = []
    note_update(updates, (0.0, "$set", {"a": None, "b": None}))
    for number in range(100):
        note_update(updates, (1.0, "$add", {"a": number}))
    changes = property_changes(updates, {"a": 100, "b": 5})
    values = [change.value for change in changes["a"]]
    assert values == list(range(100, 100 - len(values), -1))
    assert MOST_UPDATES <= len(values) <= 2 * MOST_UPDATES
    assert [(c.operator, c.value) for c in changes["b"]] == [("$set", 5)]
    for number in range(100):
        note_update(updates, (2.0, "$set", {f"p{number}": None}))
    assert len(updates) == 2 * MOST_UPDATES


NAMES = st.sampled_from(["p", "q"])
VALUES: st.SearchStrategy[Any] = st.sampled_from([1, 2.5, "x", True, ["y"], {"z": 1}, None])
OPERATORS = st.sampled_from(["$set", "$setOnce", "$add", "$append", "$remove", "$unset"])
IDS: st.SearchStrategy[dict[str, str]] = st.sampled_from(
    [
        {"user_id": "user-1"},
        {"user_id": "user-2"},
        {"device_id": "device-1"},
        {"device_id": "device-2"},
        {"user_id": "user-1", "device_id": "device-1"},
        {"user_id": "user-2", "device_id": "device-2"},
    ]
)
UPDATES = st.dictionaries(OPERATORS, st.dictionaries(NAMES, VALUES)) | st.just({"$clearAll": "-"})


@given(st.lists(st.tuples(IDS, UPDATES)))
def test_properties_are_counted_as_the_profiles_have_them(
    steps: list[tuple[dict[str, str], dict[str, Any]]],
) -> None:
    profiles = Profiles(wall=lambda: 1.0)
    for ids, updates in steps:
        profiles.apply({**ids, "user_properties": updates, "country": "x"})
    everyone: list[Profile] = [*profiles.users.values(), *profiles.devices.values()]
    assert profiles.owners.keys().isdisjoint(profiles.devices)
    assert {device for profile in profiles.users.values() for device in profile.device_ids} == {
        *profiles.owners
    }
    counted = {name: seen.types for name, seen in profiles.counts.largest(9)[0].items()}
    expected: dict[str, Counter[str]] = {}
    for profile in everyone:
        for name, value in profile.properties.items():
            expected.setdefault(name, Counter())[type_name(value)] += 1
    assert counted == expected


def test_the_first_values_of_a_property_are_few_and_have_each_type() -> None:
    profiles = Profiles()
    for number in range(100):
        for value in (number, "text", [number], None):
            updates: Any = {"$unset": {"p": "-"}} if value is None else {"p": value}
            profiles.apply({"user_id": f"user-{number}", "user_properties": updates})
            profiles.apply({"user_id": f"user-{number}", "user_properties": {f"own {number}": 1}})
    found, others = profiles.counts.largest(50)
    assert (len(found), others, "p" in found) == (50, 50, False)
    profiles.apply({"user_id": "user-1", "user_properties": {"p": True}})
    (seen,) = (one for name, one in profiles.counts.largest(101)[0].items() if name == "p")
    assert list(seen.examples.values()) == [0, "text", [0], True]
    assert seen.types == {"yes/no": 1}


# --- maps in SQLite ------------------------------------------------------------------------------------


KEYS = st.sampled_from(["a", "A", "b", "é", "%", "_", "a\x00", "", "\U0010ffff"])
STEPS = st.lists(st.tuples(st.sampled_from(["set", "delete", "len", "get"]), KEYS))


@pytest.mark.parametrize("memory", [False, True])
@given(STEPS)
def test_it_is_a_dict_in_order_of_insertion(memory: bool, steps: list[tuple[str, str]]) -> None:
    expected: dict[str, list[int]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PAGE", 2)
        found = StoredMap[list[int]](MapStore(memory=memory), "one")
        for number, (step, key) in enumerate(steps):
            if step == "set":
                expected[key], found[key] = [number], [number]
            elif step == "delete":
                assert found.pop(key, None) == expected.pop(key, None)
            elif step == "len":
                assert len(found) == len(expected)
            else:
                assert found.get(key) == expected.get(key)
        assert list(found.items()) == list(expected.items())
    with pytest.raises(KeyError):
        found["nobody"]
    with pytest.raises(KeyError):
        del found["nobody"]


def test_keys_are_found_by_their_beginning_and_then_by_any_part() -> None:
    found = StoredMap[int](MapStore(), "one")
    for key in ("xab", "abc", "ab", "100%", "x_y", "xAy", "AB", "é-ab", "a\\b"):
        found[key] = 1
    assert found.search("ab", 9) == ["ab", "abc", "AB", "xab", "é-ab"]
    assert found.search("ab", 2) == ["ab", "abc"]
    assert found.search("ab", 3) == ["ab", "abc", "AB"]
    assert [found.search(text, 9) for text in ("%", "_", "\\", "zz")] == [["100%"], ["x_y"], ["a\\b"], []]
    found["nul\0l"] = 1
    assert [found.search(text, 9) for text in ("\0", "L\0L", "\0x")] == [["nul\0l"], ["nul\0l"], []]
