"""What Amplitude takes and what its answers mean. No I/O: every limit and field stands here, once.

Source: Amplitude's Identify, Batch Event Upload and HTTP V2 API pages unless a comment says otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

from etl.batch_answer import Named, Told, faults_of, ingested_of, json_object, over_quota_by, throttled_by

TransportName: TypeAlias = Literal["identify", "batch"]

REGIONS: Final[Mapping[str, str]] = {"us": "https://api2.amplitude.com", "eu": "https://api.eu.amplitude.com"}
IDENTIFY_PATH: Final = "/identify"
BATCH_PATH: Final = "/batch"

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
TIME_FIELD: Final = "time"  # of an event, in milliseconds since 1970; an identification has none
IDENTIFY_EVENT: Final = "$identify"

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
MAX_EVENTS: Final = 2000
MAX_EVENTS_BYTES: Final = 19_000_000  # of the 20 MB that /batch takes, before compression

# The smallest plan.
DEFAULT_REQUESTS_PER_SECOND: Final = 100.0
DEFAULT_RATE: Final = 1000.0  # identifications a second
MAX_UPDATES_PER_USER_HOUR: Final = 1800  # above it a user's updates are dropped silently

THROTTLE_SECONDS: Final = 15.0  # the Identify page's wait after a 429
BATCH_THROTTLE_SECONDS: Final = 30.0  # the Batch page's
INSERT_ID_DAYS: Final = 7  # so long an insert_id that came before is known
MAX_ANSWER_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportRules:
    """What a way into Amplitude takes, and how it is to be treated.

    `batch_size` identifications a request are usual and `most` allowed, in `body_bytes` of the array of
    them; `frame_bytes` are around it and the key, and all is compressed if `gzipped`. `throttle_seconds` is
    the wait after a 429 that doesn't say. `counts_once`: the server knows what it had before, so that a
    resend changes nothing.
    """

    path: str
    batch_size: int
    most: int
    body_bytes: int
    frame_bytes: int
    gzipped: bool
    throttle_seconds: float
    counts_once: bool


TRANSPORTS: Final[Mapping[TransportName, TransportRules]] = {
    "identify": TransportRules(
        path=IDENTIFY_PATH,
        batch_size=DEFAULT_BATCH_SIZE,
        most=MAX_BATCH_SIZE,
        body_bytes=MAX_BODY_BYTES,
        frame_bytes=len("api_key=&identification="),
        gzipped=False,
        throttle_seconds=THROTTLE_SECONDS,
        counts_once=False,
    ),
    "batch": TransportRules(
        path=BATCH_PATH,
        batch_size=MAX_EVENTS,
        most=MAX_EVENTS,
        body_bytes=MAX_EVENTS_BYTES,
        frame_bytes=len('{"api_key":"","events":}'),
        gzipped=True,
        throttle_seconds=BATCH_THROTTLE_SECONDS,
        counts_once=True,
    ),
}


# --- answers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """Every identification of the request is in; the server counted `ingested`, None where it doesn't say."""

    ingested: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The content is at fault: halve until the bad rows stand alone. `words` are the server's."""

    status: int
    words: str


@dataclass(frozen=True, slots=True)
class RefusedSome:
    """Nothing was taken, for the content of some: `faults` says by index what is wrong with each."""

    status: int
    words: str
    faults: Mapping[int, str]


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
class SlowDownSome:
    """Nothing was taken, for the pace of some: those `over_quota` are out for the day.

    The other `throttled` ones are to be sent later, and whoever isn't named at once.
    """

    retry_after: float | None
    words: str
    throttled: Named
    over_quota: Named


@dataclass(frozen=True, slots=True)
class TryAgain:
    """No usable answer; send the same bytes later. `in_doubt`: the request may have been applied.

    `applied` says the same of a transport over which a resend counts once, so that nothing is in doubt.
    """

    in_doubt: bool
    words: str
    applied: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Stop:
    """No request of this run can succeed."""

    words: str


Verdict: TypeAlias = Accepted | Refused | RefusedSome | TooBig | SlowDown | SlowDownSome | TryAgain | Stop

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


def judge_batch(status: int, headers: Mapping[str, str], body: bytes, *, key: str) -> Verdict:
    """Say what an answer of the Batch API means; like `judge`, but that its JSON may name who is at fault.

    A body that isn't the JSON it should be names nobody. What may have been applied is in no doubt: its
    insert_ids make a resend count once.
    """
    told = json_object(body) if status in {200, 400, 429} else {}
    if status == 200:
        return Accepted(ingested_of(told))
    words = _error_words(told, body, key)
    if status == 400 and (faults := faults_of(told)):
        return RefusedSome(status, words, {at: _quoted(", ".join(says), key) for at, says in faults.items()})
    throttled, over_quota = throttled_by(told), over_quota_by(told)
    if status == 429 and (throttled or over_quota):
        return SlowDownSome(_seconds(headers.get("Retry-After")), words, throttled, over_quota)
    verdict = judge(status, headers, body, key=key)
    return (
        replace(verdict, in_doubt=False, applied=verdict.in_doubt)
        if isinstance(verdict, TryAgain)
        else verdict
    )


# What became of a request: of one that is lost nobody knows whether it was applied.
Fate: TypeAlias = Literal["applied", "lost", "refused"]


def fate_of(verdict: Verdict) -> Fate:
    """Say what became of a request that was answered so."""
    if isinstance(verdict, TryAgain):
        return "lost" if verdict.in_doubt or verdict.applied else "refused"
    nothing = Refused | RefusedSome | TooBig | SlowDown | SlowDownSome | Stop
    return "refused" if isinstance(verdict, nothing) else "applied"


def _error_words(told: Told, body: bytes, key: str) -> str:
    """The server's own sentence; the rest of its answer may list the ids of strangers."""
    error = told.get("error")
    return _quoted(error, key) if isinstance(error, str) and error else quote_answer(body, key)


def _quoted(text: str, key: str) -> str:
    return quote_answer(text.encode(), key)


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
