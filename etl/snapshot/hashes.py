"""64-bit hashes of a column's values, the same in every process, on every machine, from every batch.

Values that are the same in JSON have the same hash, and those that differ in JSON differ: 5, 5.0 and 5.00 are
one number, a day is the text that is sent of it, and an object is the same whatever the order of its members.
No I/O.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl.json_lines import Splice, json_lines
from etl.keys import hash_texts
from etl.snapshot.json_hashes import (
    BOOLEAN,
    JSON,
    LIST,
    MEMBER,
    NAMES,
    NULL,
    OBJECT,
    TIME,
    hash_json,
    in_object,
)
from etl.snapshot.number_hashes import (
    SPREAD,
    Hashes,
    hash_decimals,
    hash_doubles,
    hash_integers,
    hash_singles,
    scrambled,
)

# How values are hashed. The first way took moments by their numbers, floats by their doubles, and all that is
# rare by its JSON text. A snapshot that began with it goes on with it, or everything would count as changed.
FIRST: Final = 1
NEWEST: Final = 2

_NUL: Final = "\x00"
_LISTS: Final = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
_VIEWS: Final = (pa.types.is_large_string, pa.types.is_string_view)


class How(NamedTuple):
    """`splice` makes JSON lines of marked strings what they stand for; `way` is FIRST or NEWEST."""

    splice: Splice | None = None
    way: int = NEWEST


@lru_cache(maxsize=4096)
def salt_of(words: tuple[str, ...]) -> int:
    """A seed that only this sequence of words has."""
    return int(hash_texts(pa.array([_NUL.join(words)]))[0])


_AS_SENT: Final = How()


def hash_values(values: pa.Array, salt: int, how: How = _AS_SENT) -> Hashes:
    """Hash each value; shape (n,). What nulls hash to means nothing."""
    kind = values.type
    if pa.types.is_string(kind):
        return _texts(values, salt, how)
    if any(is_it(kind) for is_it in _VIEWS):
        return _texts(values.cast(pa.string()), salt, how)
    if pa.types.is_boolean(kind):
        return scrambled(_dense(values).astype(np.uint64), salt ^ BOOLEAN)
    if pa.types.is_integer(kind):
        return hash_integers(_dense(values), salt, all_digits=how.way == FIRST)
    if pa.types.is_floating(kind):
        return _floats(values, salt, how)
    if pa.types.is_temporal(kind):
        return _moments(values, salt, how)
    if any(is_it(kind) for is_it in _LISTS):
        return _lists(values, salt, how)
    return _rare(values, salt, how)


def _rare(values: pa.Array, salt: int, how: How) -> Hashes:
    kind = values.type
    if how.way == FIRST:
        return _as_text_of_json(values, salt, how)
    if pa.types.is_decimal(kind):
        return hash_decimals(values, salt)
    if pa.types.is_struct(kind):
        return _structs(values, salt, how)
    if pa.types.is_map(kind):
        return _maps(values, salt, how)
    if pa.types.is_dictionary(kind):
        return _taken(hash_values(values.dictionary, salt, how), values.indices)
    if pa.types.is_run_end_encoded(kind):
        return hash_values(pc.run_end_decode(values), salt, how)
    if isinstance(kind, pa.BaseExtensionType):
        return hash_values(values.storage, salt, how)
    return _as_json(values, salt, how)


def _texts(texts: pa.Array, salt: int, how: How) -> Hashes:
    hashed = hash_texts(texts, salt)
    if _has_nul(texts):  # only such a text can be marked
        rows = np.flatnonzero(pc.match_substring(texts, _NUL).fill_null(fill_value=False))
        by_json = _as_text_of_json if how.way == FIRST else _as_json
        hashed[rows] = by_json(texts.take(pa.array(rows)), salt, how)
    return hashed


def _has_nul(texts: pa.StringArray) -> bool:
    _, offsets, data = texts.buffers()
    if data is None or len(texts) == 0:
        return False
    ends = np.frombuffer(offsets, np.int32)
    letters = np.frombuffer(data, np.uint8)[ends[texts.offset] : ends[texts.offset + len(texts)]]
    return not letters.all()


def _floats(values: pa.Array, salt: int, how: How) -> Hashes:
    if pa.types.is_float64(values.type) or how.way == FIRST:
        return hash_doubles(_dense(values).astype("<f8"), salt)
    return hash_singles(_dense(values).astype("<f4"), salt)


def _moments(values: pa.Array, salt: int, how: How) -> Hashes:
    """Days and times as the texts that are sent of them."""
    kind = values.type
    if how.way == FIRST and kind.bit_width in {32, 64}:
        whole = pa.int32() if kind.bit_width == 32 else pa.int64()
        own = int(hash_texts(pa.array([str(kind)]), TIME % 2**32)[0])
        return scrambled(_dense(values.view(whole)).astype("<i8").view("<u8"), salt ^ own)
    if pa.types.is_date32(kind):  # of which there are few
        days = values.dictionary_encode()
        return _taken(hash_texts(days.dictionary.cast(pa.string()), salt), days.indices)
    if kind == pa.timestamp("s"):
        return hash_texts(_written(values), salt)
    return _as_json(values, salt, how)


def _taken(hashed: Hashes, indices: pa.Array) -> Hashes:
    """The hashes at these places; nulls as any."""
    if len(hashed) == 0:
        return np.zeros(len(indices), dtype=np.uint64)
    taken: Hashes = hashed[indices.fill_null(0).to_numpy(zero_copy_only=False)]
    return taken


def _written(seconds: pa.Array) -> pa.Array:
    """timestamp[s] as `YYYY-MM-DDTHH:MM:SS`; nulls as any."""
    texts = seconds.fill_null(pa.scalar(0).cast(seconds.type)).cast(pa.string())
    _, offsets, data = texts.buffers()
    letters = np.frombuffer(data or b"", np.uint8).copy()
    letters[letters == ord(" ")] = ord("T")
    return pa.StringArray.from_buffers(len(texts), offsets, pa.py_buffer(letters), offset=texts.offset)


def _lists(values: pa.Array, salt: int, how: How) -> Hashes:
    """Elements with their places, added up by list."""
    lengths = _lengths(values)
    flat = values.flatten()
    elements = hash_values(flat, salt ^ LIST, how)
    if flat.null_count:
        elements[np.asarray(flat.is_null())] = NULL
    ends = np.cumsum(lengths)
    places = np.arange(len(flat)) - np.repeat(ends - lengths, lengths)
    elements = scrambled(elements + places.astype(np.uint64) * SPREAD, salt)
    return scrambled(_sums(elements, lengths), salt ^ LIST)


def _structs(values: pa.Array, salt: int, how: How) -> Hashes:
    """Members with their names, added up; those that are null aren't there."""
    total = _none(values)
    for field, members in zip(values.type, values.flatten(), strict=True):
        names = hash_texts(pa.array([field.name]), NAMES)
        hashed = scrambled(hash_values(members, in_object(salt), how) ^ names, salt ^ MEMBER)
        if members.null_count:
            hashed[np.asarray(members.is_null())] = 0
        total += hashed
    return scrambled(total, salt ^ OBJECT)


