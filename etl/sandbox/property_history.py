"""When and by which operator the properties of profiles changed, kept within bounds of memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from .api_rules import Json

    UserKey: TypeAlias = tuple[str | None, str]

MOST_PROFILES: Final = 10_000  # that changed last; of the others only the present values are known
MOST_CHANGES: Final = 20  # of one property


@dataclass(frozen=True, slots=True)
class PropertyChange:
    """A property was changed by an operator at `when` (seconds since the epoch); `value` None: removed."""

    when: float
    operator: str
    value: Json


class PropertyHistory:
    """The last changes of each property, of the profiles that changed last. `wall` gives the time."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._changes: dict[UserKey, dict[str, deque[PropertyChange]]] = {}

    def recorder(self, key: UserKey) -> Callable[[str, str, Json], None]:
        """Return what notes changes of a profile: called with the property, the operator and the value."""
        # Last in the order of the dict, so that the first is the one that did not change for longest.
        changes = self._changes.pop(key, {})
        self._changes[key] = changes
        if len(self._changes) > MOST_PROFILES:
            del self._changes[next(iter(self._changes))]
        when = self._wall()

        def note(name: str, operator: str, value: Json) -> None:
            kept = changes.setdefault(name, deque(maxlen=MOST_CHANGES))
            kept.append(PropertyChange(when, operator, value))

        return note

    def of(self, key: UserKey) -> dict[str, list[PropertyChange]]:
        """Return the changes of a profile by property, the last change first."""
        return {name: list(reversed(changes)) for name, changes in self._changes.get(key, {}).items()}

    def move(self, device: UserKey, user: UserKey) -> None:
        """Give what a device gathered to its user; a property of the user keeps its own changes."""
        moved = self._changes.pop(device, None)
        if moved:
            self._changes[user] = {**moved, **self._changes.get(user, {})}
