"""The text of an answer: what it says in so many words, and how it is quoted. No I/O, and nothing raises.

Whatever stands between here and Amplitude may speak: a proxy's page, a relay's JSON, a firewall, half a body.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote, quote_plus, unquote, urlsplit

from etl.batch_answer import Told, json_object

MAX_ANSWER_CHARACTERS: Final = 500
_MOST_TITLE: Final = 100  # characters of a page's title
_MOST_PLACE: Final = 200  # characters of a redirect's target
_MOST_LINES: Final = 10  # a text with more is a page of something, not a message
_MOST_WAIT: Final = 3600.0  # seconds; nobody means more by a Retry-After
# Shorter ones would make holes in ordinary words; none that is worth keeping is so short.
_SHORTEST_SECRET: Final = 4

_UNREADABLE: Final = "\ufffd"  # stands for what is no UTF-8
_BOM: Final = b"\xef\xbb\xbf"
# The message and nothing else, perhaps with the key repeated behind it.
_KEY_REFUSED: Final = re.compile(
    r"""["'\s]*invalid[\s_-]+api[\s_-]*key\s*(?:[:=]\s*\S{0,300})?[\s"'.!]*""", re.IGNORECASE
)
_PAGE: Final = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


def says_success(body: bytes) -> bool:
    """Whether a body is the word `success`, in quotes or not and in any case."""
    text = body.strip().removeprefix(_BOM).strip()
    if len(text) > 1 and text[:1] == text[-1:] and text[:1] in {b'"', b"'"}:
        text = text[1:-1]
    return text.lower() == b"success"


def has_code_200(told: Told) -> bool:
    """Whether a JSON object says that its code is the number 200."""
    code = told.get("code")
    return isinstance(code, int | float) and not isinstance(code, bool) and code == 200


def refuses_key(body: bytes) -> bool:
    """Whether an answer is the message that the API key is invalid, rather than a text that quotes it."""
    return any(_KEY_REFUSED.fullmatch(text) for text in _messages(body))


def _messages(body: bytes) -> Iterator[str]:
    """What an answer may mean to say: a JSON object's error or message, else a short text or its lines."""
    told = json_object(body)
    if told:
        for value in (told.get("error"), told.get("message")):
            inner = value.get("message") if isinstance(value, dict) else value
            if isinstance(inner, str):
                yield inner
        return
    text = body[: 4 * MAX_ANSWER_CHARACTERS].removeprefix(_BOM).decode("utf-8", "replace")
    lines = text.splitlines()
    if len(text) <= MAX_ANSWER_CHARACTERS and len(lines) <= _MOST_LINES:
        yield from (text, *lines)


def quote_answer(body: bytes, *secrets: str) -> str:
    """The beginning of an answer as one printable line, with secrets blotted out before it is cut.

    Of an HTML page only the title is quoted.
    """
    text = body[: 16 * MAX_ANSWER_CHARACTERS].removeprefix(_BOM).decode("utf-8", "replace")
    if _PAGE.search(text):
        found = _TITLE.search(text)
        title = one_line(blotted(html.unescape(found[1]), *secrets))[:_MOST_TITLE] if found else ""
        return f'an HTML page titled "{title}"' if title else "an HTML page"
    if text.count(_UNREADABLE) > len(text) // 4:
        return f"{len(body):,} unreadable bytes"
    return one_line(blotted(text, *secrets))[:MAX_ANSWER_CHARACTERS]


def blotted(text: str, *secrets: str) -> str:
    """The text without the secrets, however they are spelled in it."""
    spellings = {spelling for secret in secrets for spelling in _spellings(secret)}
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, "***")
    return text


def _spellings(secret: str) -> Iterator[str]:
    if len(secret) < _SHORTEST_SECRET:
        return
    for plain in {secret, unquote(secret)}:
        yield from (plain, json.dumps(plain)[1:-1], quote(plain, safe=""), quote(plain), quote_plus(plain))
        yield html.escape(plain)


def one_line(text: str) -> str:
    """Write foreign text as one printable line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def place_of(location: str, *secrets: str) -> str:
    """Where a redirect leads to, without user, password and query; empty where it doesn't say."""
    try:
        parts = urlsplit(one_line(location))
    except ValueError:
        return ""
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return blotted(place, *secrets)[:_MOST_PLACE]


def seconds_to_wait(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """How long a Retry-After header asks to wait, in seconds, at most an hour; None where it doesn't say.

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
    return min(seconds, _MOST_WAIT) if seconds >= 0 else None


def _moment(date: str) -> float | None:
    """An HTTP date in seconds since 1970."""
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
