"""Fingerprints of identifications: equal ones are of equal values of one user, in any process and version.

A fingerprint covers the name of a field group, its values, which of its fields are given, and the id itself,
so two users who share a key have different fingerprints. 0 means that nothing is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa

from ..amplitude.operators import (
    DEVICE_FAMILY,
    ID_FIELDS,
    LIST_OPERATORS,
    PLACE_FAMILY,
    TIME_FIELD,
    UNREPEATABLE,
)
from ..arrow.hashing import hash_texts
from ..arrow.layout import valid_mask
from ..arrow.structs import FieldPath, field_groups, value_columns
from ..snapshot_metadata import NEWEST_HASHING
from ..subject import Subject, subject_of
from .value_hashes import Hashes, HashRules, hash_values, salt_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..arrow.json_lines import Splice
    from ..arrow.structs import FieldPath
    from ..job.identification_spec import Identification
    from ..job.sections import Changes
    from ..model import Fingerprints

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
    groups = list(field_groups([path for path in columns if path not in cleared]))
    groups += [cleared] if cleared else []
    found = tuple(
        FieldGroup(
            _group_name(paths),
            tuple(paths),
            ignored={columns[path] for path in paths} <= set(changes.ignore),
            unrepeatable=not UNREPEATABLE.isdisjoint(paths[0][1:2]),
        )
        for paths in groups
    )
    return Layout(changes.by, found, paired=Subject.of(identification.fields).link is not None)


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


_LAST: Final = np.uint64(0xFF51AFD7ED558CCD)
_HALF: Final = np.uint64(32)
_ONE: Final = np.uint64(1)
# Words of seeds other than those of the keys, so that users with one key differ here. (Hashed when needed: an
# Arrow array that is made while modules are imported looks for pandas.)
_LINKED: Final = ("whose", "link")


def fingerprints_of(
    identifications: pa.RecordBatch, layout: Layout, splice: Splice | None = None
) -> Fingerprints:
    """Fingerprints of shape (n, p), in the order of `layout.names`.

    `splice` replaces marked strings by the JSON that they stand for, as marks differ from process to process.
    """
    hashed = _RowHashes(identifications, HashRules(splice, layout.hashing))
    if layout.mode == "user":
        return hashed.of_all(layout.compared).reshape(-1, 1)
    fingerprints = np.empty((identifications.num_rows, len(layout.names)), dtype=layout.dtype)
    for place, group in enumerate(layout.compared):
        hashed.finish(*hashed.sum(group), fingerprints[:, place])
    if layout.paired:
        device = identifications.column(LINK)
        hashed.finish(hash_texts(device, salt_of(_LINKED)), valid_mask(device), fingerprints[:, -1])
    return fingerprints


def owner_hashes(ids: pa.RecordBatch, layout: Layout) -> NDArray[np.uint16]:
    """Of n rows with these ids a hash of the owner of each of their entries, never 0; shape (n, w)."""
    entries = [_RowHashes(ids, HashRules()).user]
    if layout.paired:
        device = ids.column(LINK)
        entries.append(np.where(valid_mask(device), _hash_ids(LINK, device), entries[0]))
    words = np.stack([(own * _LAST) >> np.uint64(48) for own in entries], axis=1)
    return np.maximum(words, _ONE).astype(np.uint16)


def whole_fingerprints(fingerprints: Fingerprints, layout: Layout) -> Fingerprints:
    """One fingerprint for all columns that count, of `fingerprints` (shape (n, p)); shape (n,).

    It is 0 for a row that gives none. In user mode it is the only one there is.
    """
    if layout.mode == "user":
        return fingerprints[:, 0]
    total = np.zeros(len(fingerprints), dtype=np.uint64)
    for place, name in enumerate(layout.names):
        if name in layout.counted:
            # Odd, so that no bit of a fingerprint is lost.
            total += fingerprints[:, place] * np.uint64(salt_of(("whole", name)) | 1)
    there = total != 0
    total *= _LAST
    total >>= _HALF
    return np.where(there, np.maximum(total, _ONE), np.uint64(0)).astype(layout.dtype)


def given(identifications: pa.RecordBatch, paths: tuple[FieldPath, ...]) -> NDArray[np.bool_]:
    """Which rows have a value under one of the paths; shape (n,)."""
    found = dict(value_columns(identifications))
    return _any_valid([found[path] for path in paths if path in found], identifications.num_rows)


class _RowHashes:
    """The value columns of n identifications, and a hash of each row's leading id, or else its other."""

    def __init__(self, identifications: pa.RecordBatch, rules: HashRules) -> None:
        self._rows = identifications
        self._columns: Mapping[FieldPath, pa.Array] = dict(value_columns(identifications))
        self._rules = rules
        (lead, ids), *linked = self._ids = tuple(subject_of(identifications).columns(identifications))
        self.user = _hash_ids(lead, ids)
        if linked and ids.null_count:
            alone = ~valid_mask(ids)
            self.user[alone] = _hash_ids(*linked[0])[alone]

    def sum(self, group: FieldGroup) -> tuple[Hashes, NDArray[np.bool_]]:
        """The sums of the hashes of a group's values, and which rows have one at all."""
        n = self._rows.num_rows
        columns = [(path, self._columns[path]) for path in group.paths if path in self._columns]
        total: Hashes | None = None
        for path, column in columns:
            if column.null_count == n:
                continue
            hashed = hash_values(column, salt_of(path), self._rules)
            if column.null_count:
                hashed[~valid_mask(column)] = 0
            total = hashed if total is None else np.add(total, hashed, out=total)
        if total is None:
            total = np.zeros(n, dtype=np.uint64)
        return total, _any_valid([column for _, column in columns], n)

    def finish(self, total: Hashes, there: NDArray[np.bool_], out: NDArray[np.unsignedinteger]) -> None:
        """32-bit fingerprints of such sums, which are used up; `out` is where they go."""
        total ^= self.user
        total *= _LAST
        total >>= _HALF
        np.maximum(total, _ONE, out=out, casting="unsafe")
        if not there.all():
            out[~there] = 0

    def of_all(self, groups: tuple[FieldGroup, ...]) -> Hashes:
        """64-bit fingerprints of all groups together. Where nothing is given, a link still counts."""
        total = np.zeros(self._rows.num_rows, np.uint64)
        there = np.zeros(self._rows.num_rows, np.bool_)
        for group in groups:
            hashed, some = self.sum(group)
            total += hashed
            there |= some
        if len(self._ids) == 2:
            (_, users), (_, devices) = self._ids
            alone = ~there & valid_mask(users) & valid_mask(devices)
            total[alone] += hash_texts(devices, salt_of(_LINKED))[alone]
            there |= alone
        mixed = (total ^ self.user) * _LAST
        mixed ^= mixed >> _HALF
        return np.where(there, np.maximum(mixed, _ONE), np.uint64(0))


def _hash_ids(name: str, ids: pa.StringArray) -> Hashes:
    """Hashes of ids, other ones for the same text in another field; shape (n,)."""
    return hash_texts(ids, salt_of(("whose", name)))


def _any_valid(columns: list[pa.Array], n: int) -> NDArray[np.bool_]:
    """Which of n rows have a value in one of the columns."""
    if any(column.null_count == 0 for column in columns):
        return np.ones(n, dtype=np.bool_)
    some: NDArray[np.bool_] = np.logical_or.reduce([np.zeros(n, np.bool_), *map(valid_mask, columns)])
    return some
