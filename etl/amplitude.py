"""What Amplitude takes and what its answers mean. No I/O: every limit and field stands here, once.

Source: Amplitude's Identify API and HTTP V2 API pages unless a comment says otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import quote

REGIONS: Final[Mapping[str, str]] = {"us": "https://api2.amplitude.com", "eu": "https://api.eu.amplitude.com"}
IDENTIFY_PATH: Final = "/identify"

# --- the identification ----------------------------------------------------------------------------------

ID_FIELDS: Final = ("user_id", "device_id")
# Footnotes 1 and 2 of the Identify page: setting one of a family resets those not given to null.
DEVICE_FAMILY: Final = (
    "platform",
    "os_name",
    "os_version",
    "device_brand",
    "device_manufacturer",
    "device_model",
    "carrier",
)
PLACE_FAMILY: Final = ("country", "region", "city", "dma")
FAMILIES: Final = (DEVICE_FAMILY, PLACE_FAMILY)
STRING_FIELDS: Final = ("app_version", *DEVICE_FAMILY, *PLACE_FAMILY, "language", "paying", "start_version")
FIELDS: Final = (*ID_FIELDS, "user_properties", "groups", *STRING_FIELDS)

# In the order in which the server applies them (read off the SDKs).
OPERATORS: Final = (
    "$clearAll",
    "$unset",
    "$set",
    "$setOnce",
    "$add",
    "$append",
    "$prepend",
    "$preInsert",
    "$postInsert",
    "$remove",
)
# Sending one of these twice changes the outcome.
UNREPEATABLE: Final = frozenset({"$add", "$append", "$prepend"})
LIST_OPERATORS: Final = frozenset({"$append", "$prepend", "$preInsert", "$postInsert", "$remove"})
UNSET_VALUE: Final = "-"

# --- limits ----------------------------------------------------------------------------------------------

MIN_ID_LENGTH: Final = 5
MAX_ID_LENGTH: Final = 1024
# Refused whatever their case, besides the empty string.
REFUSED_IDS: Final = frozenset(
    {
        "anonymous",
        "nil",
        "none",
        "null",
        "n/a",
        "na",
        "undefined",
        "unknown",
        "{}",
        "lmy47d",
        "0",
        "-1",
        "00000000-0000-0000-0000-000000000000",
    }
)
MAX_STRING_LENGTH: Final = 1024  # characters; of a property value, and of all strings of a list together
MAX_DEPTH: Final = 40
MAX_PROPERTIES: Final = 1000  # in one identification; the SDKs' bound
MAX_GROUP_TYPES: Final = 5
MAX_GROUP_VALUES: Final = 10
MAX_SAFE_INTEGER: Final = 2**53  # above it a browser loses digits

# Undocumented for /identify: group identify takes 1024, and HTTP V2's 1 MB applies by reference.
DEFAULT_BATCH_SIZE: Final = 500
MAX_BATCH_SIZE: Final = 1000
MAX_BODY_BYTES: Final = 900_000

# The smallest plan.
DEFAULT_REQUESTS_PER_SECOND: Final = 100.0
DEFAULT_RATE: Final = 1000.0  # identifications a second
MAX_UPDATES_PER_USER_HOUR: Final = 1800  # above it a user's updates are dropped silently

THROTTLE_SECONDS: Final = 15.0  # the Identify page's wait after a 429
MAX_ANSWER_CHARACTERS: Final = 500


# --- answers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """Every identification of the request is in."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The content is at fault: halve until the bad rows stand alone. `words` are the server's."""

    status: int
    words: str


@dataclass(frozen=True, slots=True)
class TooBig:
    """The request is too big: halve."""

    words: str


@dataclass(frozen=True, slots=True)
class SlowDown:
    """Nothing of the request was taken; send the same bytes later. `retry_after` is in seconds."""

    retry_after: float | None
    words: str


@dataclass(frozen=True, slots=True)
class TryAgain:
    """No usable answer; send the same bytes later. `in_doubt`: the request may have been applied."""

    in_doubt: bool
    words: str


@dataclass(frozen=True, slots=True)
class Stop:
    """No request of this run can succeed."""

    words: str


Verdict: TypeAlias = Accepted | Refused | TooBig | SlowDown | TryAgain | Stop

_KEY_REFUSED = re.compile(r"invalid[\s_]api[\s_]key", re.IGNORECASE)


def judge(status: int, headers: Mapping[str, str], body: bytes, *, key: str) -> Verdict:
    """Say what an answer of the Identify API means; the status decides, the body is never parsed.

    `headers` is looked up by the name `Retry-After` and so should ignore case. The words of the verdict are
    at most 500 characters, with `key` blotted out (servers echo it).
    """
    words = quote_answer(body, key)
    if status == 200:
        return Accepted()
    if status in {400, 401} and (status == 401 or _KEY_REFUSED.search(words)):
        return Stop(words)
    if status == 413:
        return TooBig(words)
    if status == 429:
        return SlowDown(_seconds(headers.get("Retry-After")), words)
    if status in {400, 403}:
        return Refused(status, words)
    if status in {408, 425} or status >= 500:
        # 503 is documented as not accepted; of 500, 502 and 504 nobody knows.
        return TryAgain(status not in {408, 425, 503}, f"{status} {words}".strip())
    return Stop(f"unexpected answer {status} {words}".strip())


def quote_answer(body: bytes, key: str) -> str:
    """The beginning of an answer as one printable line, with the key blotted out before it is cut."""
    text = body[: 16 * MAX_ANSWER_CHARACTERS].decode("utf-8", "replace")
    for spelling in (key, json.dumps(key)[1:-1], quote(key, safe="")) if key else ():
        text = text.replace(spelling, "***")
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:MAX_ANSWER_CHARACTERS]


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header given in seconds; a date or rubbish counts as absent. At most an hour."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return None
    return min(seconds, 3600.0) if seconds >= 0 else None
