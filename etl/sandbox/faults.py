"""Which request meets which fault: the same seed and the same requests meet the same faults, in any order."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from etl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Moment: TypeAlias = Literal["before", "after", "either"]

# With each word the moment it strikes unless told: before the request is applied, after it, or either.
WORDS: Final[dict[str, Moment]] = {
    "reset": "either",
    "stall": "either",
    "truncate": "after",
    "html": "either",
    "oversized": "either",
    "empty": "before",
    "portal": "before",
}
# Of these answers nobody knows whether the request was applied.
OPEN_STATUSES: Final = frozenset({500, 502, 504})
_RULE = re.compile(r"(?P<kind>[a-z]+|[45]\d\d)(?:-(?P<moment>before|after))?")


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One kind of fault and its share of requests. `kind` is a status from 400 to 599 or one of WORDS."""

    kind: str
    moment: Moment
    probability: float

    def __str__(self) -> str:
        moment = "" if self.moment == usual_moment(self.kind) else f"-{self.moment}"
        return f"{self.kind}{moment}:{self.probability:g}"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request: `kind` as in FaultRule, and whether the request is applied first."""

    kind: str
    applied: bool

    @property
    def status(self) -> int | None:
        """The status to answer with, where the fault is nothing but a status."""
        return int(self.kind) if self.kind.isdigit() else None

    def __str__(self) -> str:
        return f"{self.kind}-{'after' if self.applied else 'before'}"


def usual_moment(kind: str) -> Moment:
    """When a kind of fault strikes unless told."""
    if kind.isdigit():
        return "either" if int(kind) in OPEN_STATUSES else "before"
    return WORDS[kind]


def parse_fault(text: str) -> FaultRule:
    """Read `503:0.05`, `502-after:0.01` or `reset-before:0.1`. Raises UsageError."""
    name, _, share = text.partition(":")
    kind, moment = parse_kind(name)
    try:
        probability = float(share)
    except ValueError:
        probability = math.nan
    if not 0 <= probability <= 1:
        raise UsageError(f'fault "{text}" has no probability', hint="write it like 503:0.05, from 0 to 1")
    return FaultRule(kind, moment, probability)


def parse_kind(text: str) -> tuple[str, Moment]:
    """Read the part of a fault before the colon. Raises UsageError."""
    found = _RULE.fullmatch(text)
    if found is None or not (found["kind"].isdigit() or found["kind"] in WORDS):
        words = ", ".join(WORDS)
        hint = f"give a status from 400 to 599, or one of {words}; -before or -after may follow"
        raise UsageError(f'there is no fault "{text}"', hint=hint)
    moment: Moment = "after" if found["moment"] == "after" else "before"
    return found["kind"], moment if found["moment"] else usual_moment(found["kind"])


def check_rules(rules: Sequence[FaultRule]) -> None:
    """Raise UsageError where the shares of all faults come to more than the whole."""
    total = math.fsum(rule.probability for rule in rules)
    if total > 1 + 1e-9:
        raise UsageError(f"the faults' probabilities add up to {total:g}", hint="keep their sum within 1")


class Dice:
    """Draws the fault of each request from the seed, the request's digest and how often that one came."""

    def __init__(self, rules: Sequence[FaultRule], seed: int) -> None:
        self._rules = tuple(rules)
        self._seed = seed
        self._tries: Counter[bytes] = Counter()

    def draw(self, digest: bytes) -> Fault | None:
        """Draw the fault that this try of the request meets, or None."""
        if not self._rules:
            return None
        self._tries[digest] += 1
        share, coin = self._throw(digest, self._tries[digest])
        for rule in self._rules:
            share -= rule.probability
            if share < 0:
                return Fault(rule.kind, _strikes_after(rule.moment, coin))
        return None

    def _throw(self, digest: bytes, nth: int) -> tuple[float, bool]:
        thrown = blake2b(digest + f"{self._seed} {nth}".encode(), digest_size=9).digest()
        return int.from_bytes(thrown[:8], "big") / 2**64, bool(thrown[8] & 1)


class Outage:
    """All requests meet one fault until it ends: when told to, or when its seconds have passed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._fault: Fault | None = None
        self._until = math.inf

    def begin(self, kind: str, seconds: float | None) -> None:
        """Begin; `kind` as in parse_kind, and nothing is applied unless it ends in -after."""
        word, moment = parse_kind(kind)
        self._fault = Fault(word, moment == "after")
        self._until = math.inf if seconds is None else self._clock() + seconds

    def end(self) -> None:
        """Let requests through again."""
        self._fault = None

    @property
    def fault(self) -> Fault | None:
        """What every request meets just now, or None."""
        if self._fault is not None and self._clock() >= self._until:
            self.end()
        return self._fault


def _strikes_after(moment: Moment, coin: bool) -> bool:
    return coin if moment == "either" else moment == "after"
