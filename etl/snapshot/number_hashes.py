"""64-bit hashes of numbers: equal for numbers that are equal in JSON, whatever their type. No I/O.

A number is what stands in the JSON: 0.1 as a float, a double or a decimal is 0.1, and 49.00 is 49. One that a
double writes with the same digits has the hash of that double.
"""

from __future__ import annotations

from decimal import Context, Decimal
from struct import Struct
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl.keys import hash_texts

Hashes: TypeAlias = NDArray[np.uint64]

# Odd numbers: of the golden ratio, and of the last round of Stafford's thirteenth mixer.
SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)
MIX: Final = np.uint64(0x94D049BB133111EB)
_HALF: Final = np.uint64(32)
_BITS: Final = 2**64
# What a value is, beside its bits.
_NUMBER, _WIDE = (int(SPREAD) * n % _BITS for n in (2, 3))
_NEGATIVE: Final = int(SPREAD) * 11 % _BITS
_EXACT: Final = 2**53  # below it every whole number is a double, and a double with all its digits
_ALWAYS_EXACT: Final = 15  # digits; with as many, a decimal is what its nearest double is written as
_INTEGERS: Final = (pa.decimal128(38, 0), range(-(2**63), 2**64))
_DIGITS: Final = Context(prec=100)
_DOUBLE, _WORD = Struct("<d"), Struct("<Q")


def scrambled(bits: NDArray[Any], salt: int) -> Hashes:
    """Hash n words."""
    hashed: Hashes = bits ^ np.uint64(salt)
    hashed *= SPREAD
    hashed ^= hashed >> _HALF
    hashed *= MIX
    return hashed


def scrambled_word(bits: int, salt: int) -> int:
    """The same of one word."""
    hashed = (bits ^ salt) * int(SPREAD) % _BITS
    return (hashed ^ (hashed >> 32)) * int(MIX) % _BITS


def hash_integers(values: NDArray[Any], salt: int, *, all_digits: bool) -> Hashes:
    """Hash n integers; `all_digits`: a big one is never taken for a double (as the first version had it)."""
    hashed = hash_doubles(values.astype("<f8"), salt)
    if values.itemsize == 8 and len(values):
        wide = np.flatnonzero((values > _EXACT) | (values < -_EXACT))
        if len(wide) and not all_digits:
            wide = wide[~_written_as_doubles(values[wide])]
        if len(wide):
            hashed[wide] = _wide(values[wide], salt)
    return hashed


def hash_doubles(values: NDArray[Any], salt: int) -> Hashes:
    """Hash n doubles."""
    zeroed: NDArray[Any] = values + 0.0  # -0.0 becomes 0.0
    return scrambled(zeroed.view("<u8"), salt ^ _NUMBER)


def hash_singles(values: NDArray[Any], salt: int) -> Hashes:
    """Hash n floats of 32 bits, which are written with fewer digits than the same doubles."""
    doubles = values.astype("<f8")
    rows = np.flatnonzero((doubles != np.floor(doubles)) | (np.abs(doubles) >= 2**24))
    if len(rows):
        written = pa.array(values[rows], pa.float32()).cast(pa.string()).cast(pa.float64())
        doubles[rows] = written.to_numpy(zero_copy_only=False)
    return hash_doubles(doubles, salt)


def hash_decimals(values: pa.Array, salt: int) -> Hashes:
    """Hash n decimals; nulls hash as zeros."""
    texts = values.cast(pa.string()).fill_null("0")
    hashed = hash_doubles(texts.cast(pa.float64()).to_numpy(zero_copy_only=False), salt)
    if values.type.precision > _ALWAYS_EXACT:
        # Without the zeros that fill up the scale; sign and point may make it longer than its digits.
        lengths = pc.utf8_length(pc.utf8_rtrim(texts, "0")).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(lengths > _ALWAYS_EXACT).tolist():
            hashed[row] = _hash_decimal(Decimal(texts[row].as_py()), salt)
    return hashed


def hash_number(value: float, salt: int) -> int:
    """Hash one number that stood in JSON, an int or a float."""
    if isinstance(value, float) or abs(value) <= _EXACT:
        (bits,) = _WORD.unpack(_DOUBLE.pack(value + 0.0))
        return scrambled_word(bits, salt ^ _NUMBER)
    return _hash_decimal(Decimal(value), salt)


def _hash_decimal(value: Decimal, salt: int) -> int:
    double = float(value)
    if Decimal(repr(double)) == value:
        return hash_number(double, salt)
    if value == value.to_integral_value(context=_DIGITS) and int(value) in _INTEGERS[1]:
        kind = np.dtype(np.int64 if value < 0 else np.uint64)
        return int(_wide(np.array([int(value)], kind), salt)[0])
    return int(hash_texts(pa.array([str(_DIGITS.normalize(value))]), salt ^ _WIDE)[0])


def _wide(values: NDArray[Any], salt: int) -> Hashes:
    """By their bits; those of a negative number are those of a large one, too."""
    if values.dtype.kind == "u":
        return scrambled(values.astype("<u8"), salt ^ _WIDE)
    bits = values.astype("<i8").view("<u8") ^ np.where(values < 0, np.uint64(_NEGATIVE), np.uint64(0))
    return scrambled(bits, salt ^ _WIDE)


def _written_as_doubles(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of n big integers are, digit by digit, what their nearest doubles are written as."""
    alike = np.zeros(len(values), dtype=np.bool_)
    # A double has 17 digits at most, an integer of 64 bits 19 or 20: most can't be alike.
    rows = np.flatnonzero((np.abs(values.astype("<f8")) < 1e17) | (values % 10 == 0))
    if len(rows):
        kind = _INTEGERS[0]
        doubles = pa.array(values[rows].astype("<f8")).cast(pa.string()).cast(kind)
        alike[rows] = pc.equal(doubles, pa.array(values[rows]).cast(kind)).to_numpy(zero_copy_only=False)
    return alike
