"""When and by which operator the properties of profiles changed, kept within bounds of memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from .api_rules import Json

    UserKey: TypeAlias = tuple[str | None, str]

MOST_PROFILES: Final = 10_000  # that changed last; of the others only the present values are known
MOST_CHANGES: Final = 20  # of one property


class PropertyChange(NamedTuple):
    """A property was changed by an operator at `when` (seconds since the epoch); `value` None: removed."""

    when: float
    operator: str
    value: Json


class PropertyHistory:
    """The last changes of each property, of the profiles that changed last. `wall` gives the time."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        # By profile and property, the last change first. The first profile is unchanged for longest.
        self._changes: OrderedDict[UserKey, dict[str, tuple[tuple[float, str, Json], ...]]] = OrderedDict()

    def recorder(self, key: UserKey) -> Callable[[str, str, Json], None]:
        """Return what notes changes of a profile: called with the property, the operator and the value."""
        changes = self._changes.setdefault(key, {})
        self._changes.move_to_end(key)
        if len(self._changes) > MOST_PROFILES:
            self._changes.popitem(last=False)
        when = self._wall()

        def note(name: str, operator: str, value: Json) -> None:
            # Plain tuples: this is the most frequent step of all, and a class would double its time.
            earlier = changes.get(name)
            change = (when, operator, value)
            changes[name] = (change, *earlier[: MOST_CHANGES - 1]) if earlier else (change,)

        return note

    def of(self, key: UserKey) -> dict[str, list[PropertyChange]]:
        """Return the changes of a profile by property, the last change first."""
        found = self._changes.get(key, {})
        return {name: [PropertyChange(*change) for change in changes] for name, changes in found.items()}

    def move(self, device: UserKey, user: UserKey) -> None:
        """Give what a device gathered to its user; a property of the user keeps its own changes."""
        moved = self._changes.pop(device, None)
        if moved:
            self._changes[user] = {**moved, **self._changes.get(user, {})}
