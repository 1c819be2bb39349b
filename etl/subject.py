"""Whom an update is about: the columns of an identification that name it, and the keys that stand for it.

A user is named by a user id, a device id, or both; then Amplitude links the device to the user for good. All
rows of a job have the same id columns, and its subject is made of their names. What the two keys of a row
mean, one of which may be absent, is known here alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .amplitude.operators import ID_FIELDS
from .arrow.hashing import Keys, hash_texts
from .arrow.layout import valid_mask


@dataclass(frozen=True, slots=True)
class Subject:
    """The id columns of a job: `lead`, and `link`, which names the subject of a row without a `lead`.

    `link` None: there is one id column. A row with both links the second id to the first.
    """

    lead: str
    link: str | None = None

    @classmethod
    def of(cls, names: Collection[str]) -> Self:
        """The subject of a job, or of identifications, with columns of these names; one is an id at least."""
        return cls(*(name for name in ID_FIELDS if name in names))

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the id columns, the leading one first."""
        return (self.lead,) if self.link is None else (self.lead, self.link)

    def columns(self, identifications: pa.RecordBatch) -> Iterator[tuple[str, pa.StringArray]]:
        """Each id column with its name, the leading one first."""
        return ((name, identifications.column(name)) for name in self.fields)


def subject_of(identifications: pa.RecordBatch) -> Subject:
    """The subject of identifications, or of nothing but their ids."""
    return Subject.of(identifications.schema.names)


def id_keys(field: str, ids: pa.StringArray) -> Keys:
    """A key for each id of a field; shape (n,)."""
    # The same text has another key as a device than as a user. Snapshots keep keys, so a seed never changes.
    return hash_texts(ids, ID_FIELDS.index(field) + 1)


def user_keys(identifications: pa.RecordBatch) -> Keys:
    """Keys of shape (n, w): w is 1 for a job with one id column, 2 (lead, link) for one with both.

    Equal ids have equal keys, whatever batch they came in. Users with equal keys *may* be the same: if that
    matters (merging), the ids themselves are compared. Two users never share a key because an id is missing:
    a row without a lead repeats its other key, and one without a link has a key there that no id has.
    """
    columns = list(subject_of(identifications).columns(identifications))
    keys = [id_keys(name, ids) for name, ids in columns]
    if len(keys) == 1:
        return keys[0].reshape(-1, 1)
    given = [valid_mask(ids) for _, ids in columns]
    lead, link = np.where(given[0], keys[0], keys[1]), np.where(given[1], keys[1], ~keys[0])
    return np.stack([lead, link], axis=1)


def device_keys(keys: Keys) -> Keys:
    """The second key of rows of shape (n, 2), which is the first again where a row has no device."""
    second: Keys = np.where(keys[:, 1] == ~keys[:, 0], keys[:, 0], keys[:, 1])
    return second


def names_device_alone(keys: Keys) -> NDArray[np.bool_]:
    """Which rows of keys (n, w) name no user, in a job with both ids; shape (n,)."""
    alone: NDArray[np.bool_] = (
        keys[:, 0] == keys[:, 1] if keys.shape[1] == 2 else np.zeros(len(keys), np.bool_)
    )
    return alone
