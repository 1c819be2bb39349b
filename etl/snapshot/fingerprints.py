"""Fingerprints of identifications: equal ones say the same of the same user, in any process and version.

A fingerprint covers what a bundle is called, its values, which of its leaves are there, and the id itself:
two users who share a key still have different fingerprints. 0 means that nothing is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from etl.keys import hash_texts
from etl.leaves import leaves, valid
from etl.snapshot.hashes import How, hash_values, salt_of
from etl.snapshot.number_hashes import Hashes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from etl.json_lines import Splice
    from etl.leaves import Path
    from etl.model import Fingerprints
    from etl.snapshot.layout import Bundle, Layout

_LAST: Final = np.uint64(0xFF51AFD7ED558CCD)
_HALF: Final = np.uint64(32)
# Other seeds than those of the keys, so that users with one key differ here.
_USER, _DEVICE, _LINK = (("whose", name) for name in ("user_id", "device_id", "link"))


def fingerprints_of(
    identifications: pa.RecordBatch, layout: Layout, splice: Splice | None = None
) -> Fingerprints:
    """Fingerprints of shape (n, p), in the order of `layout.names`.

    `splice` is what makes marked strings the JSON that they stand for: marks differ from process to process.
    """
    hashed = _Hashed(identifications, How(splice, layout.hashing))
    if layout.mode == "user":
        return hashed.fingerprints(layout.compared).reshape(-1, 1)
    fingerprints = np.empty((identifications.num_rows, len(layout.names)), dtype=layout.dtype)
    for place, bundle in enumerate(layout.compared):
        fingerprints[:, place] = hashed.of(bundle)
    if layout.paired:
        fingerprints[:, -1] = hashed.link()
    return fingerprints


def whose(ids: pa.RecordBatch, layout: Layout) -> NDArray[np.uint16]:
    """Of n rows with these ids a hash of whom each of their entries is of, never 0; shape (n, w)."""
    hashed = _Hashed(ids, How())
    entries = [hashed.who, hashed.device()] if layout.paired else [hashed.who]
    words = np.stack([(own * _LAST) >> np.uint64(48) for own in entries], axis=1)
    return np.maximum(words, np.uint64(1)).astype(np.uint16)


def whole_fingerprints(fingerprints: Fingerprints, layout: Layout) -> Fingerprints:
    """One fingerprint for all columns that count, of `fingerprints` (shape (n, p)), as shape (n,).

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
    return np.where(there, np.maximum(total, np.uint64(1)), np.uint64(0)).astype(layout.dtype)


def given(identifications: pa.RecordBatch, paths: tuple[Path, ...]) -> NDArray[np.bool_]:
    """Which rows have a value under one of the paths; shape (n,)."""
    found = dict(leaves(identifications))
    return _any_valid([found[path] for path in paths if path in found], identifications.num_rows)


class _Hashed:
    """The leaves of n identifications, and a hash of who each is about."""

    def __init__(self, identifications: pa.RecordBatch, how: How) -> None:
        self._n = identifications.num_rows
        self._ids = identifications
        self._leaves: Mapping[Path, pa.Array] = dict(leaves(identifications))
        self._how = how
        self.who = self._whose()

    def of(self, bundle: Bundle) -> NDArray[np.uint32]:
        """32-bit fingerprints of a bundle; shape (n,)."""
        total, there = self._total(bundle)
        return self._half(total, there)

    def link(self) -> NDArray[np.uint32]:
        """32-bit fingerprints of whose device each is."""
        device = self._ids.column("device_id")
        return self._half(hash_texts(device, salt_of(_LINK)), valid(device))

    def device(self) -> Hashes:
        """A hash of the device's id, or of the user's where there is none."""
        device = self._ids.column("device_id")
        return np.where(valid(device), hash_texts(device, salt_of(_DEVICE)), self.who)

    def fingerprints(self, compared: tuple[Bundle, ...]) -> Hashes:
        """64-bit fingerprints of all bundles together. Where none is given, a link still counts."""
        totals = [self._total(bundle) for bundle in compared]
        there = np.logical_or.reduce([some for _, some in totals]) if totals else np.zeros(self._n, np.bool_)
        total = np.zeros(self._n, np.uint64)
        for hashed, _ in totals:
            total += hashed
        if all(name in self._ids.schema.names for name in ("user_id", "device_id")):
            user, device = self._ids.column("user_id"), self._ids.column("device_id")
            alone = ~there & valid(user) & valid(device)
            total[alone] += hash_texts(device, salt_of(_LINK))[alone]
            there |= alone
        mixed = (total ^ self.who) * _LAST
        mixed ^= mixed >> _HALF
        return np.where(there, np.maximum(mixed, np.uint64(1)), np.uint64(0))

    def _half(self, total: Hashes, there: NDArray[np.bool_]) -> NDArray[np.uint32]:
        total = total ^ self.who
        total *= _LAST
        total >>= _HALF
        halved = np.maximum(total, np.uint64(1)).astype("<u4")
        return halved if there.all() else np.where(there, halved, np.uint32(0))

    def _total(self, bundle: Bundle) -> tuple[Hashes, NDArray[np.bool_]]:
        """The sum of the hashes of a bundle's values, and where there is one at all."""
        columns = [(path, self._leaves[path]) for path in bundle.paths if path in self._leaves]
        total: Hashes = np.zeros(self._n, dtype=np.uint64)
        for path, column in columns:
            if column.null_count == self._n:
                continue
            hashed = hash_values(column, salt_of(path), self._how)
            if column.null_count:
                hashed[~valid(column)] = 0
            total += hashed
        return total, _any_valid([column for _, column in columns], self._n)

    def _whose(self) -> Hashes:
        """A hash of the user's id, or of the device's where there is no user."""
        names: Any = self._ids.schema.names
        if "user_id" not in names:
            return hash_texts(self._ids.column("device_id"), salt_of(_DEVICE))
        user = self._ids.column("user_id")
        who = hash_texts(user, salt_of(_USER))
        if "device_id" in names and user.null_count:
            nameless = ~valid(user)
            who[nameless] = hash_texts(self._ids.column("device_id"), salt_of(_DEVICE))[nameless]
        return who


def _any_valid(columns: list[pa.Array], n: int) -> NDArray[np.bool_]:
    if not columns:
        return np.zeros(n, dtype=np.bool_)
    if any(column.null_count == 0 for column in columns):
        return np.ones(n, dtype=np.bool_)
    some: NDArray[np.bool_] = np.logical_or.reduce([valid(column) for column in columns])
    return some
