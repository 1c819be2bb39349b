"""What the rows of a user leave in the profile, as far as they alone decide it; and what differs. No I/O.

Read off the operators anew, row by row: a fault in how rows are merged and sent would show here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Final

from ..amplitude.limits import MAX_SAFE_INTEGER, MAX_STRING_LENGTH
from ..amplitude.operators import OPERATORS, STRING_FIELDS
from ..amplitude.user_profile import UserProfile

_MOST_OLDER: Final = 8  # earlier values that are kept of a property
_TYPES: Final = {bool: "boolean", int | float: "number", str: "string", list: "list", dict: "object"}
LONG_LIST: Final = "a list with more characters than Amplitude keeps"
EARLIER: Final = "a later row of the user has an earlier time"
SHARED_DEVICE: Final = "rows that name only a device may be about this user, too"


@dataclass(frozen=True, slots=True)
class ValueDifference:
    """A property that isn't as the export leaves it; None stands for no value.

    `kind` is missing_user, missing_property, not_unset, older_value, other_type or other_value.
    """

    user: str
    property: str
    expected: Any
    found: Any
    kind: str


@dataclass(frozen=True, slots=True)
class ExpectedValue:
    """What a property must be: `value` (None: it has none), unless `unknown` says why that is undecided.

    `present`: some value must be there all the same. `inexact`: of a sum, whose digits depend on its order.
    `older` are values that earlier rows of the user gave.
    """

    value: Any = None
    unknown: str = ""
    present: bool = False
    inexact: bool = False
    older: tuple[Any, ...] = ()

    def after(self, operator: str, value: Any) -> ExpectedValue:
        """What it must be once an operator was applied."""
        found = self._changed(operator, value)
        if self.unknown or self.value is None or found is self:
            return replace(found, older=self.older)
        return replace(found, older=(*self.older, self.value)[-_MOST_OLDER:])

    def _changed(self, operator: str, value: Any) -> ExpectedValue:
        if operator == "$unset":
            return ExpectedValue()
        if operator == "$set":
            return ExpectedValue(value)
        if operator == "$setOnce" and not self.unknown:
            return self if self.value is not None else ExpectedValue(value)
        if self.unknown:
            reason = f"{operator} on a value from before this export"
            return ExpectedValue(unknown=reason, present=self.present or operator != "$remove")
        if operator == "$add":
            return self._sum(value)
        items = value if isinstance(value, list) else [value]
        had = self.value if isinstance(self.value, list) else [] if self.value is None else [self.value]
        if operator == "$remove" and not isinstance(self.value, list):
            return self
        if _is_long(items):
            return ExpectedValue(unknown=LONG_LIST, present=operator != "$remove")
        if operator == "$remove":
            return ExpectedValue([one for one in had if not any(is_same(one, item) for item in items)])
        once, new = operator in {"$preInsert", "$postInsert"}, list[Any]()
        for item in items:
            if not once or not any(is_same(item, one) for one in (*had, *new)):
                new.append(item)
        after = [*new, *had] if operator in {"$prepend", "$preInsert"} else [*had, *new]
        return ExpectedValue(unknown=LONG_LIST, present=True) if _is_long(after) else ExpectedValue(after)

    def _sum(self, value: Any) -> ExpectedValue:
        before = 0 if self.value is None else self.value
        if any(isinstance(one, bool) or not isinstance(one, int | float) for one in (before, value)):
            return ExpectedValue(unknown="$add on a value that is not a number", present=True)
        total = before + value
        if abs(total) > MAX_SAFE_INTEGER:
            return ExpectedValue(unknown="a sum with more digits than Amplitude keeps", present=True)
        return ExpectedValue(total, inexact=True)


_NOT_TOLD: Final = ExpectedValue(unknown="it is not in the export")


@dataclass(slots=True)
class Findings:
    """A profile held against what the export leaves: how many properties are `right`, and the others."""

    right: int = 0
    differences: list[ValueDifference] = field(default_factory=list)
    not_compared: Counter[str] = field(default_factory=Counter)


class ExpectedProfile:
    """What the rows of one user, in their order, leave in the user's profile."""

    def __init__(self) -> None:
        self.properties: dict[str, ExpectedValue] = {}
        self.groups: dict[str, list[Any]] = {}
        self.fields: dict[str, str] = {}
        self._untold = _NOT_TOLD
        self._time = 0

    def apply(self, identification: Mapping[str, Any]) -> None:
        """Take the user's next row, an identification as it is sent."""
        time, updates = identification.get("time", self._time), identification.get("user_properties") or {}
        self._time, is_late = max(self._time, time), time < self._time
        if "$clearAll" in updates:
            self._untold = ExpectedValue()
            for name, before in self.properties.items():
                self.properties[name] = before.after("$unset", None)
        for operator in OPERATORS[1:]:
            for name, value in updates.get(operator, {}).items():
                if value is not None:
                    before = self.properties.get(name, self._untold)
                    after = before.after(operator, value)
                    if is_late:
                        after = replace(after, value=None, unknown=EARLIER, present=False)
                    self.properties[name] = after
        for name, value in (identification.get("groups") or {}).items():
            if named := [one for one in (value if isinstance(value, list) else [value]) if one is not None]:
                self.groups[name] = named
        self.fields |= {name: identification[name] for name in STRING_FIELDS if name in identification}

    def compare(self, user: str, profile: UserProfile | None, *, shared: bool = False) -> Findings:
        """Hold the profile of a user against it; None: there is none.

        `shared`: rows of others may have changed the profile too, so that only what is right is certain.
        """
        found = Findings()
        if profile is None:
            found.differences.append(ValueDifference(user, "", None, None, "missing_user"))
            return found
        for name, expected, present, has in self._pairs(profile):
            kind = _difference(expected, present)
            if not has or (expected.unknown and kind is None) or (kind is not None and shared):
                reason = expected.unknown or (SHARED_DEVICE if has else "the answer has no such field")
                found.not_compared[reason] += 1
            elif kind is None:
                found.right += 1
            else:
                value = f"({expected.unknown})" if expected.unknown else expected.value
                found.differences.append(ValueDifference(user, name, value, present, kind))
        return found

    def _pairs(self, profile: UserProfile) -> Iterator[tuple[str, ExpectedValue, Any, bool]]:
        """By name what must be and what is there, and whether the answer can have it at all."""
        for name, expected in self.properties.items():
            yield name, expected, profile.properties.get(name), True
        for name, named in self.groups.items():
            present = (profile.groups or {}).get(name)
            listed = present if isinstance(present, list) or present is None else [present]
            yield f"groups.{name}", ExpectedValue(named), listed, profile.groups is not None
        for name, text in self.fields.items():
            yield name, ExpectedValue(text), profile.fields.get(name), name in profile.fields


