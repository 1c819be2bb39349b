"""Maps in SQLite behave like dicts, whenever they are written; and a million profiles take no more memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.sandbox import stored_map
from etl.sandbox.profile_views import type_name
from etl.sandbox.profiles import Profile, Profiles
from etl.sandbox.stored_map import MapStore

KEYS = st.sampled_from(["a", "A", "b", "é", "%", "_", "a\x00", "", "\U0010ffff"])
STEPS = st.lists(st.tuples(st.sampled_from(["set", "delete", "change", "write", "len", "get"]), KEYS))


@pytest.mark.parametrize("memory", [False, True])
@given(STEPS, st.integers(1, 3))
def test_it_is_a_dict_in_order_of_insertion(memory: bool, steps: list[tuple[str, str]], most: int) -> None:
    expected: dict[str, list[int]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_map, "MOST_HELD", most)
        patch.setattr(stored_map, "_PAGE", 2)
        found = MapStore(memory=memory).map("one")
        for number, (step, key) in enumerate(steps):
            if step == "set":
                expected[key], found[key] = [number], [number]
            elif step == "delete":
                assert found.pop(key, None) == expected.pop(key, None)
            elif step == "change" and key in expected:
                expected[key].append(number)
                found[key].append(number)
            elif step == "write":
                found.write()
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
    found = MapStore().map("one")
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


@given(st.lists(st.tuples(IDS, UPDATES, st.booleans())))
def test_profiles_are_the_same_whenever_they_are_written(
    steps: list[tuple[dict[str, str], dict[str, Any], bool]],
) -> None:
    held, written = Profiles(wall=lambda: 1.0), Profiles(wall=lambda: 1.0)
    for ids, updates, writes in steps:
        for profiles in (held, written):
            profiles.apply({**ids, "user_properties": updates, "country": "x"})
        if writes:
            written.store.write()
    assert written.as_json() == held.as_json()
    assert dict(written.owners) == dict(held.owners)
    everyone: list[Profile] = [*written.users.values(), *written.devices.values()]
    assert [p.updates for p in everyone] == [
        p.updates for p in (*held.users.values(), *held.devices.values())
    ]
    counted = {name: seen.types for name, seen in written.counts.largest(9)[0].items()}
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
