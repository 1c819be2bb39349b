"""Which of Amplitude's own fields columns fill: never a part of a family, as that would reset the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etl.amplitude import FAMILIES, STRING_FIELDS
from etl.proposal.names import amplitude_field
from etl.proposal.quoting import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

_ALONE: Final = tuple(name for name in STRING_FIELDS if not any(name in family for family in FAMILIES))


def fields_of(columns: Sequence[str]) -> dict[str, str]:
    """The column for each field that can be mapped: whole families, and fields that belong to none.

    `paying` is left out: Amplitude takes only the word "true", which a column seldom means by itself.
    """
    named = _named(columns)
    whole = [name for family in FAMILIES if all(name in named for name in family) for name in family]
    return {
        name: named[name]
        for name in STRING_FIELDS
        if name in whole or (name in named and name in _ALONE and name != "paying")
    }


def part_of_family(column: str, columns: Sequence[str]) -> str | None:
    """What to say of a column with the name of a field that it can't fill, as the family isn't whole."""
    field = amplitude_field(column)
    family = next((family for family in FAMILIES if field in family), None)
    if field is None or family is None:
        return None
    missing = [name for name in family if name not in _named(columns)]
    if not missing:
        return None
    return (
        f"{shown(column)} is a property here: Amplitude has a field for it too, but updates "
        f"{', '.join(family)} together, so {', '.join(missing)} would be reset. To fill it all the same, write "
        f"`{field}: ...` above user_properties and `partial_families: reset` at the top level."
    )


def _named(columns: Sequence[str]) -> dict[str, str]:
    """The first column that has the name of each field."""
    named: dict[str, str] = {}
    for column in columns:
        if field := amplitude_field(column):
            named.setdefault(field, column)
    return named
