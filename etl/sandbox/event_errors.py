"""What the event APIs refuse or throttle: events by their index, users and devices by their id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from etl.sandbox.answers import RequestRefusedError
from etl.sandbox.api_rules import DAILY_EVENTS, GROUP_IDENTIFY_EVENT, ID_KEYS
from etl.sandbox.checks import IdLengthError, MissingIdError, broken_rules, trimmed_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Set

    from etl.sandbox.checks import Identification
    from etl.sandbox.limiter import Limiter

Offenders: TypeAlias = Literal["all", "first", "none"]

# The keys of a 400 (Batch: Response codes, 400).
INVALID: Final = "events_with_invalid_fields"
MISSING: Final = "events_with_missing_fields"
ID_LENGTH: Final = "events_with_invalid_id_lengths"
SILENCED: Final = "silenced_events"


@dataclass(frozen=True, slots=True)
class EventError:
    """A fault of the event at `index`: `kind` is the answer's key for it, `field` empty where silenced."""

    index: int
    kind: str
    field: str
    message: str


def find_event_errors(events: Sequence[Identification], min_id_length: int) -> list[EventError]:
    """Find what is wrong with events, in their order."""
    return [
        EventError(index, kind, field, message)
        for index, event in enumerate(events)
        for kind, field, message in _errors_of(event, min_id_length)
    ]


def refusal_of_events(errors: Sequence[EventError], offenders: Offenders) -> RequestRefusedError:
    """Make the 400 that names the events of all errors, only the first of them, or none."""
    first = min(errors, key=lambda error: error.index)
    details: dict[str, Any] = {}
    for error in {"all": errors, "first": [first], "none": []}[offenders]:
        if error.kind == SILENCED:
            details.setdefault(SILENCED, []).append(error.index)
        else:
            details.setdefault(error.kind, {}).setdefault(error.field, []).append(error.index)
    return RequestRefusedError(400, "invalid events", reason=first.message, details=details)


def throttled_events(
    events: Sequence[Identification], quota_users: Set[str], limiter: Limiter, eps_threshold: int
) -> RequestRefusedError | None:
    """Make the 429 for the users and devices who may not have more events now, if there are any.

    Their rates are given as one above what is allowed. Events of those over their day are throttled as well.
    """
    users, devices = (_indexes_by_id(events, field) for field in ID_KEYS)
    ids = users.keys() | devices.keys()
    over = quota_users & ids
    throttled = {*limiter.hot(ids), *limiter.quick(ids)} - over
    if not (over or throttled):
        return None

    def rates(named: Set[str], allowed: int) -> dict[str, int]:
        return dict.fromkeys(sorted(named), allowed + 1)

    refused = over | throttled
    details = {
        "eps_threshold": eps_threshold,
        "throttled_users": rates(throttled & users.keys(), eps_threshold),
        "throttled_devices": rates(throttled & devices.keys(), eps_threshold),
        "exceeded_daily_quota_users": rates(over & users.keys(), DAILY_EVENTS),
        "exceeded_daily_quota_devices": rates(over & devices.keys(), DAILY_EVENTS),
        "throttled_events": sorted(
            {i for by_id in (users, devices) for u in refused for i in by_id.get(u, ())}
        ),
    }
    return RequestRefusedError(429, "too many events of some users or devices", details=details)


def _indexes_by_id(events: Sequence[Identification], field: str) -> dict[str, list[int]]:
    indexes: dict[str, list[int]] = {}
    for index, event in enumerate(events):
        given = trimmed_id(event, field)
        if given is not None:
            indexes.setdefault(given, []).append(index)
    return indexes


def _errors_of(event: Identification, min_id_length: int) -> Iterator[tuple[str, str, str]]:
    """Yield kind, field and message of each fault."""
    event_type = event.get("event_type")
    if event_type is None or event_type == "":
        yield MISSING, "event_type", "an event without event_type"
    for field in ("event_type", "insert_id"):
        if not isinstance(event.get(field), str | None):
            yield INVALID, field, f"{field} must be a string"
    time = event.get("time")
    if time is not None and (isinstance(time, bool) or not isinstance(time, int) or time < 0):
        yield INVALID, "time", "time must be whole milliseconds"
    if not isinstance(event.get("event_properties"), dict | None):
        yield INVALID, "event_properties", "event_properties must be an object"
    for field, error in broken_rules(event, min_id_length):
        if not isinstance(error, MissingIdError):
            yield ID_LENGTH if isinstance(error, IdLengthError) else INVALID, field, error.message
        elif event_type != GROUP_IDENTIFY_EVENT:  # which is about a group, and needs no user
            yield from ((MISSING, name, "an event without an id") for name in ID_KEYS)
