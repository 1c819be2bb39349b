from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from etl.sandbox.api_rules import DEVICE_KEYS, LOCATION_KEYS, TEXT_KEYS
from etl.sandbox.profiles import Profile, Profiles

if TYPE_CHECKING:
    from etl.sandbox.checks import Json

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
    profiles = applied({"user_id": "user-1"}, *({"user_id": "user-1", **update} for update in updates))
    expected: dict[str, str] = {}
    for update in updates:
        given_fields = {name: value for name, value in update.items() if value is not None}
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
    assert found(profiles, device_id="device-1") is profiles.users["user-1"]
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
