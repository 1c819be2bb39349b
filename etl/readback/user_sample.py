"""Which users of an export are read back, what that proves, and the profile that their rows leave. No I/O.

Each user has a random priority, the hash of the id and the seed, and the users with the lowest priorities are
the sample. A user of the sample is among the lowest from its first row on, so one pass is enough, and memory
holds only the sample.

The expected profile applies the operators anew, row by row, as far as the rows alone decide it: a fault in
merging or sending rows shows here.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ..amplitude.requests import MAX_SAFE_INTEGER, MAX_STRING_LENGTH, OPERATORS, STRING_FIELDS
from ..amplitude.responses import UserProfile
from ..arrow.json_text import Splice, json_lines
from ..snapshot import KeyFilter
from ..subject import Subject, id_keys, mix_bits, names_device_alone, user_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIDENCE: Final = 0.95


@dataclass(slots=True)
class SampledUser:
    """A user of the sample: its id by the field that holds it, and what the export leaves of it."""

    ids: dict[str, str]
    expected: ExpectedProfile

    @property
    def name(self) -> str:
        """The id."""
        return next(iter(self.ids.values()))


class UserSample:
    """The `size` users with the lowest priorities; add all identifications of the export in order.

    In a job with both ids, rows that name only a device count as a user of their own.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._seed = mix_bits(np.array([seed % 2**64], dtype=np.uint64))
        self._lowest: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._users: dict[int, SampledUser] = {}
        self._devices = KeyFilter()  # those that a row names alone
        self._both_ids = False

    @property
    def users(self) -> list[SampledUser]:
        """The users of the sample, in random order."""
        return [self._users[priority] for priority in self._lowest.tolist()]

    def add(self, identifications: pa.RecordBatch, splice: Splice | None) -> None:
        """Take the next identifications; `splice` puts raw JSON in place of marked strings."""
        keys, subject = user_keys(identifications), Subject.of(identifications.schema.names)
        self._both_ids = subject.link is not None
        self._devices.add(keys[:, 0] if subject.lead == "device_id" else keys[names_device_alone(keys), 0])
        priorities = mix_bits(keys[:, 0] ^ self._seed)
        full = len(self._lowest) == self._size
        rows = np.flatnonzero(priorities <= self._lowest[-1]) if full else np.arange(len(priorities))
        before = self._lowest
        self._lowest = np.unique(np.concatenate([before, priorities[rows]]))[: self._size]
        for priority in np.setdiff1d(before, self._lowest, assume_unique=True).tolist():
            del self._users[priority]
        rows = rows[np.isin(priorities[rows], self._lowest)]
        lines = json_lines(identifications.take(pa.array(rows)), splice=splice)
        for priority, line in zip(priorities[rows].tolist(), lines.splitlines(), strict=True):
            found: dict[str, Any] = json.loads(line)
            if priority not in self._users:
                name = subject.lead if subject.lead in found else "device_id"
                self._users[priority] = SampledUser({name: found[name]}, ExpectedProfile())
            self._users[priority].expected.apply(found)

    def is_shared(self, user: SampledUser, profile: UserProfile | None) -> bool:
        """Whether other rows than the user's may be about the same profile: those of its devices."""
        if profile is None or not self._devices:
            return False
        own = user.ids.get("device_id")
        others = pa.array([one for one in profile.device_ids if one != own], pa.string())
        of_user = self._both_ids and own is not None and profile.user_id is not None
        return of_user or bool(self._devices.has(id_keys("device_id", others)).any())


def right_at_least(right: int, wrong: int) -> float:
    """The least share of users that are right, at CONFIDENCE, if so many of a random sample are.

    The exact bound of Clopper and Pearson, on one side: with this share a sample with so many right ones, or
    more, would come up with the odds of 1 - CONFIDENCE.
    """
    n = right + wrong
    if right and not wrong:
        return float((1 - CONFIDENCE) ** (1 / n))
    # The binomial probabilities of 0 to `wrong` wrong ones, at shares found by halving.
    counts = np.arange(wrong + 1)
    steps = np.log(n - counts[:-1]) - np.log(counts[1:])
    ways = np.concatenate([[0.0], np.cumsum(steps)])
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        odds = np.exp(ways + counts * np.log1p(-share) + (n - counts) * np.log(share)).sum()
        if odds > 1 - CONFIDENCE:
            high = share
        else:
            low = share
    return low


# --- the expected profile --------------------------------------------------------------------------------

