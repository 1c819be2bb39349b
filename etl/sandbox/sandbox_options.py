"""Every option of the sandbox, checked once; by default it behaves well and has no limits on speed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict, ValidationError
from pydantic.dataclasses import dataclass

from .api_rules import (
    MOST_BATCH_BYTES,
    MOST_EVENTS,
    MOST_IDENTIFICATIONS,
    MOST_IDENTIFY_BYTES,
    THROTTLE_WINDOW_SECONDS,
)
from .fault_injection import FaultRule, SandboxError, parse_fault

# What can't change while the server runs: it is bound, and its journal is open.
FIXED: Final = frozenset({"port", "journal", "api_keys", "secret_keys", "memory"})
_LATENCY: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


def parse_latency(text: str) -> float:
    """Read `80ms` or `1.5s` as seconds. Raises SandboxError."""
    found = _LATENCY.fullmatch(text.strip())
    if found is None:
        raise SandboxError(f'"{text}" is not a latency', hint="write it like 80ms or 1.5s")
    return float(found[1]) / (1000 if found[2] == "ms" else 1)


def _check_shares(rules: tuple[FaultRule, ...]) -> tuple[FaultRule, ...]:
    total = math.fsum(rule.probability for rule in rules)
    if total > 1 + 1e-9:
        raise SandboxError(f"the shares of all faults add up to {total:g}", hint="keep their sum within 1")
    return rules


Offenders: TypeAlias = Literal["all", "first", "none"]
Taking: TypeAlias = Literal["obey", "ignore", "refuse"]
Count: TypeAlias = Annotated[int, Field(gt=0)]
Rate: TypeAlias = Annotated[float, Field(gt=0)] | None
# Of JSON these are arrays.
Names: TypeAlias = Annotated[frozenset[str], Strict(False)]
Rule: TypeAlias = Annotated[FaultRule, BeforeValidator(lambda r: parse_fault(r) if isinstance(r, str) else r)]
Seconds: TypeAlias = Annotated[
    float, Field(ge=0), BeforeValidator(lambda s: parse_latency(s) if isinstance(s, str) else s)
]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, hide_input_in_errors=True))
class SandboxOptions:
    """What the sandbox imitates, which limits it has and how it misbehaves. Wrong values raise ValueError.

    `port` 0 takes a free one. An empty `api_keys` or `secret_keys` takes any key that isn't empty;
    `echo_key` repeats a refused key in the answer. `max_bytes` counts a form as it came over the wire, and
    the JSON of `/2/httpapi` unpacked; `max_batch_bytes` that of `/batch`. Rates are per second and None means
    no limit; one user's rate is averaged over `user_window` seconds, and its updates above
    `user_updates_per_hour` are dropped while the answer says success. `retry_after` (seconds) is put on every
    429. Requests with one of `hot_users` get a 429: the first `hot_tries` of them, or all. Requests with one
    of `poison_users`, or one of `poison_texts` in their JSON text, get `poison_status`. Events of
    `quota_users` get a 429 and those of `silenced_users` a 400. `offenders` are the events that a 400 names,
    `ingested` those that `events_ingested` counts. Of `/identify` no page says whether it takes gzip, the
    form field `options` (`identify_min_id_length`), an `insert_id`, a `time` or `$clearAll`, what it does
    with an array in which an item is bad (`bad_item`), and what clears a field: an `empty` text or a `null`.
    `latency` is in seconds. `sink` reads bodies and looks at
    nothing. `record` remembers every request in memory, `journal` appends them to a file. `memory` keeps
    profiles in memory, and not in a temporary file.
    """

    port: Annotated[int, Field(ge=0, le=65535)] = 0
    api_keys: Names = frozenset()
    secret_keys: Names = frozenset()
    echo_key: bool = False
    max_identifications: Count = MOST_IDENTIFICATIONS
    max_bytes: Count = MOST_IDENTIFY_BYTES
    max_events: Count = MOST_EVENTS
    max_batch_bytes: Count = MOST_BATCH_BYTES
    requests_per_second: Rate = None
    identifications_per_second: Rate = None
    reads_per_minute: Rate = None
    user_updates_per_second: Rate = None
    user_window: Annotated[float, Field(gt=0)] = THROTTLE_WINDOW_SECONDS
    user_updates_per_hour: Count | None = None
    retry_after: Seconds | None = None
    hot_users: Names = frozenset()
    hot_tries: Annotated[int, Field(ge=0)] | None = None
    poison_users: Names = frozenset()
    poison_texts: Names = frozenset()
    poison_status: Literal[400, 403] = 400
    quota_users: Names = frozenset()
    silenced_users: Names = frozenset()
    offenders: Offenders = "all"
    ingested: Literal["all", "new", "none"] = "all"
    identify_gzip: bool = False
    identify_min_id_length: bool = False
    identify_insert_id: Taking = "ignore"
    identify_time: Taking = "ignore"
    clear_all: Taking = "obey"
    bad_item: Literal["refuses_all", "refused_alone", "skipped"] = "refuses_all"
    cleared_by: Literal["empty", "null"] | None = None
    faults: Annotated[tuple[Rule, ...], Strict(False), AfterValidator(_check_shares)] = ()
    latency: Seconds = 0.0
    seed: int = 0
    sink: bool = False
    record: bool = False
    memory: bool = False
    journal: Path | None = None

    def changed(self, values: Mapping[str, object]) -> SandboxOptions:
        """Return options with other values, given as JSON has them. Raises SandboxError for a wrong one."""
        changeable = vars(self).keys() - FIXED
        for name in values.keys() - changeable:
            raise SandboxError(f'"{name}" can\'t be changed', hint=f"give {', '.join(sorted(changeable))}")
        return make_options({**vars(self), **values})

    def as_json(self) -> dict[str, object]:
        """Return the options that can change while the server runs, as JSON values."""
        shown = {name: value for name, value in vars(self).items() if name not in FIXED}
        listed = {name: sorted(value) for name, value in shown.items() if isinstance(value, frozenset)}
        return {**shown, **listed, "faults": [str(rule) for rule in self.faults]}


def make_options(values: Mapping[str, Any]) -> SandboxOptions:
    """Make options of values by name. Raises SandboxError for the first wrong one."""
    try:
        return SandboxOptions(**values)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, SandboxError):
            raise cause from error
        message = f"{first['loc'][0]} can't be {first['input']!r}"
        raise SandboxError(message, hint=f"{first['msg'][:1].lower()}{first['msg'][1:]}") from error
