"""The users and devices that the sandbox knows, how one identification changes them, and what a page shows.

Profiles lie in SQLite: of a million, memory holds those of the request at hand.
"""

from __future__ import annotations

import sqlite3
import time
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import orjson

from .api_rules import (
    DEVICE_KEYS,
    LOCATION_KEYS,
    LONGEST_STRING,
    TEXT_KEYS,
    Identification,
    Json,
    Properties,
    listed,
    trimmed_ids,
    update,
)

Value = TypeVar("Value")
# Whose profile: (user_id, "") or (None, device_id).
UserKey: TypeAlias = tuple[str | None, str]
NOBODY: Final[UserKey] = (None, "")  # of an identification without a usable id
# When (seconds since the epoch) which operator changed which properties, with their values before (None:
# they were absent). The values after are those before the next change, and in the end the present ones.
Update: TypeAlias = "tuple[float, str, Properties]"

MOST_UPDATES: Final = 20  # of one profile that are kept whole; of older ones, each property's last change
_FAMILIES: Final = (DEVICE_KEYS, LOCATION_KEYS)
_EXAMPLES: Final = 3
_TYPES: Final = {str: "text", int: "number", float: "number", bool: "yes/no", list: "list", dict: "object"}
_PAGE: Final = 1000  # keys that are read at once
_PRAGMAS: Final = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32000;"


@dataclass(slots=True)
class Profile:
    """One user, or one device that no user was named for. `fields` has the string fields by API name.

    `updates` are those of its properties.
    """

    user_id: str | None
    device_ids: list[str] = field(default_factory=list)
    properties: Properties = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    groups: dict[str, list[Json]] = field(default_factory=dict)
    updates: list[Update] = field(default_factory=list, compare=False)

    @staticmethod
    def unpack(packed: bytes) -> Profile:
        """Read a profile that `orjson` wrote."""
        return Profile(**orjson.loads(packed))

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
    """All profiles by id, in `store`.

    `users` by user_id; `devices` by device_id, those without a user; `owners` holds the user that a device
    belongs to for good. `counts` counts properties. `wall` gives the time.
    """

    def __init__(self, store: MapStore | None = None, wall: Callable[[], float] = time.time) -> None:
        self.store = store or MapStore()
        self.counts = _PropertyCounts()
        self.users = StoredMap[Profile](self.store, "user", Profile.unpack)
        self.devices = StoredMap[Profile](self.store, "device", Profile.unpack)
        self.owners = StoredMap[str](self.store, "owner")
        self._wall = wall

    def __len__(self) -> int:
        return len(self.users) + len(self.devices)

    def key(self, identification: Identification) -> UserKey:
        """Return whose profile an identification changes."""
        ids = trimmed_ids(identification)
        return self._key(ids.get("user_id"), ids.get("device_id"))

    def _key(self, user_id: str | None, device_id: str | None) -> UserKey:
        if user_id is None and device_id is not None:
            user_id = self.owners.get(device_id)
        return (user_id, "") if user_id is not None else (None, device_id or "")

    def apply(
        self, identification: Identification, clears_all: bool = True, cleared_by: str | None = None
    ) -> None:
        """Change the profile that a checked identification is about.

        `clears_all`: whether `$clearAll` is obeyed; `cleared_by` is the text (`empty`) or the `null` that
        clears a field.
        """
        user_id, device_id = self.key(identification)
        profiles, key = (self.users, user_id) if user_id is not None else (self.devices, device_id)
        profile = profiles.get(key) or Profile(user_id, [] if user_id is not None else [device_id])
        if user_id is not None:
            self._link(profile, user_id, trimmed_ids(identification).get("device_id"))
        properties, groups = identification.get("user_properties"), identification.get("groups")
        if isinstance(properties, dict):
            if not clears_all:
                properties = {name: value for name, value in properties.items() if name != "$clearAll"}
            update(profile.properties, properties, partial(self._note, profile))
        for name, value in groups.items() if isinstance(groups, dict) else ():
            # A null or an empty list names no group, and a type can't be unset.
            named: list[Json] = [one for one in listed(value) if one is not None]
            if named:
                profile.groups[name] = named
        given = {n: v for n, v in identification.items() if n in TEXT_KEYS and isinstance(v, str)}
        profile.fields = _with_fields(profile.fields, {n: v[:LONGEST_STRING] for n, v in given.items()})
        for name in TEXT_KEYS & identification.keys() if cleared_by else ():
            if identification[name] == ("" if cleared_by == "empty" else None):
                profile.fields.pop(name, None)
        profiles[key] = profile

    def find(self, user_id: str | None, device_id: str | None) -> Profile | None:
        """Find the profile of a user; without a user_id, that of a device or of its user."""
        user, device = self._key(user_id, device_id)
        return self.devices.get(device) if user is None else self.users.get(user)

    def as_json(self) -> dict[str, object]:
        """Return every profile: `users` by user_id, and `devices` by device_id those without a user."""
        both = {"users": self.users, "devices": self.devices}
        return {name: {key: p.as_json() for key, p in profiles.items()} for name, profiles in both.items()}

    def _link(self, profile: Profile, user_id: str, device_id: str | None) -> None:
        """Note that a user has a device, and take what the device gathered before."""
        if device_id is not None and device_id not in profile.device_ids:
            profile.device_ids.append(device_id)
            self.owners.setdefault(device_id, user_id)
            anonymous = self.devices.pop(device_id, None)
            if anonymous is not None:
                both = anonymous.properties.keys() & profile.properties
                self.counts.count({name: anonymous.properties[name] for name in both}, {})
                # The user's own values win; of fields, a family is taken whole or not at all.
                profile.updates = _merge_updates(
                    anonymous.updates, profile.updates, anonymous.properties, profile.properties
                )
                profile.properties = {**anonymous.properties, **profile.properties}
                profile.groups = {**anonymous.groups, **profile.groups}
                profile.fields = _with_fields(anonymous.fields, profile.fields)

    def _note(self, profile: Profile, operator: str, before: Properties) -> None:
        self.counts.count(before, profile.properties)
        note_update(profile.updates, (self._wall(), operator, before))


