"""Applies one identification in the same way by whichever path it came, and counts what is odd about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etl.amplitude import FIELDS

if TYPE_CHECKING:
    from collections.abc import Set

    from etl.sandbox.checks import Identification
    from etl.sandbox.gate import Gate
    from etl.sandbox.profiles import Profiles
    from etl.sandbox.stats import Stats

_FIELDS: Final = frozenset(FIELDS)


class Applier:
    """Changes profiles, and counts what the hourly limit drops and which keys nobody knows."""

    def __init__(self, profiles: Profiles, gate: Gate, stats: Stats) -> None:
        self._profiles = profiles
        self._gate = gate
        self._stats = stats

    def apply(self, name: str, identification: Identification, more_keys: Set[str] = frozenset()) -> None:
        """Apply a checked identification of the user or device `name`, which may have `more_keys`."""
        if not self._gate.count(name):
            self._stats.dropped_updates += 1
            return
        if not _FIELDS.issuperset(identification):
            self._stats.unknown_keys.update(identification.keys() - _FIELDS - more_keys)
        self._profiles.apply(identification)
