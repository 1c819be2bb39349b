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

from ..amplitude.requests import ADDRESS_FIELDS, DEVICE_FAMILY, LIST_OPERATORS, PLACE_FAMILY, UNREPEATABLE
from ..arrow.layout import FieldPath, field_groups, valid_mask, value_columns
from ..subject import Subject, hash_texts, subject_of
from .value_hashes import Hashes, hash_values, salt_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from ..arrow.json_text import Splice
    from ..job.identification_spec import Identification
    from ..job.sections import Changes
    from ..model import Fingerprints

LINK: Final = "device_id"  # the column of a job with both ids: which device belongs to which user
_PROPERTIES: Final = "user_properties"
_INSERTS: Final = {(_PROPERTIES, operator) for operator in LIST_OPERATORS - UNREPEATABLE}


@dataclass(frozen=True, slots=True)
class FieldGroup:
    """Value columns of an identification that are sent together or not at all.

    A change of an `ignored` group is not a reason to send. An `unrepeatable` one is an increment: it is never
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
    `paired`: the job has both ids.
    """

    mode: Literal["property", "user"]
    bundles: tuple[FieldGroup, ...]  # this name is in checkpoints
    paired: bool = False

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
    def counted(self) -> NDArray[np.bool_]:
        """In which of the p columns a change is a reason to send; shape (p,)."""
        return ~np.isin(self.names, [group.name for group in self.compared if group.ignored])

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
        if path[0] not in ADDRESS_FIELDS:
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
    columns, n = dict(value_columns(identifications)), identifications.num_rows
    users = _hash_users(identifications)
    if layout.mode == "user":
        total, there = _sums(columns, [path for group in layout.compared for path in group.paths], n, splice)
        (_, leads), *linked = subject_of(identifications).columns(identifications)
        for _, devices in linked:  # where nothing is given, a link still counts
            alone = ~there & valid_mask(leads) & valid_mask(devices)
            total[alone] += hash_texts(devices, salt_of(_LINKED))[alone]
            there |= alone
        mixed = (total ^ users) * _LAST
        mixed ^= mixed >> _HALF
        return np.where(there, np.maximum(mixed, _ONE), np.uint64(0)).reshape(-1, 1)
    fingerprints = np.empty((n, len(layout.names)), dtype=layout.dtype)
    if layout.paired:
        columns[_LINKED] = identifications.column(LINK)
    groups = [*(group.paths for group in layout.compared), *([(_LINKED,)] if layout.paired else [])]
    for column, paths in zip(fingerprints.T, groups, strict=True):
        total, there = _sums(columns, paths, n, splice)
        total ^= users
        total *= _LAST
        total >>= _HALF
        np.maximum(total, _ONE, out=column, casting="unsafe")
        if not there.all():
            column[~there] = 0
    return fingerprints


def owner_hashes(ids: pa.RecordBatch) -> NDArray[np.uint16]:
    """Of n rows with these ids a hash of the owner of each of their entries, never 0; shape (n, w)."""
    entries, link = [_hash_users(ids)], subject_of(ids).link
    if link is not None:
        device = ids.column(link)
        entries.append(np.where(valid_mask(device), _hash_ids(link, device), entries[0]))
    words = np.stack([(own * _LAST) >> np.uint64(48) for own in entries], axis=1)
    return np.maximum(words, _ONE).astype(np.uint16)


def whole_fingerprints(fingerprints: Fingerprints, layout: Layout) -> Fingerprints:
    """One fingerprint for all columns that count, of `fingerprints` (shape (n, p)); shape (n,).

    It is 0 for a row that gives none. In user mode it is the only one there is.
    """
    if layout.mode == "user":
        return fingerprints[:, 0]
    total = np.zeros(len(fingerprints), dtype=np.uint64)
    for place in np.flatnonzero(layout.counted).tolist():
        # Odd, so that no bit of a fingerprint is lost.
        total += fingerprints[:, place] * np.uint64(salt_of(("whole", layout.names[place])) | 1)
    there = total != 0
    total *= _LAST
    total >>= _HALF
    return np.where(there, np.maximum(total, _ONE), np.uint64(0)).astype(layout.dtype)


def given(identifications: pa.RecordBatch, paths: Collection[FieldPath]) -> NDArray[np.bool_]:
    """Which rows have a value under one of the paths; shape (n,)."""
    some = np.zeros(identifications.num_rows, np.bool_)
    for path, column in value_columns(identifications):
        if path in paths:
            some |= valid_mask(column)
    return some


def _sums(
    columns: Mapping[FieldPath, pa.Array], paths: Collection[FieldPath], n: int, splice: Splice | None
) -> tuple[Hashes, NDArray[np.bool_]]:
    """The sums of the hashes of n rows' values under these paths, and which rows have one at all."""
    total, there = np.zeros(n, np.uint64), np.zeros(n, np.bool_)
    for path in paths:
        column = columns.get(path)
        if column is not None and column.null_count < n:
            hashed = hash_values(column, salt_of(path), splice)
            if column.null_count:
                valid = valid_mask(column)
                hashed[~valid] = 0
                there |= valid
            else:
                there[:] = True
            total += hashed
    return total, there


def _hash_users(identifications: pa.RecordBatch) -> Hashes:
    """A hash of each row's leading id, or else of its other; shape (n,)."""
    (lead, ids), *linked = subject_of(identifications).columns(identifications)
    users = _hash_ids(lead, ids)
    if linked and ids.null_count:
        alone = ~valid_mask(ids)
        users[alone] = _hash_ids(*linked[0])[alone]
    return users


def _hash_ids(name: str, ids: pa.StringArray) -> Hashes:
    """Hashes of ids, other ones for the same text in another field; shape (n,)."""
    return hash_texts(ids, salt_of(("whose", name)))