def _with_fields(before: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Set fields; one of a family resets those of it that are not given."""
    reset = [name for family in _FAMILIES if not family.isdisjoint(new) for name in family]
    return {name: value for name, value in before.items() if name not in reset} | dict(new)


# --- when and by which operator the properties of a profile changed --------------------------------------


class _PropertyChange(NamedTuple):
    """A property was changed by an operator at `when` (seconds since the epoch); `value` None: removed."""

    when: float
    operator: str
    value: Json


def note_update(updates: list[Update], update: Update) -> None:
    """Add an update to those of its profile, within bounds."""
    updates.append(update)
    if len(updates) > 2 * MOST_UPDATES:
        # Of older updates only what no later one changed is still needed.
        later = set[str]().union(*(before for _, _, before in updates[-MOST_UPDATES:]))
        kept: list[Update] = []
        for when, operator, before in reversed(updates[:-MOST_UPDATES]):
            rest = {name: value for name, value in before.items() if name not in later}
            later |= rest.keys()
            if rest and len(kept) < MOST_UPDATES:
                kept.insert(0, (when, operator, rest))
        updates[:-MOST_UPDATES] = kept


def property_changes(updates: list[Update], present: Mapping[str, Json]) -> dict[str, list[_PropertyChange]]:
    """Return the changes of a profile by property, the last change first."""
    found: dict[str, list[_PropertyChange]] = {}
    after = dict(present)
    for when, operator, before in reversed(updates):
        for name, value in before.items():
            found.setdefault(name, []).append(_PropertyChange(when, operator, after.get(name)))
            after[name] = value
    return found


def _merge_updates(
    device: list[Update], user: list[Update], device_has: Mapping[str, Json], user_has: Mapping[str, Json]
) -> list[Update]:
    """Merge a device's updates before its user's; of a property, those of the profile that gave its value."""
    taken = device_has.keys() - user_has.keys()
    own = user_has.keys() | set[str]().union(*(before for _, _, before in user)) - taken
    return [
        (when, operator, rest)
        for updates, others in ((device, own), (user, taken))
        for when, operator, before in updates
        if (rest := {name: value for name, value in before.items() if name not in others})
    ]


# --- how many profiles have a property -------------------------------------------------------------------


@dataclass(slots=True)
class _PropertyValues:
    """How many profiles have a property, by the type of its value.

    `examples` are the first different values that came, and the first of each type, by their JSON.
    """

    types: Counter[str] = field(default_factory=Counter)
    examples: dict[bytes, Json] = field(default_factory=dict)

    @property
    def filled(self) -> int:
        """How many profiles have the property."""
        return self.types.total()


def type_name(value: Json) -> str:
    """Name the type of a value as the page does."""
    return _TYPES.get(type(value), "none")


class _PropertyCounts:
    """Counts the properties of all profiles while these change, so that nothing has to look at them all."""

    def __init__(self) -> None:
        self._found = defaultdict[str, _PropertyValues](_PropertyValues)

    def count(self, before: Mapping[str, Json], after: Mapping[str, Json]) -> None:
        """Count properties of a profile by their values before (None: absent) and those that it has now."""
        for name, old in before.items():
            seen = self._found[name]
            if old is not None:
                seen.types[type_name(old)] -= 1
            new = after.get(name)
            if new is not None:
                kind = type_name(new)
                if len(seen.examples) < _EXAMPLES or kind not in seen.types:
                    seen.examples[orjson.dumps(new)] = new
                seen.types[kind] += 1

    def largest(self, most: int) -> tuple[dict[str, _PropertyValues], int]:
        """Return the properties that most profiles have, in order of fill, and how many others there are."""
        present = [(name, seen) for name, seen in self._found.items() if seen.filled]
        ordered = sorted(present, key=lambda item: (-item[1].filled, item[0]))[:most]
        return {name: replace(seen, types=+seen.types) for name, seen in ordered}, len(present) - len(ordered)


# --- maps in SQLite --------------------------------------------------------------------------------------


class MapStore:
    """The maps of one sandbox. Without `memory` they grow into a file that is gone with the process."""

    def __init__(self, *, memory: bool = False) -> None:
        # Without a name SQLite opens a file only for what doesn't fit its cache, and unlinks it at once.
        self.connection = sqlite3.connect(
            ":memory:" if memory else "", check_same_thread=False, isolation_level=None
        )
        weakref.finalize(self, self.connection.close)
        self.connection.executescript(_PRAGMAS)


class StoredMap(MutableMapping[str, Value]):
    """A dict by text, in order of insertion, in the table `name`.

    Values are written by orjson and read by `unpack`. A value that was changed has to be set again.
    """

    def __init__(self, store: MapStore, name: str, unpack: Callable[[bytes], Value] = orjson.loads) -> None:
        self._store, self._name, self._unpack = store, name, unpack  # the store stays open
        self._execute = store.connection.execute
        self._execute(f"CREATE TABLE {name} (id TEXT PRIMARY KEY, value BLOB)")

    def __getitem__(self, key: str) -> Value:
        row = self._execute(f"SELECT value FROM {self._name} WHERE id = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return self._unpack(row[0])

    def __setitem__(self, key: str, value: Value) -> None:
        put = f"INSERT INTO {self._name} VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET value = excluded.value"
        self._execute(put, (key, orjson.dumps(value)))

    def __delitem__(self, key: str) -> None:
        if not self._execute(f"DELETE FROM {self._name} WHERE id = ?", (key,)).rowcount:
            raise KeyError(key)

    def __len__(self) -> int:
        return int(self._execute(f"SELECT count(*) FROM {self._name}").fetchone()[0])

    def __iter__(self) -> Iterator[str]:
        query = f"SELECT rowid, id FROM {self._name} WHERE rowid > ? ORDER BY rowid LIMIT {_PAGE}"
        last = 0
        while rows := self._execute(query, (last,)).fetchall():
            last = rows[-1][0]
            yield from (key for _, key in rows)

    def search(self, text: str, most: int) -> list[str]:
        """Return the first keys: that which is the text, those that begin with it, and those that contain it.

        Only the last of these looks at all keys; there A to Z stand for their small letters, too.
        """
        found: dict[str, Any] = {}
        for where, values in (
            ("id >= ? AND id < ?", (text, text + "\U0010ffff")),
            ("instr(lower(id), lower(?))", (text,)),  # not LIKE, whose pattern ends at a NUL
        ):
            if len(found) < most:
                query = f"SELECT id, 0 FROM {self._name} WHERE {where} ORDER BY id LIMIT {most}"
                found |= dict(self._execute(query, values))
        return list(found)[:most]