def _difference(expected: ExpectedValue, found: Any) -> str | None:
    """The kind of a difference; None for none that can be told."""
    if expected.unknown:
        return "missing_property" if expected.present and found is None else None
    if expected.value is None:
        return None if found is None else "not_unset"
    if found is None:
        return "missing_property"
    if is_same(expected.value, found, inexact=expected.inexact):
        return None
    if any(is_same(value, found) for value in expected.older):
        return "older_value"
    return "other_value" if _type(expected.value) == _type(found) else "other_type"


def is_same(sent: Any, stored: Any, *, inexact: bool = False) -> bool:
    """Whether a value is stored as it was sent: cut where it is too long, and numbers as doubles."""
    kind = _type(sent)
    if kind != _type(stored):
        return False
    if kind == "number":
        if sent == stored:
            return True
        one, other = float(min(max(sent, -1e308), 1e308)), float(min(max(stored, -1e308), 1e308))
        return math.isclose(one, other, rel_tol=1e-9 if inexact else 0.0, abs_tol=1e-9 if inexact else 0.0)
    if kind == "string" and len(sent) > MAX_STRING_LENGTH:  # characters, or the halves of large ones
        return bool(sent.startswith(stored)) and len(stored.encode("utf-16-le")) // 2 >= MAX_STRING_LENGTH - 1
    if kind == "list":
        lengths = (min(len(item), MAX_STRING_LENGTH) if isinstance(item, str) else 0 for item in sent)
        kept = sum(used <= MAX_STRING_LENGTH for used in accumulate(lengths))
        same = all(is_same(one, other) for one, other in zip(sent, stored, strict=False))
        return same and kept <= len(stored) <= len(sent)
    if kind == "object":
        given, there = ({n: v for n, v in one.items() if v is not None} for one in (sent, stored))
        return given.keys() == there.keys() and all(is_same(given[name], there[name]) for name in given)
    return bool(sent == stored)


def _is_long(items: list[Any]) -> bool:
    """Whether a list has more characters than Amplitude keeps, so that its end is not known."""
    return sum(len(one) for one in items if isinstance(one, str)) > MAX_STRING_LENGTH


def _type(value: Any) -> str:
    return next((name for kind, name in _TYPES.items() if isinstance(value, kind)), "null")
