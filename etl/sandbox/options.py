"""Every knob of the sandbox, checked once; its defaults are a well-behaved server without limits on speed."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from etl.amplitude import MAX_BATCH_SIZE
from etl.errors import UsageError
from etl.sandbox.faults import FaultRule, check_rules, parse_fault
from etl.sandbox.offences import NAMED, Named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

MAX_REQUEST_BYTES: Final = 1_000_000
MAX_EVENTS: Final = 2000
MAX_BATCH_BYTES: Final = 20_000_000
Ingested: TypeAlias = Literal["all", "new", "none"]
INGESTED: Final[tuple[Ingested, ...]] = ("all", "new", "none")
THROTTLE_WINDOW_SECONDS: Final = 30.0
# What may not change while the server runs: it is bound, and its journal is open.
FIXED: Final = frozenset({"port", "journal", "api_keys", "secret_keys"})
_LATENCY = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """What the sandbox imitates, which limits it has and how it misbehaves. Wrong values raise UsageError.

    `port` 0 takes a free one. An empty `api_keys` or `secret_keys` takes any key that isn't empty;
    `echo_key` repeats a refused key in the answer. `max_bytes` counts a form as it came over the wire, and
    the JSON of `/2/httpapi` unpacked; `max_batch_bytes` that of `/batch`. Rates are per second and None means
    no limit; one user's rate is averaged over `user_window` seconds, and its updates above
    `user_updates_per_hour` are dropped while the answer says success. `retry_after` (seconds) is put on every
    429. Requests with one of `hot_users` get a 429: the first `hot_tries` of them, or all. Requests with one
    of `poison_users`, or one of `poison_texts` in their JSON text, get `poison_status`. Events of
    `quota_users` get a 429 and those of `silenced_users` a 400. `offenders` says which events a 400 names,
    `ingested` which ones `events_ingested` counts. `latency` is in seconds. `sink` reads bodies and looks at
    nothing. `record` remembers every request in memory, `journal` appends them to a file.
    """

    port: int = 0
    api_keys: frozenset[str] = frozenset()
    secret_keys: frozenset[str] = frozenset()
    echo_key: bool = False
    max_identifications: int = MAX_BATCH_SIZE
    max_bytes: int = MAX_REQUEST_BYTES
    max_events: int = MAX_EVENTS
    max_batch_bytes: int = MAX_BATCH_BYTES
    requests_per_second: float | None = None
    identifications_per_second: float | None = None
    reads_per_minute: float | None = None
    user_updates_per_second: float | None = None
    user_window: float = THROTTLE_WINDOW_SECONDS
    user_updates_per_hour: int | None = None
    retry_after: float | None = None
    hot_users: frozenset[str] = frozenset()
    hot_tries: int | None = None
    poison_users: frozenset[str] = frozenset()
    poison_texts: frozenset[str] = frozenset()
    poison_status: int = 400
    quota_users: frozenset[str] = frozenset()
    silenced_users: frozenset[str] = frozenset()
    offenders: Named = "all"
    ingested: Ingested = "all"
    faults: tuple[FaultRule, ...] = ()
    latency: float = 0.0
    seed: int = 0
    sink: bool = False
    record: bool = False
    journal: Path | None = None

    def __post_init__(self) -> None:
        _require(0 <= self.port <= 65535, f"there is no port {self.port}", "give one from 0 to 65535")
        _require(
            self.poison_status in {400, 403},
            f"poison can't be answered with {self.poison_status}",
            "give 400 or 403",
        )
        for name, words in (("offenders", NAMED), ("ingested", INGESTED)):
            given = getattr(self, name)
            _require(given in words, f"{name} can't be {given}", f"give {' or '.join(words)}")
        for name in _SIZES:
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}", "give more than 0")
        for name in ("latency", "retry_after", "hot_tries"):
            value = getattr(self, name)
            _require(value is None or value >= 0, f"{name} is {value}", "give 0 or more")
        for name in _RATES:
            value = getattr(self, name)
            _require(value is None or value > 0, f"{name} is {value}", "give more than 0, or leave it out")
        check_rules(self.faults)

    def changed(self, values: Mapping[str, object]) -> SandboxOptions:
        """Copy the options with other values, given as JSON has them. Raises UsageError for a wrong one."""
        return replace(self, **{name: _parsed(name, value) for name, value in values.items()})  # type: ignore[arg-type]

    def as_json(self) -> dict[str, object]:
        """Show the options that can change while the server runs, as JSON values."""
        shown = (option.name for option in fields(self) if option.name not in FIXED)
        return {name: _plain(getattr(self, name)) for name in shown}


_SIZES: Final = ("max_identifications", "max_bytes", "max_events", "max_batch_bytes", "user_window")
_RATES: Final = (
    "requests_per_second",
    "identifications_per_second",
    "reads_per_minute",
    "user_updates_per_second",
    "user_updates_per_hour",
)


def parse_latency(text: str) -> float:
    """Read `80ms` or `1.5s` as seconds. Raises UsageError."""
    found = _LATENCY.fullmatch(text.strip())
    if found is None:
        raise UsageError(f'"{text}" is not a latency', hint="write it like 80ms or 1.5s")
    return float(found[1]) / (1000 if found[2] == "ms" else 1)


def _require(holds: bool, message: str, hint: str) -> None:
    if not holds:
        raise UsageError(message, hint=hint)


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [str(rule) for rule in value]
    return value


def _parsed(name: str, value: object) -> object:
    parse = _PARSERS.get(name)
    if parse is None:
        raise UsageError(f'"{name}" can\'t be changed', hint=f"what can: {', '.join(sorted(_PARSERS))}")
    try:
        return parse(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: {value!r} is not a value it can take") from error


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _latency(value: object) -> float:
    return parse_latency(value) if isinstance(value, str) else _number(value)


def _words(value: object) -> frozenset[str]:
    return frozenset(_texts(value))


def _rules(value: object) -> tuple[FaultRule, ...]:
    return tuple(parse_fault(text) for text in _texts(value))


def _texts(value: object) -> list[str]:
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(v, str) for v in value):
        raise TypeError
    return list(value)


def _or_none(parse: Callable[[object], object]) -> Callable[[object], object]:
    return lambda value: None if value is None else parse(value)


_PARSERS: Final[Mapping[str, Callable[[object], object]]] = {
    "echo_key": _flag,
    "max_identifications": _whole,
    "max_bytes": _whole,
    "max_events": _whole,
    "max_batch_bytes": _whole,
    "requests_per_second": _or_none(_number),
    "identifications_per_second": _or_none(_number),
    "reads_per_minute": _or_none(_number),
    "user_updates_per_second": _or_none(_number),
    "user_window": _number,
    "user_updates_per_hour": _or_none(_whole),
    "retry_after": _or_none(_number),
    "hot_users": _words,
    "hot_tries": _or_none(_whole),
    "poison_users": _words,
    "poison_texts": _words,
    "poison_status": _whole,
    "quota_users": _words,
    "silenced_users": _words,
    "offenders": _word,
    "ingested": _word,
    "faults": _rules,
    "latency": _latency,
    "seed": _whole,
    "sink": _flag,
    "record": _flag,
}
