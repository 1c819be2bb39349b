"""Which parts of an identification are compared with the last run, and under which names.

It follows from the job alone, so it is the same for every batch of a run, whatever types a source has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ..amplitude.operators import (
    DEVICE_FAMILY,
    ID_FIELDS,
    LIST_OPERATORS,
    PLACE_FAMILY,
    TIME_FIELD,
    UNREPEATABLE,
)
from ..arrow.structs import FieldPath, field_groups
from .value_hashes import NEWEST_HASHING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..job.identification_spec import Identification
    from ..job.spec import Changes

LINK: Final = "device_id"  # the column of a job with both ids: which device belongs to which user
_PROPERTIES: Final = "user_properties"
_INSERTS: Final = {(_PROPERTIES, operator) for operator in LIST_OPERATORS - UNREPEATABLE}


@dataclass(frozen=True, slots=True)
class FieldGroup:
    """Value columns of an identification that are sent together or not at all.

    A change of an `ignored` group is no reason to send. An `unrepeatable` one is an increment: it is never
    compared, and each row that has it is sent.
    """

    name: str
    paths: tuple[FieldPath, ...]
    ignored: bool = False
    unrepeatable: bool = False


@dataclass(frozen=True)
class Layout:
    """All field groups of a job, and the p columns of fingerprints that its snapshot has.

    `mode` property: one fingerprint a group, 32 bits; user: one for all groups together, 64 bits.
    `paired`: the job has both ids. `hashing`: the version of the rules by which values are hashed.
    """

    mode: Literal["property", "user"]
    bundles: tuple[FieldGroup, ...]  # this name is in checkpoints
    paired: bool = False
    hashing: int = NEWEST_HASHING

    @cached_property
    def compared(self) -> tuple[FieldGroup, ...]:
        """The groups that have a fingerprint, or a part in it."""
        return tuple(g for g in self.bundles if not (g.unrepeatable or (g.ignored and self.mode == "user")))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the p columns; in property mode those of `compared`, then `device_id` where paired."""
        if self.mode == "user":
            return ("fingerprint",)
        return (*(group.name for group in self.compared), *((LINK,) if self.paired else ()))

    @cached_property
    def counted(self) -> tuple[str, ...]:
        """Names of the columns in which a change is a reason to send."""
        ignored = {group.name for group in self.compared if group.ignored}
        return tuple(name for name in self.names if name not in ignored)

    @cached_property
    def cumulative(self) -> NDArray[np.bool_]:
        """In which of the p columns every row of a user counts, not only the last; shape (p,).

        An insert into a list isn't undone by the next one. And a fingerprint of all groups together doesn't
        show what is left of an earlier row after a later one, which may have other groups.
        """
        if self.mode == "user":
            return np.ones(1, dtype=np.bool_)
        inserts = [all(path[:2] in _INSERTS for path in group.paths) for group in self.compared]
        return np.array([*inserts, *([False] if self.paired else [])], dtype=np.bool_)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a fingerprint."""
        return np.dtype("<u4" if self.mode == "property" else "<u8")


def layout_of(identification: Identification, changes: Changes) -> Layout | None:
    """The layout of a job; None where nothing is compared."""
    if changes.by == "off":
        return None
    columns = dict(_value_paths(identification))
    # Where all properties are cleared first, they are one group: what isn't sent is gone.
    cleared = [path for path in columns if identification.clear_all and path[0] == _PROPERTIES]
    groups = [
        *field_groups([path for path in columns if path not in cleared]),
        *([cleared] if cleared else []),
    ]
    found = tuple(
        FieldGroup(
            _group_name(paths),
            tuple(paths),
            ignored={columns[path] for path in paths} <= set(changes.ignore),
            unrepeatable=not UNREPEATABLE.isdisjoint(paths[0][1:2]),
        )
        for paths in groups
    )
    return Layout(changes.by, found, paired=all(name in identification.fields for name in ID_FIELDS))


def _value_paths(identification: Identification) -> Iterator[tuple[FieldPath, str | None]]:
    """The path of every value and its source column; None for a constant."""
    if identification.clear_all:
        yield (_PROPERTIES, "$clearAll"), None
    for name in identification.unset:
        yield (_PROPERTIES, "$unset", name), None
    for place, spec in identification.specs():
        path = tuple(place.split(".", 2 if place.startswith(_PROPERTIES) else 1))
        if path[0] not in {*ID_FIELDS, TIME_FIELD}:
            yield path, spec.column
        if spec.null == "unset":
            yield (_PROPERTIES, "$unset", path[2]), spec.column


def _group_name(paths: list[FieldPath]) -> str:
    first = paths[0]
    if (_PROPERTIES, "$clearAll") in paths:
        return _PROPERTIES
    if first[0] in DEVICE_FAMILY:
        return "device"
    if first[0] in PLACE_FAMILY:
        return "place"
    operators = sorted(path[1] for path in paths if path[0] == _PROPERTIES)
    return f"{operators[0]}.{first[2]}" if operators else ".".join(first)
