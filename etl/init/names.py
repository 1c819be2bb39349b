"""What a column's name means: an id, data about a person, or one of Amplitude's own fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ..amplitude.operators import FAMILIES, STRING_FIELDS
from ..job.problems import clipped

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

IdName: TypeAlias = Literal["person", "generic", "login", "other"]
Personal: TypeAlias = Literal["card", "secret", "national", "mail", "phone", "ip", "birth", "name", "address"]


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


_PEOPLE: Final = _set(
    "user customer cust member client account subscriber person contact profile player "
    "visitor patient student employee guest buyer shopper"
)
_KEYS: Final = _set("id key guid uuid pk ident identifier number num no nr")
_PERSON_IDS: Final = frozenset(
    {f"{person}{key}" for person in _PEOPLE for key in _KEYS} | {"uid", "externalid"}
)
# A bank account's number is no id to send.
_BANKING: Final = frozenset({"accountnumber", "accountno", "accountnr", "accountnum"})
_GENERIC_IDS: Final = _set("id key guid uuid pk ident identifier")
_LOGINS: Final = _set("login username userlogin loginname user handle")
_DEVICE_IDS: Final = _set(
    "deviceid deviceuuid idfa idfv adid gaid aaid androidid advertisingid amplitudedeviceid"
)
_WHOLE_NAMES: Final[Mapping[Personal, frozenset[str]]] = {
    "card": _set("cc ccn ccnumber cardnumber cardno creditcard pan iban bankaccount") | _BANKING,
    "secret": _set("password passwd pwd passphrase passwordhash apikey secretkey privatekey cvv cvc"),
    "national": _set("ssn socialsecurity nationalid nationalinsurance passport taxid"),
    "mail": _set("email mail emailaddress mailaddress useremail contactemail"),
    "phone": _set("phone telephone tel mobile cell fax msisdn phonenumber mobilenumber"),
    "ip": _set("ip ipaddress ipaddr ipv4 ipv6 lastip clientip"),
    "birth": _set("dob birthdate birthday dateofbirth birth"),
    "name": _set(
        "firstname lastname fullname surname givenname familyname middlename maidenname forename name"
    ),
    "address": _set("address street streetaddress addressline postaladdress latitude longitude"),
}
_WORDS: Final[Mapping[Personal, frozenset[str]]] = {
    "card": frozenset({"creditcard", "iban"}),
    "secret": _set("password passwd pwd secret token pin cvv cvc"),
    "national": frozenset({"ssn", "passport"}),
    "mail": frozenset({"email", "mail"}),
    "phone": _set("phone telephone mobile msisdn fax"),
    "ip": frozenset({"ip"}),
    "birth": _set("dob birthdate birthday"),
    "name": _set("firstname lastname surname"),
    "address": frozenset({"street"}),
}
# `paying` isn't among them: Amplitude takes only the word "true", which a column seldom means by itself.
_ALONE: Final = ("app_version", "language", "start_version")
# Digits that nobody counts with.
_CODES: Final = _set("zip zipcode postcode postal plz phone mobile fax tel version code sku isbn ean")


def name_words(name: str) -> tuple[str, ...]:
    """The lower-case words of a name, whether written customer_id, customerId or "Customer ID"."""
    parted = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return tuple(re.findall(r"[^\W_]+", parted.lower()))


def joined_name(name: str) -> str:
    """The words of a name as one: customerid."""
    return "".join(name_words(name))


_FIELDS: Final = {joined_name(field): field for field in STRING_FIELDS}


def id_name(name: str) -> IdName | None:
    """How likely it is by its name that a column identifies a user; None if not at all."""
    whole, words = joined_name(name), name_words(name)
    if whole in _BANKING:
        return None
    if whole in _PERSON_IDS or (words[-1:] == ("id",) and not _PEOPLE.isdisjoint(words)):
        return "person"
    if whole in _GENERIC_IDS:
        return "generic"
    if whole in _LOGINS:
        return "login"
    return "other" if words and (words[-1] in _KEYS or words[-1].endswith("id")) and len(whole) > 3 else None


def is_device_id(name: str) -> bool:
    """Whether the column identifies a device, by its name."""
    return joined_name(name) in _DEVICE_IDS


def amplitude_field(name: str) -> str | None:
    """The string field of the Identify API that has this name, or None."""
    return _FIELDS.get(joined_name(name))


def personal(name: str) -> Personal | None:
    """What the column has about a person, by its name."""
    whole, words = joined_name(name), frozenset(name_words(name))
    by_whole = (kind for kind, known in _WHOLE_NAMES.items() if whole in known)
    by_word = (kind for kind, known in _WORDS.items() if not known.isdisjoint(words))
    return next(by_whole, None) or next(by_word, None)


def is_code(name: str) -> bool:
    """Whether the column's digits are no number by its name: versions, post codes, phone numbers."""
    return not _CODES.isdisjoint(name_words(name))


def columns_by_field(columns: Iterable[str]) -> dict[str, str]:
    """The first column that has the name of each field."""
    named: dict[str, str] = {}
    for column in columns:
        if field := amplitude_field(column):
            named.setdefault(field, column)
    return named


def mappable(named: dict[str, str], empty: Collection[str]) -> dict[str, str]:
    """The column for each field that can be mapped: whole families, and fields that belong to none.

    `empty` columns complete a family, but fill no field by themselves.
    """
    named = {name: column for name, column in named.items() if column not in empty or name not in _ALONE}
    whole = {
        name
        for family in FAMILIES
        if all(name in named for name in family) and any(named[name] not in empty for name in family)
        for name in family
    }
    return {
        name: named[name] for name in STRING_FIELDS if name in whole or (name in named and name in _ALONE)
    }


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
