"""Amplitude's rules, as its documentation has them: names, limits, what is refused, and what operators do.

Typed from the pages below and shared with nothing else, so that a wrong constant in the rest of `etl` is
noticed here. `tests/sandbox/test_agreement.py` holds both sides against what the pages say.

Identify: https://amplitude.com/docs/apis/analytics/identify Batch:
https://amplitude.com/docs/apis/analytics/batch-event-upload HTTP V2:
https://amplitude.com/docs/apis/analytics/http-v2 User Profile:
https://amplitude.com/docs/apis/analytics/user-profile
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import orjson

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
ORDERED_OPERATORS: Final = tuple(
    "$clearAll $unset $set $setOnce $add $append $prepend $preInsert $postInsert $remove".split()  # noqa: SIM905
)
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

# --- answers and refusals --------------------------------------------------------------------------------

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Identification: TypeAlias = dict[str, Json]
Properties: TypeAlias = dict[str, Json]

_OPERATORS: Final = frozenset(ORDERED_OPERATORS)
_KEYED_OPERATORS: Final = _OPERATORS - {"$clearAll"}
_ADDABLE: Final = frozenset({int, float})
_BARE_MESSAGES: Final = frozenset({"missing_event", "invalid_api_key"})


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it is sent; JSON where `text` is an object. `reason` is empty for a success."""

    status: int
    text: str
    reason: str = ""


@dataclass(eq=False)
class RequestRefusedError(Exception):
    """The request is answered with `status` and nothing of it is applied.

    `message` and, in a JSON answer, `details` go to the client; `reason` is the message without what may not
    be kept, such as a key.
    """

    status: int
    message: str
    reason: str = field(default="", kw_only=True)
    details: Mapping[str, object] = field(default_factory=dict, kw_only=True)

    def as_answer(self) -> Answer:
        """Answer as the Identify API does: these two messages as bare text, all others as JSON."""
        answer = self.as_json_answer()
        return replace(answer, text=self.message) if self.message in _BARE_MESSAGES else answer

    def as_json_answer(self) -> Answer:
        """Answer with a JSON object, as the event APIs always do."""
        body = {"code": self.status, "error": self.message, **self.details}
        return Answer(self.status, orjson.dumps(body).decode(), self.reason or self.message)


class MissingIdError(RequestRefusedError):
    """An identification without an id."""


class IdLengthError(RequestRefusedError):
    """An id is too short or too long."""


