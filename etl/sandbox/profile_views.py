"""What the page shows of all profiles: those whose id has a text in it, and which values properties have."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .api_rules import Json
    from .profiles import Profiles

MOST_FOUND: Final = 50
MOST_SAMPLED: Final = 20_000
_EXAMPLES: Final = 3
_TYPES: Final = {str: "text", int: "number", float: "number", bool: "yes/no", list: "list", dict: "object"}


@dataclass(slots=True)
class PropertyValues:
    """How many profiles have a property, its values by type, and the first different ones as text."""

    filled: int = 0
    types: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Json] = field(default_factory=dict)


def type_name(value: Json) -> str:
    """Name the type of a value as the page does."""
    return _TYPES.get(type(value), "none")


def find_ids(ids: Sequence[str], text: str) -> tuple[list[str], bool]:
    """Return the first ids that contain `text`, in any case, and whether there are more.

    An id that is the text comes first.
    """
    wanted = text.casefold()
    found = list(islice((one for one in ids if wanted in one.casefold()), MOST_FOUND + 1))
    exact = [text] if text in found[:MOST_FOUND] or (len(found) > MOST_FOUND and text in ids) else []
    found = [*exact, *(one for one in found if one != text)]
    return found[:MOST_FOUND], len(found) > MOST_FOUND


def property_values(profiles: Profiles) -> tuple[dict[str, PropertyValues], int]:
    """Return the properties by name, in order of fill, and the number of profiles that were looked at.

    Of many profiles these are some at equal distances.
    """
    step = -(-len(profiles) // MOST_SAMPLED) or 1
    sample = list(islice(chain(profiles.users.values(), profiles.devices.values()), 0, None, step))
    found: dict[str, PropertyValues] = {}
    for profile in sample:
        for name, value in profile.properties.items():
            seen = found.setdefault(name, PropertyValues())
            seen.filled += 1
            kind = type_name(value)
            seen.types[kind] += 1
            if len(seen.examples) < _EXAMPLES or seen.types[kind] == 1:
                seen.examples.setdefault(orjson.dumps(value).decode(), value)
    ordered = sorted(found.items(), key=lambda item: (-item[1].filled, item[0]))
    return dict(ordered), len(sample)
