"""What the page shows of all profiles together: how many have each property, and which values it has."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        self._found: dict[str, PropertyValues] = {}

    def count(self, before: Mapping[str, Json], after: Mapping[str, Json]) -> None:
        """Count properties of a profile by their values before (None: absent) and those that it has now."""
        for name, old in before.items():
            seen = self._found.get(name)
            if seen is None:
                seen = self._found[name] = PropertyValues()
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
        present = {
            name: PropertyValues(+seen.types, seen.examples)
            for name, seen in self._found.items()
            if seen.filled
        }
        ordered = sorted(present.items(), key=lambda item: (-item[1].filled, item[0]))
        return dict(ordered[:most]), max(len(ordered) - most, 0)
