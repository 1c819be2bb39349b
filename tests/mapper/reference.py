"""The mapper's rules for text, once more and slowly: one value at a time, in plain Python."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import re
import unicodedata

from etl.amplitude.requests import REFUSED_IDS

ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,]\d+)?)? ?([Zz]|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)


def number(text: str) -> object:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII):
        return "<bad_number>"
    return float(text) if math.isfinite(float(text)) else "<not_finite>"


def integer(text: str) -> object:
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        return "<bad_integer>"
    return int(text) if -(2**63) <= int(text) < 2**63 else "<bad_integer>"


def boolean(text: str) -> object:
    words = {
        **dict.fromkeys(["true", "t", "yes", "y", "on", "1", "1.0"], True),
        **dict.fromkeys(["false", "f", "no", "n", "off", "0", "0.0"], False),
    }
    return words.get(text.lower(), "<bad_boolean>")


def moment(text: str) -> tuple[dt.datetime, dt.timedelta] | None:
    """The time as written, and how far its zone is ahead."""
    found = ISO.fullmatch(text)
    if not found:
        return None
    *parts, zone = found.groups()
    ahead = dt.timedelta()
    if zone and zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[3:].strip(":") or 0)
        if hours > 23 or minutes > 59:
            return None
        ahead = dt.timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)
    try:
        year, month, day, hour, minute, second = (int(part or 0) for part in parts)
        return dt.datetime(year, month, day, hour, minute, second), ahead
    except ValueError:
        return None


def date(text: str) -> object:
    found = moment(text)
    return found[0].date().isoformat() if found else "<bad_date>"


def datetime(text: str) -> object:
    found = moment(text)
    try:
        return (found[0] - found[1]).isoformat(timespec="seconds") if found else "<bad_datetime>"
    except OverflowError:
        return "<bad_datetime>"


def string(text: str) -> object:
    return text if len(text) <= 1024 else "<too_long>"


def list_(text: str) -> object:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return "<too_long>" if sum(map(len, parts)) > 1024 else parts or None


def hashed(text: str) -> object:
    text = text.strip()
    return hashlib.sha256(text.encode()).hexdigest() if text else None


def day_first(text: str) -> object:
    try:
        return dt.datetime.strptime(text, "%d/%m/%Y").date().isoformat()
    except ValueError:
        return "<bad_date>"


HIDDEN = "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028\u2029\ufeff" + "".join(
    map(chr, [*range(0x202A, 0x202F), *range(0x2060, 0x2065), *range(0x2066, 0x206A)])
)
DIGITS = set("0123456789")


def is_mangled(text: str) -> bool:
    """Whether a trimmed id was spoilt on its way."""
    if text[0] in "'=" or any(sign in HIDDEN or unicodedata.category(sign) == "Cc" for sign in text):
        return True
    if "\ufffd" in text or re.fullmatch(r"[!-/:-@\[-`{-~ ]{5,}", text):
        return True
    signed, body = text[0] in "+-", text.lstrip("+-") if text[1:2] not in {"+", "-"} else "x"
    mantissa, e, exponent = body.replace("E", "e").partition("e")
    if e:
        sign, digits = (
            exponent[:1] in {"+", "-"},
            exponent.lstrip("+-") if exponent[1:2] not in {"+", "-"} else "",
        )
        numeric = digits.isascii() and digits.isdigit() and len(digits) <= 3
        return (
            numeric
            and is_decimal(mantissa)
            and (sign or signed or not set(mantissa) <= DIGITS or len(mantissa) == 1)
        )
    return not set(body) <= DIGITS and is_decimal(body)


def is_decimal(text: str) -> bool:
    """Digits with at most one point or comma, or in groups of three."""
    if not set(text) <= DIGITS | {".", ","} or not set(text) & DIGITS:
        return False
    if text.count(".") + text.count(",") <= 1:
        return True
    for group, point in ((",", "."), (".", ",")):
        whole, mark, _ = text.partition(point)
        first, *others = whole.split(group)
        grouped = bool(others) and 1 <= len(first) <= 3 and all(len(part) == 3 for part in others)
        if grouped and text.count(point) <= 1 and (mark or group == ","):
            return True
    return False


def user_id(text: str) -> str:
    signs = set(HIDDEN)
    while text and (text[0].isspace() or text[0] in signs):
        text = text[1:]
    while text and (text[-1].isspace() or text[-1] in signs):
        text = text[:-1]
    if not text:
        return "<missing_id>"
    if is_mangled(text):
        return "<mangled_id>"
    if text.lower() in REFUSED_IDS:
        return "<refused_id>"
    return text if len(text) >= 5 else "<short_id>"