def _maps(values: pa.Array, salt: int, how: How) -> Hashes:
    """The same of maps, whose keys are names."""
    kind = values.type
    pairs = values.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
    keys, members = pairs.flatten().flatten()
    names = hash_texts(keys.cast(pa.string()), NAMES)
    hashed = scrambled(hash_values(members, in_object(salt), how) ^ names, salt ^ MEMBER)
    if members.null_count:
        hashed[np.asarray(members.is_null())] = 0
    return scrambled(_sums(hashed, _lengths(pairs)), salt ^ OBJECT)


def _lengths(lists: pa.Array) -> NDArray[np.int64]:
    lengths: NDArray[Any] = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    return lengths.astype(np.int64)


def _sums(elements: Hashes, lengths: NDArray[np.int64]) -> Hashes:
    """Sums over lists of so many elements, one list behind the other."""
    ends = np.cumsum(lengths)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(elements, dtype=np.uint64)])
    total: Hashes = sums[ends] - sums[ends - lengths]
    return total


def _as_json(values: pa.Array, salt: int, how: How) -> Hashes:
    """By what the JSON holds, value by value: for what is seldom, and for marked strings."""
    # A line is {"v":...}, or {} for a null.
    texts = [line[5:-1] or b"null" for line in _lines(values, how).split(b"\n")[:-1]]
    return np.array(hash_json(texts, salt), dtype=np.uint64)


def _as_text_of_json(values: pa.Array, salt: int, how: How) -> Hashes:
    if len(values) == 0:
        return _none(values)
    lines = _lines(values, how)
    ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n")) + 1
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    texts = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(lines))
    return hash_texts(texts, salt ^ JSON)


def _lines(values: pa.Array, how: How) -> bytes:
    return json_lines(pa.RecordBatch.from_arrays([values], names=["v"]), splice=how.splice)


def _none(values: pa.Array) -> Hashes:
    return np.zeros(len(values), dtype=np.uint64)


def _dense(values: pa.Array) -> NDArray[Any]:
    """Values as numpy has them, nulls as zeros of the same type."""
    if values.null_count:
        values = values.fill_null(pa.scalar(0).cast(values.type))
    dense: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return dense