def parse_json(text: str, refusal: str) -> Any:
    """Parse JSON text. Raises RequestRefusedError with the message `refusal`."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:  # also for NaN, infinities and lone surrogates
        raise RequestRefusedError(400, refusal) from error


def parse_identifications(text: str) -> list[Identification]:
    """Parse JSON text that holds one identification or an array. Raises RequestRefusedError."""
    parsed = parse_json(text, "missing_event")
    found = parsed if isinstance(parsed, list) else [parsed]
    if not found or not all(isinstance(one, dict) for one in found):
        raise RequestRefusedError(400, "missing_event")
    return found


def trimmed_ids(identification: Mapping[str, Json]) -> dict[str, str]:
    """Return the ids by their key, without the spaces around them."""
    return {name: given.strip() for name in ID_KEYS if isinstance(given := identification.get(name), str)}


def check(
    identification: Identification, min_id_length: int = SHORTEST_ID, refused: frozenset[str] = frozenset()
) -> None:
    """Raise RequestRefusedError where an identification breaks a rule of the API, or has a `refused` key."""
    for _, error in broken_rules(identification, min_id_length):
        raise error
    properties = identification.get("user_properties")
    given = {*identification, *(properties if isinstance(properties, dict) else ())} if refused else ()
    for name in refused.intersection(given):
        raise RequestRefusedError(400, f"{name} is not allowed")


def broken_rules(
    identification: Identification, min_id_length: int = SHORTEST_ID
) -> Iterator[tuple[str, RequestRefusedError]]:
    """Yield each field that breaks a rule, with the refusal; without an id only that is reported."""
    given = [name for name in ID_KEYS if identification.get(name) is not None]
    if not given:
        yield ID_KEYS[0], MissingIdError(400, "missing_event")
        return
    for name, value in identification.items():
        try:
            if name in given:
                _check_id(value, min_id_length)
            elif name == "groups":
                _check_groups(value)
            elif name == "user_properties":
                _check_properties(value)
            elif name in TEXT_KEYS:
                _require(isinstance(value, str | None), f"{name} must be a string")
        except RequestRefusedError as error:
            yield name, error


def _check_id(given: Json, min_length: int) -> None:
    if not isinstance(given, str):
        raise RequestRefusedError(400, "an id must be a string")
    # Spaces count for the length and are trimmed afterwards.
    if not min_length <= len(given) <= LONGEST_ID:
        raise IdLengthError(400, "invalid length of user_id or device_id")
    trimmed = given.strip()
    _require(trimmed != "" and trimmed.lower() not in REFUSED_IDS_LOWER, "invalid user_id or device_id")


def _check_groups(groups: Json) -> None:
    groups = _object({} if groups is None else groups, "groups")
    values = [v for value in groups.values() for v in (value if isinstance(value, list) else [value])]
    _require(not any(isinstance(v, dict | list) for v in values), "a group must be a value or a list")
    _require(len(groups) <= MOST_GROUP_TYPES, f"more than {MOST_GROUP_TYPES} group types")
    _require(len(values) <= MOST_GROUPS, f"more than {MOST_GROUPS} groups")


def _check_properties(properties: Json) -> None:
    properties = _object({} if properties is None else properties, "user_properties")
    operators = _OPERATORS & properties.keys()
    if operators:
        _require(len(operators) == len(properties), "plain user_properties beside operators")
        _check_operators(properties)
        return
    _require(len(properties) <= MOST_PROPERTIES, f"more than {MOST_PROPERTIES} user_properties")
    for name, value in properties.items():
        _require(name[:1] != "$", "unknown operator in user_properties")
        _check_depth(value, 1)


def _check_operators(updates: dict[str, Json]) -> None:
    seen: set[str] = set()
    count = 0
    for operator in _KEYED_OPERATORS & updates.keys():
        operands = _object(updates[operator], operator)
        seen.update(operands)
        count += len(operands)
        if operator == "$add":
            _require(all(v is None or type(v) in _ADDABLE for v in operands.values()), "$add takes numbers")
        for value in operands.values():
            # The value of a list operator becomes an item of a list, or several.
            _check_depth(value, 2 if operator in ITEM_OPERATORS and isinstance(value, dict) else 1)
    _require(count == len(seen), "two operators on one user property")
    _require(count <= MOST_PROPERTIES, f"more than {MOST_PROPERTIES} user_properties")


def _check_depth(value: Json, depth: int) -> None:
    if not isinstance(value, dict | list):
        return
    _require(depth <= DEEPEST_VALUE, f"user_properties deeper than {DEEPEST_VALUE}")
    listed = isinstance(value, list)
    for item in value.values() if isinstance(value, dict) else value:
        _require(not (listed and isinstance(item, list)), "a list inside a list")
        _check_depth(item, depth + 1)


def _object(value: Json, name: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise RequestRefusedError(400, f"{name} must be an object")
    return value


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise RequestRefusedError(400, message)


# --- what operators do to properties ---------------------------------------------------------------------


def update(
    properties: Properties, updates: Mapping[str, Json], note: Callable[[str, Properties], None] | None = None
) -> None:
    """Apply checked user_properties: operators in the server's order, or plain keys as $set.

    `note` is called after each operator that changes something, with the values before by property (None: it
    was absent).
    """
    if updates.keys().isdisjoint(ORDERED_OPERATORS):
        updates = {"$set": dict(updates)}
    for operator in ORDERED_OPERATORS:
        operands, noted = updates.get(operator), dict[str, Json]()
        if operator == "$clearAll" and operator in updates:
            noted.update(properties)
            properties.clear()
        for name, value in operands.items() if isinstance(operands, dict) else ():
            if value is None and operator != "$unset":
                continue
            present = properties.get(name)
            changed = None if operator == "$unset" else _changed(operator, present, value)
            if changed is None:
                properties.pop(name, None)
            else:
                properties[name] = changed
            if changed != present or type(changed) is not type(present):
                noted[name] = present
        if note and noted:
            note(operator, noted)


def _changed(operator: str, present: Json, value: Json) -> Json:
    """The value that an operator makes of the present one; None for a property that stays absent."""
    if operator in {"$set", "$setOnce"}:
        return cut(value) if operator == "$set" or present is None else present
    if operator == "$add":
        return _added(0 if present is None else present, value)
    given, before = _cut_list(listed(value)), listed(present)
    if operator == "$remove":
        kept = [item for item in before if not _holds(given, item)]
        return kept if isinstance(present, list) else present
    if operator in {"$preInsert", "$postInsert"}:
        new: list[Json] = []
        for item in given:
            if not _holds(before, item) and not _holds(new, item):
                new.append(item)
        given = new
    return [*given, *before] if operator in {"$prepend", "$preInsert"} else [*before, *given]


def _added(present: Any, value: Any) -> Json:
    if type(value) not in _ADDABLE or type(present) not in _ADDABLE:
        return present  # type: ignore[no-any-return]
    total: int | float = present + value
    # Beyond 64 bits a JSON reader keeps the size of a whole number, not its digits.
    return total if -(2**63) <= total < 2**64 else float(total)


def cut(value: Json) -> Json:
    """Cut a value's strings to what is stored, at any depth; anything else stays unchanged.

    A list ends before the item that would take its strings over the same length.
    """
    if isinstance(value, str):
        return value if len(value) <= LONGEST_STRING else value[:LONGEST_STRING]
    if isinstance(value, dict):
        return {name: cut(item) for name, item in value.items()}
    return _cut_list(value) if isinstance(value, list) else value


def _cut_list(items: list[Json]) -> list[Json]:
    kept: list[Json] = []
    room = LONGEST_STRING
    for item in map(cut, items):
        room -= len(item) if isinstance(item, str) else 0
        if room < 0:
            break
        kept.append(item)
    return kept


def listed(value: Json) -> list[Json]:
    """Return a list as it is, and any other value as a list of one; null is an empty one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _holds(items: list[Json], wanted: Json) -> bool:
    # True equals 1 in Python; in JSON it doesn't.
    return any(item == wanted and isinstance(item, bool) == isinstance(wanted, bool) for item in items)
