"""A destination in plain Python: what the profiles are after identifications, one by one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from etl.amplitude.requests import DEVICE_FAMILY, PLACE_FAMILY

Profile = dict[str, Any]
_ALONE = ("app_version", "language", "paying", "start_version")


class Profiles:
    """By user; a device is the user's that it was last seen with."""

    def __init__(self) -> None:
        self.users: dict[str, Profile] = {}
        self.owners: dict[str, str] = {}

    def take(self, identifications: Iterable[dict[str, Any]]) -> None:
        for own in identifications:
            user, device = own.get("user_id"), own.get("device_id")
            if user is not None and device is not None:
                self.owners[device] = user
            self._update(self.users.setdefault(user or f"device {device}", {}), own)

    def _update(self, profile: Profile, own: dict[str, Any]) -> None:
        for family in (DEVICE_FAMILY, PLACE_FAMILY):
            if any(name in own for name in family):
                profile |= {name: own.get(name) for name in family}
        profile |= {name: own[name] for name in _ALONE if name in own}
        profile |= {f"group {name}": value for name, value in own.get("groups", {}).items()}
        properties = own.get("user_properties", {})
        for name in [n for n in profile if n.startswith("p ") and "$clearAll" in properties]:
            del profile[name]
        for name in properties.get("$unset", {}):
            profile.pop(f"p {name}", None)
        for operator, values in properties.items():
            if isinstance(values, dict):
                for name, value in values.items():
                    _operate(profile, operator, f"p {name}", value)


def _operate(profile: Profile, operator: str, name: str, value: Any) -> None:
    if operator == "$set":
        profile[name] = value
    elif operator == "$setOnce":
        profile.setdefault(name, value)
    elif operator == "$add":
        profile[name] = profile.get(name, 0) + value
    elif operator == "$append":
        profile[name] = [*profile.get(name, []), *value]
    elif operator == "$postInsert":
        before = profile.get(name, [])
        profile[name] = before + [one for one in value if one not in before]
