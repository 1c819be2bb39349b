"""Which fields, operators and events an identification can have."""

from __future__ import annotations

from typing import Final

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
