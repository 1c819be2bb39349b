"""The content of an answer: its text, how it is quoted, and the events that its JSON names. Nothing raises.

Anything between here and Amplitude may answer: a proxy's page, a relay's JSON, a firewall, half a body.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Literal, TypeAlias
from urllib.parse import quote, quote_plus, unquote, urlsplit

import orjson

from ..text import one_line

Payload: TypeAlias = Mapping[object, object]

_MOST_CHARACTERS: Final = 500
_MOST_TITLE: Final = 100  # characters of a page's title
_MOST_PLACE: Final = 200  # characters of a redirect's target
_MOST_LINES: Final = 10  # a text with more is a page of something, not a message
MOST_WAIT: Final = 3600.0  # seconds; nobody means more by a Retry-After
# Shorter ones would make holes in ordinary words; none that is worth keeping is so short.
_SHORTEST_SECRET: Final = 4

_UNREADABLE: Final = "\ufffd"  # stands for a byte that is not UTF-8
_BOM: Final = b"\xef\xbb\xbf"
# The message and nothing else, perhaps with the key repeated behind it.
_KEY_REFUSED: Final = re.compile(
    r"""["'\s]*invalid[\s_-]+api[\s_-]*key\s*(?:[:=]\s*\S{0,300})?[\s"'.!]*""", re.IGNORECASE
)
_PAGE: Final = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


# --- text ------------------------------------------------------------------------------------------------


def is_success(body: bytes, payload: Payload) -> bool:
    """Whether a body is the word `success`, quoted or not and in any case, or an object with code 200."""
    text = body.strip().removeprefix(_BOM).strip()
    if len(text) > 1 and text[:1] == text[-1:] and text[:1] in {b'"', b"'"}:
        text = text[1:-1]
    return text.lower() == b"success" or has_code_200(payload)


def has_code_200(payload: Payload) -> bool:
    """Whether a JSON object has the number 200 as its code."""
    code = payload.get("code")
    return isinstance(code, int | float) and not isinstance(code, bool) and code == 200


def refuses_key(body: bytes) -> bool:
    """Whether an answer is the message that the API key is invalid, rather than a text that quotes it."""
    messages: list[object] = []
    if payload := json_object(body):
        values = (payload.get("error"), payload.get("message"))
        messages = [value.get("message") if isinstance(value, dict) else value for value in values]
    else:
        text = body[: 4 * _MOST_CHARACTERS].removeprefix(_BOM).decode("utf-8", "replace")
        lines = text.splitlines()
        if len(text) <= _MOST_CHARACTERS and len(lines) <= _MOST_LINES:
            messages = [text, *lines]
    return any(isinstance(text, str) and _KEY_REFUSED.fullmatch(text) for text in messages)


def quote_answer(body: bytes, *secrets: str) -> str:
    """The beginning of an answer as one printable line, with secrets blotted out before it is cut.

    Of an HTML page only the title is quoted.
    """
    begin = body[: 16 * _MOST_CHARACTERS]
    text = begin.removeprefix(_BOM).decode("utf-8", "replace")
    if _PAGE.search(text):
        found = _TITLE.search(text)
        title = one_line(blotted(html.unescape(found[1]), *secrets))[:_MOST_TITLE] if found else ""
        return f'an HTML page titled "{title}"' if title else "an HTML page"
    if text.count(_UNREADABLE) > len(text) // 4:
        return f"{len(body):,} unreadable bytes"
    line = one_line(blotted(text, *secrets))
    if len(begin) < len(body) and len(line) < 2 * _MOST_CHARACTERS:  # nearly all blanks
        line = line.rpartition(" ")[0]  # the last word may be a part of a secret
    return line[:_MOST_CHARACTERS]


def blotted(text: str, *secrets: str) -> str:
    """The text with `***` in place of each secret, in every spelling."""
    spellings = set[str]()
    for secret in secrets:
        for plain in {secret, unquote(secret)} if len(secret) >= _SHORTEST_SECRET else ():
            spellings |= {plain, json.dumps(plain)[1:-1], quote(plain, safe=""), quote(plain)}
            spellings |= {quote_plus(plain), html.escape(plain)}
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, "***")
    return text


def redirect_target(location: str, *secrets: str) -> str:
    """The target of a redirect, without user, password and query; empty where there is none."""
    try:
        parts = urlsplit(one_line(location))
    except ValueError:
        return ""
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return blotted(place, *secrets)[:_MOST_PLACE]


def seconds_to_wait(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """The seconds of a Retry-After header, at most an hour; None where there is none that can be read.

    A date is read against the answer's own Date, or against `now` (seconds since 1970).
    """
    asked = headers.get("Retry-After") or ""
    try:
        seconds = float(asked)
    except ValueError:
        until, began = _moment(asked), _moment(headers.get("Date") or "") or now
        if until is None or began is None:
            return None
        seconds = max(until - began, 0.0)
    return min(seconds, MOST_WAIT) if seconds >= 0 else None


def _moment(date: str) -> float | None:
    """An HTTP date in seconds since 1970."""
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


# --- JSON ------------------------------------------------------------------------------------------------

_MOST_FAULTS: Final = 5  # of one event
_MOST_FIELD: Final = 60  # characters of a field's name
_FAULTS: Final = {
    "events_with_invalid_fields": "invalid value in",
    "events_with_missing_fields": "missing",
    "events_with_invalid_id_lengths": "wrong length of",
}


@dataclass(frozen=True, slots=True)
class Named:
    """The events that an answer names: by user ids, by device ids, and by index in the request."""

    users: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    indexes: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.users or self.devices or self.indexes)


def json_object(body: bytes) -> Payload:
    """The JSON object in a body, perhaps behind a byte order mark; an empty one for anything else."""
    try:
        payload = orjson.loads(body.strip().removeprefix(_BOM))
    except orjson.JSONDecodeError:  # also where it is nested too deep
        return {}
    return payload if isinstance(payload, dict) else {}


def ingested_of(payload: Payload) -> int | None:
    """How many events the server counted as ingested; None where it gives no count."""
    return _index(payload.get("events_ingested"))


def event_faults(payload: Payload) -> Mapping[int, list[str]]:
    """The faults that a 400 names, by the index of the event; a few of each event."""
    faults: dict[int, list[str]] = {}
    for key, text in _FAULTS.items():
        by_field = payload.get(key)
        for field, indexes in by_field.items() if isinstance(by_field, dict) else ():
            for index in _indexes(indexes):
                found = faults.setdefault(index, [])
                if len(found) < _MOST_FAULTS:
                    found.append(f"{text} {field[:_MOST_FIELD]}")
    for index in _indexes(payload.get("silenced_events")):
        faults.setdefault(index, []).append("silenced")
    return faults


def named_as(what: Literal["throttled", "exceeded_daily_quota"], payload: Payload) -> Named:
    """The users, devices and events that a 429 names as too fast, or as over the quota of the day."""
    users, devices = (_names(payload.get(f"{what}_{kind}")) for kind in ("users", "devices"))
    return Named(users, devices, tuple(_indexes(payload.get(f"{what}_events"))))


def _names(ids: object) -> tuple[str, ...]:
    """Ids as a list, or as the keys of an object with the rate of each."""
    return tuple(name for name in ids if isinstance(name, str)) if isinstance(ids, dict | list) else ()


def _indexes(indexes: object) -> Iterator[int]:
    for value in indexes if isinstance(indexes, list) else ():
        if (index := _index(value)) is not None:
            yield index


def _index(value: object) -> int | None:
    """A count or an index; None for anything else, and for numbers that no request can have."""
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if fits and isinstance(value, int) else None
