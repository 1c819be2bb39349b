"""Which parts of an identification are compared with the last run, and under which names.

It follows from the job alone, so it is the same for every batch of a run, whatever types a source has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from etl.amplitude import (
    DEVICE_FAMILY,
    ID_FIELDS,
    LIST_OPERATORS,
    PLACE_FAMILY,
    TIME_FIELD,
    UNREPEATABLE,
)
from etl.leaves import Path, bundles
from etl.snapshot.hashes import NEWEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl.job.spec import Changes, Identification

FINGERPRINT: Final = "fingerprint"
LINK: Final = "device_id"  # in a job with both ids: which device belongs to which user
_PROPERTIES: Final = "user_properties"
_INSERTS: Final = {(_PROPERTIES, operator) for operator in LIST_OPERATORS - UNREPEATABLE}
_WIDTHS: Final[Mapping[str, Any]] = {"property": np.dtype("<u4"), "user": np.dtype("<u8")}


@dataclass(frozen=True, slots=True)
class Bundle:
    """Leaves of an identification that are sent together or not at all.

    A change of an `ignored` one is no reason to send. An `unrepeatable` one is never compared: it is an
    increment, so each row that has it is sent.
    """

    name: str
    paths: tuple[Path, ...]
    ignored: bool = False
    unrepeatable: bool = False


@dataclass(frozen=True)
class Layout:
    """All bundles of a job, and the p columns of fingerprints that its snapshot has.

    `mode` property: one fingerprint a bundle, 32 bits; user: one for all bundles together, 64 bits.
    `paired`: the job has both ids. `hashing`: in which way values are hashed.
    """

    mode: Literal["property", "user"]
    bundles: tuple[Bundle, ...]
    paired: bool = False
    hashing: int = NEWEST

    @cached_property
    def compared(self) -> tuple[Bundle, ...]:
        """The bundles that have a fingerprint, or a part in it."""
        return tuple(b for b in self.bundles if not (b.unrepeatable or (b.ignored and self.mode == "user")))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the p columns; in property mode those of `compared`, then `device_id` where paired."""
        if self.mode == "user":
            return (FINGERPRINT,)
        return (*(bundle.name for bundle in self.compared), *((LINK,) if self.paired else ()))

    @cached_property
    def counted(self) -> tuple[str, ...]:
        """Names of the columns in which a change is a reason to send."""
        ignored = {bundle.name for bundle in self.compared if bundle.ignored}
        return tuple(name for name in self.names if name not in ignored)

    @cached_property
    def cumulative(self) -> NDArray[np.bool_]:
        """In which of the p columns every row of a user counts, not only the last; shape (p,).

        An insert into a list isn't undone by the next one. And a fingerprint of all bundles together doesn't
        say what is left of an earlier row under a later one, which may have other bundles.
        """
        if self.mode == "user":
            return np.ones(1, dtype=np.bool_)
        inserts = [all(path[:2] in _INSERTS for path in bundle.paths) for bundle in self.compared]
        return np.array([*inserts, *([False] if self.paired else [])], dtype=np.bool_)

    @property
    def by_entry(self) -> bool:
        """Whether a row may be new to the one of its two entries, the user's and the device's, alone."""
        return self.paired and bool(self.cumulative.any())

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a fingerprint."""
        width: np.dtype[Any] = _WIDTHS[self.mode]
        return width


def layout_of(identification: Identification, changes: Changes) -> Layout | None:
    """The layout of a job; None where it wants nothing compared."""
    if changes.by == "off":
        return None
    columns = dict(_leaf_columns(identification))
    found = tuple(
        Bundle(
            _name(paths),
            tuple(paths),
            ignored=_only_of({columns[path] for path in paths}, changes.ignore),
            unrepeatable=not UNREPEATABLE.isdisjoint(paths[0][1:2]),
        )
        for paths in _together(list(columns), wiped=identification.clear_all)
    )
    return Layout(changes.by, found, paired=all(name in identification.fields for name in ID_FIELDS))


def _leaf_columns(identification: Identification) -> Iterator[tuple[Path, str | None]]:
    """Every value leaf and its source column; None for a constant."""
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


def _together(paths: list[Path], *, wiped: bool) -> Iterator[list[Path]]:
    """Bundles of leaves. Where all properties are cleared first, they are one: what isn't sent is gone."""
    properties = [path for path in paths if wiped and path[0] == _PROPERTIES]
    yield from bundles([path for path in paths if path not in properties])
    if properties:
        yield properties


def _name(paths: list[Path]) -> str:
    first = paths[0]
    if (_PROPERTIES, "$clearAll") in paths:
        return _PROPERTIES
    if first[0] in DEVICE_FAMILY:
        return "device"
    if first[0] in PLACE_FAMILY:
        return "place"
    operators = sorted(path[1] for path in paths if path[0] == _PROPERTIES)
    return f"{operators[0]}.{first[2]}" if operators else ".".join(first)


def _only_of(columns: set[str | None], ignored: tuple[str, ...]) -> bool:
    return columns <= set(ignored)
