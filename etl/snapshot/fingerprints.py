"""Fingerprints of identifications: equal ones are of equal values of one user, in any process and version.

A fingerprint covers the name of a field group, its values, which of its fields are given, and the id itself,
so two users who share a key have different fingerprints. 0 means that nothing is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from ..arrow.hashing import hash_texts
from ..arrow.structs import valid_mask, value_columns
from .value_hashes import Hashes, HashRules, hash_values, salt_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..arrow.json_lines import Splice
    from ..arrow.structs import FieldPath
    from ..model import Fingerprints
    from .layout import FieldGroup, Layout

_LAST: Final = np.uint64(0xFF51AFD7ED558CCD)
_HALF: Final = np.uint64(32)
_ONE: Final = np.uint64(1)
# Words of seeds other than those of the keys, so that users with one key differ here. (Hashed when needed: an
# Arrow array that is made while modules are imported looks for pandas.)
_USER, _DEVICE, _LINK = (("whose", name) for name in ("user_id", "device_id", "link"))


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
        fingerprints[:, place] = hashed.finish(*hashed.sum(group))
    if layout.paired:
        device = identifications.column("device_id")
        fingerprints[:, -1] = hashed.finish(hash_texts(device, salt_of(_LINK)), valid_mask(device))
    return fingerprints


def owner_hashes(ids: pa.RecordBatch, layout: Layout) -> NDArray[np.uint16]:
    """Of n rows with these ids a hash of the owner of each of their entries, never 0; shape (n, w)."""
    entries = [_RowHashes(ids, HashRules()).user]
    if layout.paired:
        device = ids.column("device_id")
        entries.append(np.where(valid_mask(device), hash_texts(device, salt_of(_DEVICE)), entries[0]))
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
    """The value columns of n identifications, and a hash of each row's user, or else of its device."""

    def __init__(self, identifications: pa.RecordBatch, rules: HashRules) -> None:
        self._rows = identifications
        self._columns: Mapping[FieldPath, pa.Array] = dict(value_columns(identifications))
        self._rules = rules
        names = identifications.schema.names
        if "user_id" in names:
            user = identifications.column("user_id")
            self.user = hash_texts(user, salt_of(_USER))
            if "device_id" in names and user.null_count:
                alone = ~valid_mask(user)
                self.user[alone] = hash_texts(identifications.column("device_id"), salt_of(_DEVICE))[alone]
        else:
            self.user = hash_texts(identifications.column("device_id"), salt_of(_DEVICE))

    def sum(self, group: FieldGroup) -> tuple[Hashes, NDArray[np.bool_]]:
        """The sums of the hashes of a group's values, and which rows have one at all."""
        n = self._rows.num_rows
        columns = [(path, self._columns[path]) for path in group.paths if path in self._columns]
        total: Hashes = np.zeros(n, dtype=np.uint64)
        for path, column in columns:
            if column.null_count == n:
                continue
            hashed = hash_values(column, salt_of(path), self._rules)
            if column.null_count:
                hashed[~valid_mask(column)] = 0
            total += hashed
        return total, _any_valid([column for _, column in columns], n)

    def finish(self, total: Hashes, there: NDArray[np.bool_]) -> NDArray[np.uint32]:
        """32-bit fingerprints of such sums."""
        total = total ^ self.user
        total *= _LAST
        total >>= _HALF
        halved = np.maximum(total, _ONE).astype("<u4")
        return halved if there.all() else np.where(there, halved, np.uint32(0))

    def of_all(self, groups: tuple[FieldGroup, ...]) -> Hashes:
        """64-bit fingerprints of all groups together. Where nothing is given, a link still counts."""
        total = np.zeros(self._rows.num_rows, np.uint64)
        there = np.zeros(self._rows.num_rows, np.bool_)
        for group in groups:
            hashed, some = self.sum(group)
            total += hashed
            there |= some
        if all(name in self._rows.schema.names for name in ("user_id", "device_id")):
            user, device = self._rows.column("user_id"), self._rows.column("device_id")
            alone = ~there & valid_mask(user) & valid_mask(device)
            total[alone] += hash_texts(device, salt_of(_LINK))[alone]
            there |= alone
        mixed = (total ^ self.user) * _LAST
        mixed ^= mixed >> _HALF
        return np.where(there, np.maximum(mixed, _ONE), np.uint64(0))


def _any_valid(columns: list[pa.Array], n: int) -> NDArray[np.bool_]:
    """Which of n rows have a value in one of the columns."""
    if any(column.null_count == 0 for column in columns):
        return np.ones(n, dtype=np.bool_)
    some = np.zeros(n, dtype=np.bool_)
    for column in columns:
        some |= valid_mask(column)
    return some
