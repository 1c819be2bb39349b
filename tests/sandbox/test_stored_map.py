"""Maps in SQLite behave like dicts, and the counts of properties are those of the profiles in them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.sandbox import profiles
from etl.sandbox.profile_views import type_name
from etl.sandbox.profiles import MapStore, Profile, Profiles, StoredMap

KEYS = st.sampled_from(["a", "A", "b", "é", "%", "_", "a\x00", "", "\U0010ffff"])
STEPS = st.lists(st.tuples(st.sampled_from(["set", "delete", "len", "get"]), KEYS))


@pytest.mark.parametrize("memory", [False, True])
@given(STEPS)
def test_it_is_a_dict_in_order_of_insertion(memory: bool, steps: list[tuple[str, str]]) -> None:
    expected: dict[str, list[int]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiles, "_PAGE", 2)
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
