"""What the JSON of the Batch API's answers names; any part of it may be rubbish, and none of it raises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import orjson

Told: TypeAlias = Mapping[object, object]

_FAULTS: Final = {
    "events_with_invalid_fields": "invalid value in",
    "events_with_missing_fields": "missing",
    "events_with_invalid_id_lengths": "wrong length of",
}
_BOM: Final = b"\xef\xbb\xbf"
_MOST_FAULTS: Final = 5
_MOST_CHARACTERS: Final = 60  # of a field's name


@dataclass(frozen=True, slots=True)
class Named:
    """Whom an answer names, by ids and by their places in the request."""

    users: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    indexes: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.users or self.devices or self.indexes)


def json_object(body: bytes) -> Told:
    """The object that a body is, perhaps behind a byte order mark; an empty one for anything else."""
    try:
        told = orjson.loads(body.strip().removeprefix(_BOM))
    except orjson.JSONDecodeError:  # also where it is nested too deep
        return {}
    return told if isinstance(told, dict) else {}


def ingested_of(told: Told) -> int:
    """How many events the server says it took in; none where it doesn't say."""
    return _whole(told.get("events_ingested")) or 0


def faults_of(told: Told) -> Mapping[int, list[str]]:
    """What a 400 says is wrong with which event, by its index; a few faults of each."""
    faults: dict[int, list[str]] = {}
    for kind, says in _FAULTS.items():
        by_field = told.get(kind)
        for field, indexes in by_field.items() if isinstance(by_field, dict) else ():
            for index in _indexes(indexes):
                found = faults.setdefault(index, [])
                if len(found) < _MOST_FAULTS:
                    found.append(f"{says} {field[:_MOST_CHARACTERS]}")
    for index in _indexes(told.get("silenced_events")):
        faults.setdefault(index, []).append("silenced")
    return faults


def throttled_by(told: Told) -> Named:
    """Whose events a 429 says come too fast."""
    users, devices = _names(told.get("throttled_users")), _names(told.get("throttled_devices"))
    return Named(users, devices, tuple(_indexes(told.get("throttled_events"))))


def over_quota_by(told: Told) -> Named:
    """Who a 429 says may have no more events today."""
    users, devices = told.get("exceeded_daily_quota_users"), told.get("exceeded_daily_quota_devices")
    return Named(_names(users), _names(devices))


def _names(ids: object) -> tuple[str, ...]:
    """Ids as a list, or as the keys of an object with the rate of each."""
    return tuple(name for name in ids if isinstance(name, str)) if isinstance(ids, dict | list) else ()


def _indexes(indexes: object) -> Iterator[int]:
    for index in indexes if isinstance(indexes, list) else ():
        if (whole := _whole(index)) is not None:
            yield whole


def _whole(value: object) -> int | None:
    """A count or a place; None for anything else, and for numbers that no request can have."""
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if fits and isinstance(value, int) else None
