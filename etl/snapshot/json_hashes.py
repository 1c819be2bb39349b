"""The hashes of JSON values one by one: for what has no column of its own type. No I/O.

They are those that `hashes` gives to columns of the same values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from etl.arrow.exact_json import load
from etl.keys import hash_texts
from etl.snapshot.number_hashes import MIX, SPREAD, hash_number, scrambled_word

if TYPE_CHECKING:
    from pydantic import JsonValue

_BITS: Final = 2**64
# What a value is, beside its bits.
BOOLEAN, TIME, LIST, JSON, OBJECT, MEMBER = (int(SPREAD) * n % _BITS for n in range(4, 10))
NULL: Final = int(MIX)  # as an element of a list
NAMES: Final = int(SPREAD) * 10 % _BITS  # the seed of the names of members

_Wanted = dict[int, dict[str, int]]  # texts by their salt, and what they hash to


def in_object(salt: int) -> int:
    """The salt of the members of an object."""
    return (salt * int(MIX) + OBJECT) % _BITS


def hash_json(texts: Sequence[bytes], salt: int) -> list[int]:
    """Hash the value that each JSON text holds."""
    values: dict[bytes, JsonValue] = {text: load(text) for text in dict.fromkeys(texts)}
    wanted: _Wanted = {}
    for value in values.values():
        _gather(value, salt, wanted)
    for seed, found in wanted.items():
        # All of a batch together: one by one they would cost more than the rest.
        hashed = hash_texts(pa.array(list(found), pa.string()), seed).tolist()
        wanted[seed] = dict(zip(found, hashed, strict=True))
    by_text = {text: _hash(value, salt, wanted) for text, value in values.items()}
    return [by_text[text] for text in texts]


def _gather(value: JsonValue, salt: int, wanted: _Wanted) -> None:
    if isinstance(value, str):
        wanted.setdefault(salt, {})[value] = 0
    elif isinstance(value, list):
        for element in value:
            _gather(element, salt ^ LIST, wanted)
    elif isinstance(value, dict):
        for name, member in value.items():
            wanted.setdefault(NAMES, {})[name] = 0
            _gather(member, in_object(salt), wanted)


def _hash(value: JsonValue, salt: int, known: _Wanted) -> int:
    if isinstance(value, str):
        return known[salt][value]
    if isinstance(value, bool):
        return scrambled_word(int(value), salt ^ BOOLEAN)
    if isinstance(value, list):
        return _hash_list(value, salt, known)
    if isinstance(value, dict):
        return _hash_object(value, salt, known)
    return NULL if value is None else hash_number(value, salt)


def _hash_list(elements: list[JsonValue], salt: int, known: _Wanted) -> int:
    total = 0
    for place, element in enumerate(elements):
        own = NULL if element is None else _hash(element, salt ^ LIST, known)
        total += scrambled_word((own + place * int(SPREAD)) % _BITS, salt)
    return scrambled_word(total % _BITS, salt ^ LIST)


def _hash_object(members: dict[str, JsonValue], salt: int, known: _Wanted) -> int:
    """The sum over its members, so their order doesn't count; those that are null aren't there."""
    total = 0
    for name, member in members.items():
        if member is not None:
            own = _hash(member, in_object(salt), known)
            total += scrambled_word(own ^ known[NAMES][name], salt ^ MEMBER)
    return scrambled_word(total % _BITS, salt ^ OBJECT)
