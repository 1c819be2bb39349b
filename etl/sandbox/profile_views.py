"""What the page shows of profiles: which values properties have, and when and by what one changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, TypeAlias

import orjson

from .api_rules import Json

_EXAMPLES: Final = 3
_TYPES: Final = {str: "text", int: "number", float: "number", bool: "yes/no", list: "list", dict: "object"}


@dataclass(slots=True)
class PropertyValues:
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


class PropertyCounts:
    """Counts the properties of all profiles while these change, so that nothing has to look at them all."""

    def __init__(self) -> None:
        self._found = defaultdict[str, PropertyValues](PropertyValues)

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

    def largest(self, most: int) -> tuple[dict[str, PropertyValues], int]:
        """Return the properties that most profiles have, in order of fill, and how many others there are."""
        present = [(name, seen) for name, seen in self._found.items() if seen.filled]
        ordered = sorted(present, key=lambda item: (-item[1].filled, item[0]))[:most]
        return {name: replace(seen, types=+seen.types) for name, seen in ordered}, len(present) - len(ordered)


# --- one profile: when and by which operator its properties changed -------------------------------------

# When (seconds since the epoch) which operator changed which properties, with their values before (None:
# they were absent). The values after are those before the next change, and in the end the present ones.
Update: TypeAlias = "tuple[float, str, dict[str, Json]]"

MOST_UPDATES: Final = 20  # of one profile that are kept whole; of older ones, each property's last change


class PropertyChange(NamedTuple):
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


def property_changes(updates: list[Update], present: Mapping[str, Json]) -> dict[str, list[PropertyChange]]:
    """Return the changes of a profile by property, the last change first."""
    found: dict[str, list[PropertyChange]] = {}
    after = dict(present)
    for when, operator, before in reversed(updates):
        for name, value in before.items():
            found.setdefault(name, []).append(PropertyChange(when, operator, after.get(name)))
            after[name] = value
    return found


def merge_updates(
    device: list[Update], user: list[Update], device_has: Mapping[str, Json], user_has: Mapping[str, Json]
) -> list[Update]:
    """Put what a device gathered before what its user did; a value is that of whom it was taken from."""
    taken = device_has.keys() - user_has.keys()
    own = user_has.keys() | set[str]().union(*(before for _, _, before in user)) - taken
    return [
        (when, operator, rest)
        for updates, others in ((device, own), (user, taken))
        for when, operator, before in updates
        if (rest := {name: value for name, value in before.items() if name not in others})
    ]
