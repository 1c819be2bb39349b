"""What a column's name tells of its meaning: an id, one of Amplitude's own fields, data about a person."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from etl.amplitude import STRING_FIELDS

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
# Digits that nobody counts with.
_CODES: Final = _set("zip zipcode postcode postal plz phone mobile fax tel version code sku isbn ean")


def words_of(name: str) -> tuple[str, ...]:
    """The lower-case words of a name, whether written customer_id, customerId or "Customer ID"."""
    parted = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return tuple(re.findall(r"[^\W_]+", parted.lower()))


def joined(name: str) -> str:
    """The words of a name as one: customerid."""
    return "".join(words_of(name))


_FIELDS: Final = {joined(field): field for field in STRING_FIELDS}


def id_name(name: str) -> IdName | None:
    """How much a name says that the column identifies a user; None if nothing."""
    whole, words = joined(name), words_of(name)
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
    """Whether a name says that the column identifies a device."""
    return joined(name) in _DEVICE_IDS


def amplitude_field(name: str) -> str | None:
    """The string field of the Identify API that has this name, or None."""
    return _FIELDS.get(joined(name))


def personal(name: str) -> Personal | None:
    """What about a person a name says that the column holds."""
    whole, words = joined(name), frozenset(words_of(name))
    by_whole = (kind for kind, known in _WHOLE_NAMES.items() if whole in known)
    by_word = (kind for kind, known in _WORDS.items() if not known.isdisjoint(words))
    return next(by_whole, None) or next(by_word, None)


def is_code(name: str) -> bool:
    """Whether a name says that its digits are no number: versions, post codes, phone numbers."""
    return not _CODES.isdisjoint(words_of(name))
