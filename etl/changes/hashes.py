"""64-bit hashes of a column's values, the same in every process, on every machine, from every batch.

Values that are the same in JSON have the same hash where that is cheap (5 and 5.0, int32 and int64), and
those that differ in JSON differ. No I/O.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl.arrow.json_kinds import by_kind
from etl.arrow.raw_json import unmarked
from etl.json_lines import Splice, json_lines
from etl.keys import hash_texts

Hashes: TypeAlias = NDArray[np.uint64]

# Odd numbers: of the golden ratio, and of the last round of Stafford's thirteenth mixer.
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX: Final = np.uint64(0x94D049BB133111EB)
_HALF: Final = np.uint64(32)
# What a value is, beside its bits.
_NUMBER, _WIDE, _BOOLEAN, _TIME, _LIST, _JSON = (int(_SPREAD) * n % 2**64 for n in range(2, 8))
_EXACT: Final = 2**53  # below it every whole number is a float
_NUL: Final = "\x00"
_LISTS: Final = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_VIEWS: Final = (pa.types.is_large_string, pa.types.is_string_view)


@lru_cache(maxsize=4096)
def salt_of(words: tuple[str, ...]) -> int:
    """A seed that only this sequence of words has."""
    return int(hash_texts(pa.array([_NUL.join(words)]))[0])


def hash_values(values: pa.Array, salt: int, splice: Splice | None = None) -> Hashes:
    """Hash each value; shape (n,). What nulls hash to means nothing.

    `splice` makes JSON lines of marked strings what they stand for.
    """
    kind = values.type
    if pa.types.is_string(kind):
        return _texts(values, salt, splice)
    if any(is_it(kind) for is_it in _VIEWS):
        return _texts(values.cast(pa.string()), salt, splice)
    if pa.types.is_boolean(kind):
        return _scrambled(_dense(values).astype(np.uint64), salt ^ _BOOLEAN)
    if pa.types.is_integer(kind):
        return _integers(_dense(values), salt)
    if pa.types.is_floating(kind):
        return _floats(_dense(values).astype("<f8"), salt)
    if pa.types.is_temporal(kind) and kind.bit_width in {32, 64}:
        return _moments(values, salt)
    if any(is_it(kind) for is_it in _LISTS):
        return _lists(values, salt, splice)
    return _as_json(values, salt, splice)


def _texts(texts: pa.Array, salt: int, splice: Splice | None) -> Hashes:
    hashed = hash_texts(texts, salt)
    if _has_nul(texts):  # only such a text can be marked
        rows = np.flatnonzero(pc.match_substring(texts, _NUL).fill_null(fill_value=False))
        hashed[rows] = _marked(texts.take(pa.array(rows)), salt, splice)
    return hashed


def _marked(texts: pa.Array, salt: int, splice: Splice | None) -> Hashes:
    """Marked JSON as the values that it stands for have it; other text, and what is nested, by its JSON."""
    hashed = _as_json(texts, salt, splice)
    for kind, rows, values in by_kind(map(unmarked, texts.to_pylist())):
        if kind == "typed":
            hashed[rows] = hash_values(values, salt, splice)
    return hashed


def _has_nul(texts: pa.StringArray) -> bool:
    _, offsets, data = texts.buffers()
    if data is None or len(texts) == 0:
        return False
    ends = np.frombuffer(offsets, np.int32)
    letters = np.frombuffer(data, np.uint8)[ends[texts.offset] : ends[texts.offset + len(texts)]]
    return not letters.all()


def _integers(values: NDArray[Any], salt: int) -> Hashes:
    hashed = _floats(values.astype("<f8"), salt)
    if values.itemsize == 8 and len(values):
        wide = np.flatnonzero((values > _EXACT) | (values < -_EXACT))
        bits = values[wide].astype("<u8" if values.dtype.kind == "u" else "<i8").view("<u8")
        hashed[wide] = _scrambled(bits, salt ^ _WIDE)
    return hashed


def _floats(values: NDArray[Any], salt: int) -> Hashes:
    zeroed: NDArray[Any] = values + 0.0  # -0.0 becomes 0.0
    return _scrambled(zeroed.view("<u8"), salt ^ _NUMBER)


def _moments(values: pa.Array, salt: int) -> Hashes:
    """Days and times as their numbers; the unit and zone count, too."""
    whole = pa.int32() if values.type.bit_width == 32 else pa.int64()
    kind = int(hash_texts(pa.array([str(values.type)]), _TIME % 2**32)[0])
    return _scrambled(_dense(values.view(whole)).astype("<i8").view("<u8"), salt ^ kind)


def _lists(values: pa.Array, salt: int, splice: Splice | None) -> Hashes:
    """Elements with their places, added up by list."""
    lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = values.flatten()
    elements = hash_values(flat, salt ^ _LIST, splice)
    if flat.null_count:
        elements[np.asarray(flat.is_null())] = _MIX
    ends = np.cumsum(lengths)
    places = np.arange(len(flat)) - np.repeat(ends - lengths, lengths)
    elements = _scrambled(elements + places.astype(np.uint64) * _SPREAD, salt)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(elements, dtype=np.uint64)])
    return _scrambled(sums[ends] - sums[ends - lengths], salt ^ _LIST)


def _as_json(values: pa.Array, salt: int, splice: Splice | None) -> Hashes:
    """By the JSON text: for what is seldom, and for marked strings."""
    if len(values) == 0:
        return np.empty(0, dtype=np.uint64)
    lines = json_lines(pa.RecordBatch.from_arrays([values], names=["v"]), splice=splice)
    ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n")) + 1
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    texts = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(lines))
    return hash_texts(texts, salt ^ _JSON)


def _dense(values: pa.Array) -> NDArray[Any]:
    """Values as numpy has them, nulls as zeros of the same type."""
    if values.null_count:
        values = values.fill_null(pa.scalar(0).cast(values.type))
    dense: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return dense


def _scrambled(bits: NDArray[Any], salt: int) -> Hashes:
    hashed: Hashes = bits ^ np.uint64(salt)
    hashed *= _SPREAD
    hashed ^= hashed >> _HALF
    hashed *= _MIX
    return hashed
