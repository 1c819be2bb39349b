"""The users and devices that the sandbox knows, and how one identification changes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from etl.sandbox.api_rules import DEVICE_KEYS, LOCATION_KEYS, LONGEST_STRING, TEXT_KEYS
from etl.sandbox.checks import Identification, Json, trimmed_id
from etl.sandbox.property_operators import Properties, update

# Whose profile: (user_id, "") or (None, device_id).
UserKey: TypeAlias = tuple[str | None, str]
NOBODY: Final[UserKey] = (None, "")  # of an identification without a usable id
_FAMILIES: Final = (DEVICE_KEYS, LOCATION_KEYS)


@dataclass(slots=True)
class Profile:
    """One user, or one device that no user was named for. `fields` has the string fields by API name."""

    user_id: str | None
    device_ids: list[str] = field(default_factory=list)
    properties: Properties = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    groups: dict[str, list[Json]] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return the profile as the User Profile API does, with the API's other fields beside."""
        return {
            "user_id": self.user_id,
            "device_ids": self.device_ids,
            "amp_props": self.properties,
            "groups": self.groups,
            **self.fields,
        }


class Profiles:
    """All profiles by id.

    `users` by user_id; `devices` by device_id, those without a user; `owners` holds the user that a device
    belongs to for good.
    """

    def __init__(self) -> None:
        self.users: dict[str, Profile] = {}
        self.devices: dict[str, Profile] = {}
        self.owners: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.users) + len(self.devices)

    def key(self, identification: Identification) -> UserKey:
        """Return whose profile an identification changes."""
        user_id, device_id = trimmed_id(identification, "user_id"), trimmed_id(identification, "device_id")
        if user_id is None and device_id is not None:
            user_id = self.owners.get(device_id)
        return (user_id, "") if user_id is not None else (None, device_id or "")

    def apply(self, identification: Identification) -> None:
        """Change the profile that a checked identification is about."""
        profile = self._profile(identification)
        properties, groups = identification.get("user_properties"), identification.get("groups")
        if isinstance(properties, dict):
            update(profile.properties, properties)
        if isinstance(groups, dict):
            profile.groups.update(_named_groups(groups))
        if not TEXT_KEYS.isdisjoint(identification):
            _set_fields(profile.fields, identification)

    def find(self, user_id: str | None, device_id: str | None) -> Profile | None:
        """Find the profile of a user; without a user_id, that of a device or of its user."""
        if user_id is None and device_id is not None:
            user_id = self.owners.get(device_id)
        if user_id is not None:
            return self.users.get(user_id)
        return self.devices.get(device_id or "")

    def as_json(self) -> dict[str, object]:
        """Return every profile: `users` by user_id, and `devices` by device_id those without a user."""
        return {
            "users": {user_id: profile.as_json() for user_id, profile in self.users.items()},
            "devices": {device_id: profile.as_json() for device_id, profile in self.devices.items()},
        }

    def _profile(self, identification: Identification) -> Profile:
        user_id, device = self.key(identification)
        if user_id is None:
            if device not in self.devices:
                self.devices[device] = Profile(None, [device])
            return self.devices[device]
        profile = self.users.get(user_id)
        if profile is None:
            profile = self.users[user_id] = Profile(user_id)
        device_id = trimmed_id(identification, "device_id")
        if device_id is not None and device_id not in profile.device_ids:
            profile.device_ids.append(device_id)
            self.owners.setdefault(device_id, user_id)
            anonymous = self.devices.pop(device_id, None)
            if anonymous is not None:
                _merge(anonymous, into=profile)
        return profile


def _merge(anonymous: Profile, *, into: Profile) -> None:
    """Add what a device gathered to its user, whose own values win; a family is taken whole or not at all."""
    into.properties = {**anonymous.properties, **into.properties}
    into.groups = {**anonymous.groups, **into.groups}
    for family in _FAMILIES:
        if not into.fields.keys().isdisjoint(family):
            anonymous.fields = {k: v for k, v in anonymous.fields.items() if k not in family}
    into.fields = {**anonymous.fields, **into.fields}


def _set_fields(fields: dict[str, str], identification: Identification) -> None:
    given = {n: v for n, v in identification.items() if n in TEXT_KEYS and isinstance(v, str)}
    for family in _FAMILIES:
        if not given.keys().isdisjoint(family):
            for name in family:
                fields.pop(name, None)
    fields.update((name, value[:LONGEST_STRING]) for name, value in given.items())


def _named_groups(groups: dict[str, Json]) -> dict[str, list[Json]]:
    """List the groups of each type; a null or an empty list names none, and a type can't be unset."""
    named: dict[str, list[Json]] = {}
    for name, value in groups.items():
        given = value if isinstance(value, list) else [value]
        values: list[Json] = [one for one in given if one is not None]
        if values:
            named[name] = values
    return named
