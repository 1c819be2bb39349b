"""The 429 of the event APIs: who is too quick or over the day's quota, and whose events those are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etl.sandbox.checks import RequestRefusedError, trimmed_id

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from etl.sandbox.checks import Identification
    from etl.sandbox.gate import Gate
    from etl.sandbox.options import SandboxOptions

DAILY_QUOTA: Final = 500_000


def refusal_of_crowd(
    events: Sequence[Identification], options: SandboxOptions, gate: Gate, eps_threshold: int
) -> RequestRefusedError | None:
    """Refuse an upload for the users and devices in it that may not have more events now, if there are any.

    Their rates are told as one above what is allowed. Events of those over their day are throttled as well.
    """
    users, devices = _named(events, "user_id"), _named(events, "device_id")
    ids = users.keys() | devices.keys()
    over = options.quota_users & ids
    throttled = {*gate.hot(ids), *gate.quick(ids)} - over
    if not (over or throttled):
        return None
    indexes = {
        index for named in (users, devices) for one in over | throttled for index in named.get(one, ())
    }
    details = {
        "eps_threshold": eps_threshold,
        "throttled_users": _rates(throttled & users.keys(), eps_threshold),
        "throttled_devices": _rates(throttled & devices.keys(), eps_threshold),
        "exceeded_daily_quota_users": _rates(over & users.keys(), DAILY_QUOTA),
        "exceeded_daily_quota_devices": _rates(over & devices.keys(), DAILY_QUOTA),
        "throttled_events": sorted(indexes),
    }
    return RequestRefusedError(429, "too many events of some users or devices", details=details)


def _named(events: Sequence[Identification], field: str) -> dict[str, list[int]]:
    """List the indexes of each id's events."""
    indexes: dict[str, list[int]] = {}
    for index, event in enumerate(events):
        given = trimmed_id(event, field)
        if given is not None:
            indexes.setdefault(given, []).append(index)
    return indexes


def _rates(ids: Set[str], allowed: int) -> dict[str, int]:
    return dict.fromkeys(sorted(ids), allowed + 1)
