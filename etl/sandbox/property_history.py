"""When and by which operator the properties of a profile changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .api_rules import Json

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
