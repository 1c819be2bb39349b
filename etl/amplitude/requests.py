"""What Amplitude takes: fields, operators, addresses, every limit, and the rules of each transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from urllib.parse import urlencode, urlsplit

# --- fields and operators --------------------------------------------------------------------------------

MIN_ID_LENGTH: Final = 5
MAX_ID_LENGTH: Final = 1024
# Refused whatever their case, besides the empty string.
REFUSED_IDS: Final = frozenset(
    {"anonymous", "nil", "none", "null", "n/a", "na", "undefined", "unknown", "{}", "lmy47d", "0", "-1"}
    | {"00000000-0000-0000-0000-000000000000"}
)


@dataclass(frozen=True, slots=True)
class IdRules:
    """The texts that are taken as an id, by their characters; the `refused` words (in lower case) are not."""

    shortest: int = MIN_ID_LENGTH
    longest: int = MAX_ID_LENGTH
    refused: frozenset[str] = REFUSED_IDS


# The fields that name whom an update is about, the leading one first.
ID_RULES: Final[Mapping[str, IdRules]] = {"user_id": IdRules(), "device_id": IdRules()}
ID_FIELDS: Final = tuple(ID_RULES)
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
# Whom an update is about, and when; all other fields hold what is set.
ADDRESS_FIELDS: Final = frozenset({*ID_FIELDS, TIME_FIELD})
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


# --- addresses -------------------------------------------------------------------------------------------

REGIONS: Final[Mapping[str, str]] = {"us": "https://api2.amplitude.com", "eu": "https://api.eu.amplitude.com"}
IDENTIFY_PATH: Final = "/identify"
PROFILE_URL: Final = "https://profile-api.amplitude.com"


def region_of(endpoint: str) -> str | None:
    """The region of a base URL of Amplitude's own; None for any other."""
    regions = {urlsplit(url).hostname: region for region, url in REGIONS.items()}
    return regions.get((urlsplit(endpoint).hostname or "").rstrip("."))


def profile_endpoint(endpoint: str) -> str | None:
    """The base URL for reading users of an endpoint: its own, but for Amplitude's. None in the EU."""
    region = region_of(endpoint)
    return endpoint if region is None else {"us": PROFILE_URL}.get(region)


def profile_path(ids: Mapping[str, str]) -> str:
    """The path that asks for a user by `user_id` or `device_id`, with all properties."""
    return f"/v1/userprofile?{urlencode({**ids, 'get_amp_props': 'true'})}"


# --- limits ----------------------------------------------------------------------------------------------

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
READS_PER_MINUTE: Final = 600.0  # of users

THROTTLE_SECONDS: Final = 15.0  # the Identify page's wait after a 429
INSERT_ID_DAYS: Final = 7  # so long an insert_id that came before is known


# --- transports ------------------------------------------------------------------------------------------

TransportName: TypeAlias = Literal["identify", "batch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportRules:
    """The limits and rules of one transport.

    `batch_size` identifications a request are usual and `most` allowed, in `body_bytes` of the array of
    them; `frame_bytes` are around it and the key, and all is compressed if `gzipped`. `throttle_seconds` is
    the wait after a 429 that doesn't say. `counts_once`: the server knows what it had before, so that a
    resend changes nothing. `takes_time`: an identification may have the field `time`.
    """

    path: str
    batch_size: int
    most: int
    body_bytes: int
    frame_bytes: int
    gzipped: bool
    throttle_seconds: float
    counts_once: bool
    takes_time: bool


TRANSPORT_RULES: Final[Mapping[TransportName, TransportRules]] = {
    "identify": TransportRules(
        path=IDENTIFY_PATH,
        batch_size=DEFAULT_BATCH_SIZE,
        most=MAX_BATCH_SIZE,
        body_bytes=MAX_BODY_BYTES,
        frame_bytes=len("api_key=&identification="),
        gzipped=False,
        throttle_seconds=THROTTLE_SECONDS,
        counts_once=False,
        takes_time=False,
    ),
    "batch": TransportRules(
        path="/batch",
        batch_size=MAX_EVENTS,
        most=MAX_EVENTS,
        body_bytes=MAX_EVENTS_BYTES,
        frame_bytes=len('{"api_key":"","events":}'),
        gzipped=True,
        throttle_seconds=30.0,  # the Batch page's wait after a 429
        counts_once=True,
        takes_time=True,
    ),
}
