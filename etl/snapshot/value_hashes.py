"""64-bit hashes of values, the same in every process, on every machine, from every batch.

Values that are equal in JSON have the same hash, and values that differ in JSON have different ones: 5, 5.0
and 5.00 are one number, a date is the text that is sent for it, and the order of an object's members doesn't
count. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..arrow.json_text import Splice, json_lines, load_json
from ..arrow.layout import FlatLists, as_mask, map_entries, text_layout, valid_mask
from ..subject import hash_texts

if TYPE_CHECKING:
    from pydantic import JsonValue

Hashes: TypeAlias = NDArray[np.uint64]

# Odd numbers: of the golden ratio, and of the last round of Stafford's thirteenth mixer.
GOLDEN_RATIO: Final = np.uint64(0x9E3779B97F4A7C15)
_MIXER: Final = np.uint64(0x94D049BB133111EB)
_HALF: Final = np.uint64(32)
_BITS: Final = 2**64
# The type of a value, which is hashed with its bits.
_NUMBER, _WIDE, _BOOLEAN, _LIST, _OBJECT, _MEMBER, _NAMES, _NEGATIVE = (
    int(GOLDEN_RATIO) * n % _BITS for n in (2, 3, 4, 6, 8, 9, 10, 11)
)
_NULL = _IN_OBJECT = int(_MIXER)  # as an element of a list; the factor of the salts of members
_EXACT: Final = 2**53  # up to here every whole number is a double with all its digits
_EXACT_DIGITS: Final = 15  # a decimal with no more digits is written like its nearest double
_WHOLE: Final = pa.decimal128(38, 0)
_DIGITS: Final = Context(prec=100)
_NUL: Final = "\x00"


@lru_cache(maxsize=4096)
def salt_of(words: tuple[str, ...]) -> int:
    """A seed that only this sequence of words has."""
    return int(hash_texts(pa.array([_NUL.join(words)]))[0])


def hash_bits(bits: NDArray[Any], salt: int) -> Hashes:
    """Hash n words."""
    hashed: Hashes = bits ^ np.uint64(salt)
    hashed *= GOLDEN_RATIO
    hashed ^= hashed >> _HALF
    hashed *= _MIXER
    return hashed


def hash_values(values: pa.Array, salt: int, splice: Splice | None = None) -> Hashes:
    """Hash each value; shape (n,). The hashes of nulls have no meaning.

    `splice` replaces marked strings in JSON lines by their JSON. By column are hashed the types that the
    mapper gives; others have the same hashes, but take longer.
    """
    kind = values.type
    if pa.types.is_string(kind):
        return _hash_texts(values, salt, splice)
    if pa.types.is_dictionary(kind):
        distinct: Hashes = np.append(hash_values(values.dictionary, salt, splice), np.uint64(0))
        return distinct.take(_dense(values.indices))
    if pa.types.is_boolean(kind):
        return hash_bits(_dense(values).astype(np.uint64), salt ^ _BOOLEAN)
    if pa.types.is_integer(kind):
        return _hash_integers(_dense(values), salt)
    if pa.types.is_floating(kind):
        if pa.types.is_float64(kind):
            return _hash_doubles(_dense(values).astype("<f8"), salt)
        return _hash_singles(_dense(values).astype("<f4"), salt)
    if pa.types.is_date32(kind):  # few distinct ones: as the texts that are sent for them
        days = values.dictionary_encode()
        texts = pa.DictionaryArray.from_arrays(days.indices, days.dictionary.cast(pa.string()))
        return hash_values(texts, salt)
    if kind == pa.timestamp("s"):  # Arrow's text has a space before hh:mm:ss where JSON has a T
        return hash_texts(pc.binary_replace_slice(values.cast(pa.string()), -9, -8, "T"), salt)
    if pa.types.is_list(kind):
        lists = FlatLists.of(values)
        elements = hash_values(lists.elements, salt ^ _LIST, splice)
        elements[~valid_mask(lists.elements)] = _NULL
        return _hash_lists(elements, lists.lengths, salt)
    return _hash_rare(values, salt, splice)


def _hash_rare(values: pa.Array, salt: int, splice: Splice | None) -> Hashes:
    kind = values.type
    if pa.types.is_decimal(kind):
        return _hash_decimals(values, salt)
    if pa.types.is_struct(kind):
        names = (hash_texts(pa.array([field.name]), _NAMES) for field in kind)
        total = np.zeros(len(values), dtype=np.uint64)
        for own, members in zip(names, values.flatten(), strict=True):
            total += _hash_members(own, members, salt, splice)
        return hash_bits(total, salt ^ _OBJECT)
    if pa.types.is_map(kind):
        lists = FlatLists.of(map_entries(values))
        keys, members = lists.elements.flatten()
        hashed = _hash_members(hash_texts(keys.cast(pa.string()), _NAMES), members, salt, splice)
        return hash_bits(_sums(hashed, lists.lengths), salt ^ _OBJECT)
    return _hash_by_json(values, salt, splice)


def _hash_texts(texts: pa.Array, salt: int, splice: Splice | None) -> Hashes:
    hashed = hash_texts(texts, salt)
    _, _, letters = text_layout(texts)
    if not letters.all():  # only a text with a NUL can be marked
        rows = np.flatnonzero(as_mask(pc.match_substring(texts, _NUL)))
        hashed[rows] = _hash_by_json(texts.take(pa.array(rows)), salt, splice)
    return hashed


def _hash_lists(elements: Hashes, lengths: NDArray[np.int64], salt: int) -> Hashes:
    """Hashes of lists of these lengths, from those of their elements and their places."""
    places = np.arange(len(elements)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    elements = hash_bits(elements + places.astype(np.uint64) * GOLDEN_RATIO, salt)
    return hash_bits(_sums(elements, lengths), salt ^ _LIST)


def _hash_members(names: Hashes, members: pa.Array, salt: int, splice: Splice | None) -> Hashes:
    """Members of objects with the hashes of their names; 0 for null, as such a member is left out."""
    hashed = hash_bits(
        hash_values(members, (salt * _IN_OBJECT + _OBJECT) % _BITS, splice) ^ names, salt ^ _MEMBER
    )
    hashed[~valid_mask(members)] = 0
    return hashed


def _sums(elements: Hashes, lengths: NDArray[np.int64]) -> Hashes:
    """Sums over lists of these lengths, which stand one behind the other."""
    ends = np.cumsum(lengths)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(elements, dtype=np.uint64)])
    total: Hashes = sums[ends] - sums[ends - lengths]
    return total


def _dense(values: pa.Array) -> NDArray[Any]:
    """Values as a numpy array of the same type, with zeros for nulls."""
    if values.null_count:
        values = values.fill_null(pa.scalar(0).cast(values.type))
    dense: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return dense


# --- numbers: 0.1 as a float, a double or a decimal is 0.1, as that stands in the JSON ----------------------


def _hash_integers(values: NDArray[Any], salt: int) -> Hashes:
    """Hash n integers; a big one is equal to the nearest double where that has the same digits."""
    hashed = _hash_doubles(values.astype("<f8"), salt)
    wide = np.flatnonzero((values > _EXACT) | (values < -_EXACT))
    if len(wide):
        # A double has 17 digits at most, an integer of 64 bits 19 or 20: most can't be alike.
        own = values[wide]
        rows = np.flatnonzero((np.abs(own.astype("<f8")) < 1e17) | (own % 10 == 0))
        doubles = pa.array(own[rows].astype("<f8")).cast(pa.string()).cast(_WHOLE)
        alike = pc.equal(doubles, pa.array(own[rows]).cast(_WHOLE)).to_numpy(zero_copy_only=False)
        wide = np.delete(wide, rows[alike])
        hashed[wide] = _hash_wide(values[wide], salt)
    return hashed


def _hash_wide(values: NDArray[Any], salt: int) -> Hashes:
    """Hash big integers by their bits, which a negative one shares with a large unsigned one."""
    bits = values.astype("<u8") ^ np.where(values < 0, np.uint64(_NEGATIVE), np.uint64(0))
    return hash_bits(bits, salt ^ _WIDE)


def _hash_doubles(values: NDArray[Any], salt: int) -> Hashes:
    zeroed: NDArray[Any] = values + 0.0  # -0.0 becomes 0.0
    return hash_bits(zeroed.view("<u8"), salt ^ _NUMBER)


def _hash_singles(values: NDArray[Any], salt: int) -> Hashes:
    """Hash n floats of 32 bits, which are written with fewer digits than the same doubles."""
    doubles = values.astype("<f8")
    rows = np.flatnonzero((doubles != np.floor(doubles)) | (np.abs(doubles) >= 2**24))
    if len(rows):
        written = pa.array(values[rows], pa.float32()).cast(pa.string()).cast(pa.float64())
        doubles[rows] = written.to_numpy(zero_copy_only=False)
    return _hash_doubles(doubles, salt)


def _hash_decimals(values: pa.Array, salt: int) -> Hashes:
    texts = values.cast(pa.string()).fill_null("0")
    hashed = _hash_doubles(texts.cast(pa.float64()).to_numpy(zero_copy_only=False), salt)
    if values.type.precision > _EXACT_DIGITS:
        # Without the zeros that fill up the scale; with sign and point a text may be longer than its digits.
        lengths = pc.utf8_length(pc.utf8_rtrim(texts, "0")).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(lengths > _EXACT_DIGITS).tolist():
            hashed[row] = _hash_decimal(Decimal(texts[row].as_py()), salt)
    return hashed


def _hash_decimal(value: Decimal, salt: int) -> int:
    """Hash one decimal; like a double, if that is written with the same digits."""
    double = float(value)
    if Decimal(repr(double)) == value:
        return int(_hash_doubles(np.array([double]), salt)[0])
    if value == value.to_integral_value(context=_DIGITS) and -(2**63) <= value < 2**64:
        kind = np.dtype(np.int64 if value < 0 else np.uint64)
        return int(_hash_wide(np.array([int(value)], kind), salt)[0])
    return int(hash_texts(pa.array([str(_DIGITS.normalize(value))]), salt ^ _WIDE)[0])


# --- values one by one, by their JSON: rare types and marked strings -------------------------------------


def _hash_by_json(values: pa.Array, salt: int, splice: Splice | None) -> Hashes:
    lines = json_lines(pa.RecordBatch.from_arrays([values], names=["v"]), splice=splice)
    # A line is {"v":...}, or {} for a null.
    texts = [line[5:-1] or b"null" for line in lines.splitlines()]
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    hashed = _hash_parsed([load_json(text) for text in places], salt)
    return hashed[[places[text] for text in texts]]


def _hash_parsed(values: Sequence[JsonValue], salt: int) -> Hashes:
    """Hash values as columns of their types are hashed; those of one type together."""
    hashed = np.full(len(values), _NULL, dtype=np.uint64)
    rows_of: dict[type, list[int]] = {}
    for row, value in enumerate(values):
        rows_of.setdefault(type(value), []).append(row)
    for kind, rows in rows_of.items():
        own: list[Any] = [values[row] for row in rows]
        if kind is str:
            hashed[rows] = hash_texts(pa.array(own, pa.string()), salt)
        elif kind is bool:
            hashed[rows] = hash_bits(np.array(own, dtype=np.uint64), salt ^ _BOOLEAN)
        elif kind is list:
            lengths = np.array([len(elements) for elements in own])
            elements = _hash_parsed([element for elements in own for element in elements], salt ^ _LIST)
            hashed[rows] = _hash_lists(elements, lengths, salt)
        elif kind is dict:
            objects = [[(name, m) for name, m in members.items() if m is not None] for members in own]
            flat = [pair for members in objects for pair in members]
            names = hash_texts(pa.array([name for name, _ in flat], pa.string()), _NAMES)
            members = _hash_parsed([member for _, member in flat], (salt * _IN_OBJECT + _OBJECT) % _BITS)
            total = _sums(hash_bits(members ^ names, salt ^ _MEMBER), np.array([len(m) for m in objects]))
            hashed[rows] = hash_bits(total, salt ^ _OBJECT)
        elif kind is int or kind is float:
            wide = [kind is int and abs(number) > _EXACT for number in own]
            doubles = [0.0 if is_wide else float(number) for number, is_wide in zip(own, wide, strict=True)]
            hashed[rows] = _hash_doubles(np.array(doubles), salt)
            for place in np.flatnonzero(wide).tolist():
                hashed[rows[place]] = _hash_decimal(Decimal(own[place]), salt)
    return hashed
