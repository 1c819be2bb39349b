"""When and by which operator the properties of profiles changed, kept within bounds of memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from .api_rules import Json

    UserKey: TypeAlias = tuple[str | None, str]
    _Update: TypeAlias = tuple[float, str, dict[str, Json]]

MOST_PROFILES: Final = 10_000  # that changed last; of the others only the present values are known
MOST_UPDATES: Final = 20  # of one profile that are kept whole; of older ones, each property's last change


class PropertyChange(NamedTuple):
    """A property was changed by an operator at `when` (seconds since the epoch); `value` None: removed."""

    when: float
    operator: str
    value: Json


class PropertyHistory:
    """The last changes of each property, of the profiles that changed last. `wall` gives the time."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        # By profile: updates, the last one at the end. The first profile is unchanged for longest.
        self._updates: OrderedDict[UserKey, list[_Update]] = OrderedDict()

    def note(self, key: UserKey, operator: str, changed: dict[str, Json]) -> None:
        """Note what an operator changed in a profile: the new values by property, None where it is gone."""
        updates = self._updates.setdefault(key, [])
        self._updates.move_to_end(key)
        updates.append((self._wall(), operator, changed))
        if len(updates) > 2 * MOST_UPDATES:
            # Of older updates only what no later one changed is still needed.
            later = set[str]().union(*(values for _, _, values in updates[-MOST_UPDATES:]))
            kept: list[_Update] = []
            for when, operator, values in reversed(updates[:-MOST_UPDATES]):
                rest = {name: value for name, value in values.items() if name not in later}
                later |= rest.keys()
                if rest and len(kept) < MOST_UPDATES:
                    kept.insert(0, (when, operator, rest))
            updates[:-MOST_UPDATES] = kept
        if len(self._updates) > MOST_PROFILES:
            self._updates.popitem(last=False)

    def of(self, key: UserKey) -> dict[str, list[PropertyChange]]:
        """Return the changes of a profile by property, the last change first."""
        found: dict[str, list[PropertyChange]] = {}
        for when, operator, changed in reversed(self._updates.get(key, [])):
            for name, value in changed.items():
                found.setdefault(name, []).append(PropertyChange(when, operator, value))
        return found

    def move(self, device: UserKey, user: UserKey) -> None:
        """Put what a device gathered before what its user did, whose own values win."""
        gathered, own = self._updates.pop(device, []), self.of(user)
        kept = [(w, o, {n: v for n, v in values.items() if n not in own}) for w, o, values in gathered]
        if gathered:
            self._updates[user] = [*kept, *self._updates.get(user, [])]
