"""Whom an update is about: the columns of an identification that name it, and the keys that stand for it.

A user is named by a user id, a device id, or both; then Amplitude links the device to the user for good. All
rows of a job have the same id columns, and its subject is made of their names. Only this module knows what
the two keys of a row mean, and what stands for an absent one.

A key is a hash of 64 bits, made by column. Equal ids have equal keys, whatever batch they came in. Users with
equal keys *may* be the same: if that matters (merging), the ids themselves are compared. Values and lines are
hashed in the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .amplitude.requests import ID_FIELDS
from .arrow.layout import text_layout, valid_mask

Keys: TypeAlias = NDArray[np.uint64]


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

    Two users never share a key because an id is missing: a row without a lead repeats its other key, and one
    without a link has a key there that no id has.
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
    return np.where(keys[:, 1] == ~keys[:, 0], keys[:, 0], keys[:, 1])


def names_device_alone(keys: Keys) -> NDArray[np.bool_]:
    """Which rows of keys (n, w) name no user, in a job with both ids; shape (n,)."""
    return keys[:, 0] == keys[:, 1] if keys.shape[1] == 2 else np.zeros(len(keys), np.bool_)


def keys_in(keys: Keys, others: Keys) -> NDArray[np.bool_]:
    """Mark those of `keys` that are in `others`, of any shapes.

    For some hundreds of others it takes a fifth of the time of numpy's `isin`.
    """
    if not others.size:
        return np.zeros(keys.shape, dtype=np.bool_)
    ordered = np.sort(others, axis=None)
    places = np.minimum(ordered.searchsorted(keys), len(ordered) - 1)
    found: NDArray[np.bool_] = ordered[places] == keys
    return found


def without_users(keys: Keys, gone: Keys) -> Keys:
    """Return those of `keys` (shape (n, w)) whose user, the first column, is not in `gone` (shape (m,))."""
    return keys[~keys_in(keys[:, 0], gone)]


# --- hashes of text --------------------------------------------------------------------------------------

# Odd constants of splitmix64 and of MurmurHash3's 64-bit finaliser.
LENGTH_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
WORD_FACTOR: Final = np.uint64(0xD6E8FEB86659FD93)
_MIX_FACTORS: Final = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_BYTES, _WORD_BITS = np.uint64(8), np.uint64(64)  # of a word
LOW_BYTE_MASKS: Final = np.array([(1 << (8 * n)) - 1 for n in range(9)], dtype=np.uint64)


def hash_texts(texts: pa.StringArray, seed: int = 0) -> Keys:
    """Hash each string (UTF-8) to 64 bits; shape (n,). Nulls hash as the empty string."""
    starts, stops, letters = text_layout(texts)
    data = np.zeros(len(letters) // 8 + 2, dtype="<u8")  # with room for one word more
    data.view(np.uint8)[: len(letters)] = letters
    lengths = stops - starts
    hashed = lengths.astype(np.uint64)
    hashed *= LENGTH_FACTOR
    hashed += np.uint64(seed)
    shortest, rows = int(lengths.min()) if len(texts) else 0, np.arange(0)
    # A text is read by whole words, each of which is put together of two: numpy takes them twice as fast.
    places, up = starts >> 3, starts.view(np.uint64) % _BYTES * _BYTES
    state, down, ahead = hashed, _WORD_BITS - up, data.take(places)
    for done in range(0, int(lengths.max(initial=1)), 8):
        if done and done >= shortest:  # only some of the texts go on
            on = np.flatnonzero(lengths > done)
            if state is hashed:
                rows = on
            else:
                hashed[rows] = state
                rows = rows.take(on)
            lengths, places = lengths.take(on), places.take(on)
            state, up, down, ahead = (some.take(on) for some in (state, up, down, ahead))
        places += 1
        word = ahead >> up
        ahead = data.take(places)
        word |= ahead << down  # by 64 bits, of which numpy makes 0
        if done + 8 > shortest:
            word &= LOW_BYTE_MASKS.take(np.minimum(lengths - done, 8))
        word *= WORD_FACTOR
        state ^= word
        mix_bits(state)
    if state is not hashed:
        hashed[rows] = state
    return mix_bits(hashed)


def mix_bits(hashed: Keys) -> Keys:
    """Let every bit of a 64-bit word influence every other, in place; shape (n,)."""
    for factor in _MIX_FACTORS:
        hashed ^= hashed >> np.uint64(33)
        hashed *= factor
    hashed ^= hashed >> np.uint64(33)
    return hashed
