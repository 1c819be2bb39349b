"""What a column's name means: an id, data about a person, or one of Amplitude's own fields."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ..amplitude.requests import FAMILIES, STRING_FIELDS
from ..job.problems import clipped

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Personal: TypeAlias = Literal["card", "secret", "national", "mail", "phone", "ip", "birth", "name", "address"]

VOCABULARY: Final = tomllib.loads(files(__package__).joinpath("vocabulary.toml").read_text("utf-8"))
# By kind: what a column has of people, what its values are called, and words in its name.
PERSONAL_DATA: Final[dict[Personal, dict[str, str]]] = VOCABULARY["personal"]

# The fields that are filled together or not at all, and those that belong to no family. `paying` isn't among
# them: Amplitude takes only the word "true", which a column seldom means by itself.
_TOGETHER: Final = (*FAMILIES, ("app_version",), ("language",), ("start_version",))
_PERSON, _KEY, _DEVICE, _DEVICE_IDS = (
    "".join(VOCABULARY[name].split()) for name in ("id_person", "id_key", "id_device", "device_ids")
)
_OF: Final = "(?:de|do|da|du|del|dela|des)?"
_PERSON_ID: Final = re.compile(rf"(?:.*(?:{_PERSON})(?:{_KEY})|(?:{_KEY}){_OF}(?:{_PERSON})s?|uid)")
_DEVICE_ID: Final = re.compile(rf"(?:.*(?:{_DEVICE})(?:{_KEY})|(?:{_KEY}){_OF}(?:{_DEVICE})|{_DEVICE_IDS})")
_PEOPLE: Final = re.compile(_PERSON)
_KEYS: Final = re.compile(_KEY)


def texts_of(key: str) -> frozenset[str]:
    """The texts that the vocabulary lists under a key."""
    return frozenset(text.strip() for text in VOCABULARY[key].split("|"))


def _any_of(words: str) -> re.Pattern[str]:
    """A pattern of words and, with a `*`, of beginnings of words; Japanese words match anywhere in a text."""
    known = [re.escape(word).replace(r"\*", r"\S*") for word in words.split()]
    latin = [word for word in known if ord(word[0]) <= 0x2FFF]
    return re.compile("|".join([rf"(?<!\S)(?:{'|'.join(latin)})(?!\S)", *(set(known) - set(latin))]))


_PERSONAL: Final[dict[Personal, re.Pattern[str]]] = {
    kind: _any_of(data["words"]) for kind, data in PERSONAL_DATA.items()
}
_CODES, _MEASURES, _TIMES = (_any_of(VOCABULARY[name]) for name in ("codes", "measures", "times"))
_GENERIC, _LOGINS, _ONLY_WHOLE, _WHOLE_NAMES, _CARDS = (
    frozenset(words.split())
    for words in (
        *(VOCABULARY[name] for name in ("generic_ids", "logins", "only_whole", "whole_names")),
        PERSONAL_DATA["card"]["words"],
    )
)


@lru_cache(maxsize=4096)
def name_words(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case and without accents: customer_id, customerId or "Customer ID"."""
    parted = re.sub(r"([a-zà-ÿ0-9])([A-ZÀ-Þ])", r"\1 \2", unicodedata.normalize("NFKC", name)).lower()
    parted = parted.replace("ß", "ss").replace("n°", "no ")
    if not parted.isascii():
        # Only the accents of Latin letters, as Japanese has marks that make another sound.
        parted = re.sub(r"(?<=[a-z])[\u0300-\u036f]+", "", unicodedata.normalize("NFD", parted))
        parted = unicodedata.normalize("NFC", parted)
    return tuple(re.findall(r"[^\W_]+", parted))


def joined_name(name: str) -> str:
    """The words of a name as one: customerid."""
    return "".join(name_words(name))


@lru_cache(maxsize=4096)
def _parts(name: str) -> frozenset[str]:
    """The words of a name, and neighbours as one word."""
    words = name_words(name)
    return frozenset("".join(words[at : at + n]) for n in (1, 2, 3, 4) for at in range(len(words) - n + 1))


def _searched(name: str) -> str:
    return " ".join((*_parts(name), joined_name(name)))


_FIELDS: Final = {joined_name(field): field for field in STRING_FIELDS}


def id_name(name: str) -> Literal["person", "generic", "login", "other"] | None:
    """How likely it is by its name that a column identifies a user; None if not at all."""
    whole, words = joined_name(name), name_words(name)
    if whole in _CARDS or not words or is_code(name, exactly=True):
        return None
    if whole in _GENERIC:
        return "generic"
    by_words = _KEYS.fullmatch(words[-1]) and any(_PEOPLE.fullmatch(word) for word in words)
    if whole == "uid" or _PERSON_ID.fullmatch(whole) or by_words:
        return "person"
    if whole in _LOGINS:
        return "login"
    return "other" if (_KEYS.fullmatch(words[-1]) or words[-1].endswith("id")) and len(whole) > 3 else None


def is_device_id(name: str) -> bool:
    """Whether the column identifies a device, by its name."""
    return _DEVICE_ID.fullmatch(joined_name(name)) is not None


def amplitude_field(name: str) -> str | None:
    """The string field of the Identify API that has this name, or None."""
    return _FIELDS.get(joined_name(name))


def personal(name: str) -> Personal | None:
    """The kind of personal data that a column has, by its name."""
    whole = joined_name(name)
    if whole in _WHOLE_NAMES:
        return "name"
    parts = (_parts(name) - _ONLY_WHOLE) | {whole}
    return next((kind for kind, words in _PERSONAL.items() if words.search(" ".join(parts))), None)


def is_code(name: str, *, exactly: bool = False) -> bool:
    """Whether the column's name says that its digits are not a number: versions, post codes, phone numbers.

    `exactly`: the whole name says so.
    """
    return _CODES.search(joined_name(name) if exactly else _searched(name)) is not None


def is_measure(name: str) -> bool:
    """Whether the column has amounts, scores or other measures, by its name."""
    return _MEASURES.search(_searched(name)) is not None


def is_time(name: str) -> bool:
    """Whether the column has times, by its name."""
    return _TIMES.search(_searched(name)) is not None


def columns_by_field(columns: Iterable[str]) -> dict[str, str]:
    """The first column that has the name of each field."""
    found = [(amplitude_field(column), column) for column in columns]
    return {field: column for field, column in reversed(found) if field}


def mappable(named: dict[str, str], empty: Collection[str]) -> dict[str, str]:
    """The column for each field that can be mapped: whole families, and fields that belong to none.

    `empty` columns complete a family, but fill no field by themselves.
    """
    found: dict[str, str] = {}
    for fields in _TOGETHER:
        columns = [named[name] for name in fields if name in named]
        if len(columns) == len(fields) and not set(empty).issuperset(columns):
            found.update(zip(fields, columns, strict=True))
    return {name: found[name] for name in STRING_FIELDS if name in found}


def part_of_family(column: str, named: dict[str, str]) -> str | None:
    """The remark on a column with the name of a field that it can't fill, as its family isn't complete."""
    field = amplitude_field(column)
    family = next((family for family in FAMILIES if field in family), ())
    missing = [name for name in family if name not in named]
    if not missing:
        return None
    return (
        f"{clipped(column)} is a property here: Amplitude has a field for it too, but updates "
        f"{', '.join(family)} together, so {', '.join(missing)} would be reset. To fill it anyway, write "
        f"`{field}: ...` above user_properties and `partial_families: reset` at the top level."
    )
