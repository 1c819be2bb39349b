"""Amplitude's names and limits, as its documentation has them: what the sandbox judges by.

Typed from the pages below and shared with nothing else, so that a wrong constant in the rest of `etl` is
noticed here. `tests/sandbox/test_agreement.py` holds both sides against what the pages say.

Identify: https://amplitude.com/docs/apis/analytics/identify
Batch: https://amplitude.com/docs/apis/analytics/batch-event-upload
HTTP V2: https://amplitude.com/docs/apis/analytics/http-v2
User Profile: https://amplitude.com/docs/apis/analytics/user-profile
"""

from __future__ import annotations

from typing import Final

# --- paths (each page: Endpoints) ---
IDENTIFY: Final = "/identify"
BATCH: Final = "/batch"
HTTP_V2: Final = "/2/httpapi"
USER_PROFILE: Final = "/v1/userprofile"

# --- keys of an identification (Identify: Keys for the identification argument) ---
ID_KEYS: Final = ("user_id", "device_id")  # one of them is needed
# Footnotes 1 and 2: setting one of a family resets those of it that are not given.
DEVICE_KEYS: Final = frozenset(
    ["platform", "os_name", "os_version", "device_brand", "device_manufacturer", "device_model", "carrier"]
)
LOCATION_KEYS: Final = frozenset(["country", "region", "city", "dma"])
TEXT_KEYS: Final = DEVICE_KEYS | LOCATION_KEYS | {"app_version", "language", "paying", "start_version"}
IDENTIFICATION_KEYS: Final = TEXT_KEYS | {*ID_KEYS, "user_properties", "groups"}

# --- keys of an event beside those of an identification (HTTP V2: Keys for the event argument) ---
_EVENT_KEYS: Final = """
    event_type time insert_id event_id session_id event_properties group_properties
    price quantity revenue currency product_id productId revenue_type revenueType
    location_lat location_lng ip user_agent idfa idfv adid android_id
    library version_name partner_id plan ingestion_metadata $skip_user_properties_sync
"""
EVENT_KEYS: Final = frozenset(_EVENT_KEYS.split())
IDENTIFY_EVENT: Final = "$identify"
GROUP_IDENTIFY_EVENT: Final = "$groupidentify"

# --- ids (HTTP V2: Device IDs and User IDs minimum length, and the list of ids that are refused) ---
SHORTEST_ID: Final = 5  # unless an upload's `options.min_id_length` says otherwise
LONGEST_ID: Final = 1024
_REFUSED_IDS: Final = """
    anonymous nil none null n/a na undefined unknown {} lmy47d 0 -1 00000000-0000-0000-0000-000000000000
"""
REFUSED_IDS_LOWER: Final = frozenset(_REFUSED_IDS.split())  # whatever their case

# --- user properties (Identify: user_properties; the order is that of Amplitude's SDKs) ---
_OPERATORS: Final = "$clearAll $unset $set $setOnce $add $append $prepend $preInsert $postInsert $remove"
ORDERED_OPERATORS: Final = tuple(_OPERATORS.split())
ITEM_OPERATORS: Final = frozenset(["$append", "$prepend", "$preInsert", "$postInsert", "$remove"])
LONGEST_STRING: Final = 1024  # characters of a value, and of a list's strings together; the rest is cut
DEEPEST_VALUE: Final = 40  # levels of objects in a value
MOST_PROPERTIES: Final = 1000  # in one identification: a bound of the SDKs
MOST_GROUP_TYPES: Final = 5
MOST_GROUPS: Final = 10

# --- one request; bytes of JSON count unpacked ---
MOST_IDENTIFICATIONS: Final = 1000  # undocumented: what other pipelines send
MOST_IDENTIFY_BYTES: Final = 1_000_000  # HTTP V2: 1 MB, which Identify refers to
MOST_EVENTS: Final = 2000  # Batch and HTTP V2
MOST_BATCH_BYTES: Final = 20_000_000  # Batch: 20 MB

# --- speed ---
THROTTLE_WINDOW_SECONDS: Final = 30.0  # over which one user's events a second are averaged
BATCH_EVENTS_PER_SECOND: Final = 1000  # of one user or device (Batch)
HTTP_V2_EVENTS_PER_SECOND: Final = 30  # (HTTP V2)
DAILY_EVENTS: Final = 500_000  # of one user or device (Batch)
INSERT_ID_SECONDS: Final = 7 * 86_400.0  # so long an insert_id that came before is ignored (HTTP V2)
