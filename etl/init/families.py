"""Which of Amplitude's own fields columns fill: never a part of a family, as that would reset the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etl.amplitude import FAMILIES, STRING_FIELDS
from etl.init.names import amplitude_field
from etl.init.wording import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

# `paying` isn't among them: Amplitude takes only the word "true", which a column seldom means by itself.
_ALONE: Final = ("app_version", "language", "start_version")


def columns_by_field(columns: Iterable[str]) -> dict[str, str]:
    """The first column that has the name of each field."""
    named: dict[str, str] = {}
    for column in columns:
        if field := amplitude_field(column):
            named.setdefault(field, column)
    return named


def mappable(named: dict[str, str], empty: Collection[str]) -> dict[str, str]:
    """The column for each field that can be mapped: whole families, and fields that belong to none.

    `empty` columns complete a family, but fill no field by themselves.
    """
    named = {name: column for name, column in named.items() if column not in empty or name not in _ALONE}
    whole = {name for family in FAMILIES if _fills(family, named, empty) for name in family}
    return {
        name: named[name] for name in STRING_FIELDS if name in whole or (name in named and name in _ALONE)
    }


def _fills(family: Sequence[str], named: dict[str, str], empty: Collection[str]) -> bool:
    return all(name in named for name in family) and any(named[name] not in empty for name in family)


def part_of_family(column: str, named: dict[str, str]) -> str | None:
    """What to say of a column with the name of a field that it can't fill, as the family isn't whole."""
    field = amplitude_field(column)
    family = next((family for family in FAMILIES if field in family), ())
    missing = [name for name in family if name not in named]
    if not missing:
        return None
    return (
        f"{shown(column)} is a property here: Amplitude has a field for it too, but updates "
        f"{', '.join(family)} together, so {', '.join(missing)} would be reset. To fill it anyway, write "
        f"`{field}: ...` above user_properties and `partial_families: reset` at the top level."
    )