_MOST_OLDER: Final = 8  # earlier values that are kept of a property
_TYPES: Final = {bool: "boolean", int | float: "number", str: "string", list: "list", dict: "object"}
_LONG_LIST: Final = "a list with more characters than Amplitude keeps"
_EARLIER: Final = "a later row of the user has an earlier time"
_SHARED_DEVICE: Final = "rows that name only a device may be about this user, too"


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
    """The expected `value` of a property (None: it has none); `unknown` is the reason if that is undecided.

    `present`: there must be a value all the same. `inexact`: it is a sum, whose digits depend on the order.
    `older` are values that earlier rows of the user gave.
    """

    value: Any = None
    unknown: str = ""
    present: bool = False
    inexact: bool = False
    older: tuple[Any, ...] = ()

    def after(self, operator: str, value: Any) -> ExpectedValue:
        """The expected value after an operator."""
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
            return ExpectedValue(unknown=_LONG_LIST, present=operator != "$remove")
        if operator == "$remove":
            return ExpectedValue([one for one in had if not any(is_same(one, item) for item in items)])
        once, new = operator in {"$preInsert", "$postInsert"}, list[Any]()
        for item in items:
            if not once or not any(is_same(item, one) for one in (*had, *new)):
                new.append(item)
        after = [*new, *had] if operator in {"$prepend", "$preInsert"} else [*had, *new]
        return ExpectedValue(unknown=_LONG_LIST, present=True) if _is_long(after) else ExpectedValue(after)

    def _sum(self, value: Any) -> ExpectedValue:
        before = 0 if self.value is None else self.value
        if any(isinstance(one, bool) or not isinstance(one, int | float) for one in (before, value)):
            return ExpectedValue(unknown="$add on a value that is not a number", present=True)
        total = before + value
        if abs(total) > MAX_SAFE_INTEGER:
            return ExpectedValue(unknown="a sum with more digits than Amplitude keeps", present=True)
        return ExpectedValue(total, inexact=True)


_NOT_IN_EXPORT: Final = ExpectedValue(unknown="it is not in the export")


@dataclass(slots=True)
class ProfileComparison:
    """The result of comparing a profile: how many properties are `right`, and the others."""

    right: int = 0
    differences: list[ValueDifference] = field(default_factory=list)
    not_compared: Counter[str] = field(default_factory=Counter)


class ExpectedProfile:
    """The profile that the rows of one user leave, in their order."""

    def __init__(self) -> None:
        self.properties: dict[str, ExpectedValue] = {}
        self.groups: dict[str, list[Any]] = {}
        self.fields: dict[str, str] = {}
        self._unnamed = _NOT_IN_EXPORT
        self._time = 0

    def apply(self, identification: Mapping[str, Any]) -> None:
        """Take the user's next row, an identification as it is sent."""
        time, updates = identification.get("time", self._time), identification.get("user_properties") or {}
        self._time, is_late = max(self._time, time), time < self._time
        if "$clearAll" in updates:
            self._unnamed = ExpectedValue()
            for name, before in self.properties.items():
                self.properties[name] = before.after("$unset", None)
        for operator in OPERATORS[1:]:
            for name, value in updates.get(operator, {}).items():
                if value is not None:
                    before = self.properties.get(name, self._unnamed)
                    after = before.after(operator, value)
                    if is_late:
                        after = replace(after, value=None, unknown=_EARLIER, present=False)
                    self.properties[name] = after
        for name, value in (identification.get("groups") or {}).items():
            if named := [one for one in (value if isinstance(value, list) else [value]) if one is not None]:
                self.groups[name] = named
        self.fields |= {name: identification[name] for name in STRING_FIELDS if name in identification}

    def compare(self, user: str, profile: UserProfile | None, *, shared: bool = False) -> ProfileComparison:
        """Compare the profile of a user; None: there is none.

        `shared`: rows of others may have changed the profile too, so that only right values are certain.
        """
        found = ProfileComparison()
        if profile is None:
            found.differences.append(ValueDifference(user, "", None, None, "missing_user"))
            return found
        for name, expected, present, has in self._pairs(profile):
            kind = _difference(expected, present)
            if not has or (expected.unknown and kind is None) or (kind is not None and shared):
                reason = expected.unknown or (_SHARED_DEVICE if has else "the answer has no such field")
                found.not_compared[reason] += 1
            elif kind is None:
                found.right += 1
            else:
                value = f"({expected.unknown})" if expected.unknown else expected.value
                found.differences.append(ValueDifference(user, name, value, present, kind))
        return found

    def _pairs(self, profile: UserProfile) -> Iterator[tuple[str, ExpectedValue, Any, bool]]:
        """By name the expected and the present value, and whether the answer has such a field."""
        for name, expected in self.properties.items():
            yield name, expected, profile.properties.get(name), True
        for name, named in self.groups.items():
            present = (profile.groups or {}).get(name)
            listed = present if isinstance(present, list) or present is None else [present]
            yield f"groups.{name}", ExpectedValue(named), listed, profile.groups is not None
        for name, text in self.fields.items():
            yield name, ExpectedValue(text), profile.fields.get(name), name in profile.fields


def _difference(expected: ExpectedValue, found: Any) -> str | None:
    """The kind of a difference; None if none is certain."""
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
