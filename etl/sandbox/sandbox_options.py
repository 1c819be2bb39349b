"""Every option of the sandbox, checked once, and what the faults among them do to requests.

By default it behaves well and has no limits on speed. The same seed and the same requests meet the same
faults, in any order.
"""

from __future__ import annotations

import asyncio
import math
import re
import socket
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from aiohttp import web
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict, ValidationError
from pydantic.dataclasses import dataclass

from .api_rules import (
    MOST_BATCH_BYTES,
    MOST_EVENTS,
    MOST_IDENTIFICATIONS,
    MOST_IDENTIFY_BYTES,
    THROTTLE_WINDOW_SECONDS,
)

# When a fault strikes: before the request is applied, after it, or either.
_Moment: TypeAlias = Literal["before", "after", "either"]

# Kinds that aren't a status, each with its moment by default.
FAULT_KINDS: Final[Mapping[str, _Moment]] = {
    "reset": "either",
    "stall": "either",
    "truncate": "after",
    "html": "either",
    "oversized": "either",
    "empty": "before",
    "portal": "before",
}
# After these answers it is unknown whether the request was applied.
_AMBIGUOUS_STATUSES: Final = frozenset({500, 502, 504})
_NAME: Final = re.compile(r"(?P<kind>[a-z]+|[45]\d\d)(?:-(?P<moment>before|after))?")
_SHARE: Final = re.compile(r"(\d*\.?\d+(?:e-\d+)?)(%?)")
_LATENCY: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


class SandboxError(ValueError):
    """The sandbox can't be had as asked: a wrong option, a taken port, a journal that can't be opened."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


# --- values as they are written --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FaultRule:
    """A kind of fault and its share of requests; `kind` is a status from 400 to 599 or one of FAULT_KINDS."""

    kind: str
    moment: _Moment
    probability: float

    def __str__(self) -> str:
        moment = "" if self.moment == _usual_moment(self.kind) else f"-{self.moment}"
        return f"{self.kind}{moment}:{self.probability:g}"


def parse_fault(text: str) -> FaultRule:
    """Read `503:0.05`, `503:5%`, `502-after:0.01` or `reset-before:0.1`. Raises SandboxError."""
    name, _, share = text.partition(":")
    kind, moment = parse_kind(name)
    found = _SHARE.fullmatch(share)
    probability = math.nan if found is None else float(found[1]) / (100 if found[2] else 1)
    if not 0 <= probability <= 1:
        what = "has no share" if found is None else "has a share above 1, which is 100%"
        raise SandboxError(f'fault "{text}" {what}', hint="write it like 503:0.05 or 503:5%")
    return FaultRule(kind, moment, probability)


def parse_kind(text: str) -> tuple[str, _Moment]:
    """Read the part of a fault before the colon. Raises SandboxError."""
    found = _NAME.fullmatch(text)
    if found is None or not (found["kind"].isdigit() or found["kind"] in FAULT_KINDS):
        kinds = ", ".join(FAULT_KINDS)
        hint = f"give a status from 400 to 599, or one of {kinds}; -before or -after may follow"
        raise SandboxError(f'there is no fault "{text}"', hint=hint)
    moment: _Moment = "after" if found["moment"] == "after" else "before"
    return found["kind"], moment if found["moment"] else _usual_moment(found["kind"])


def _usual_moment(kind: str) -> _Moment:
    if kind.isdigit():
        return "either" if int(kind) in _AMBIGUOUS_STATUSES else "before"
    return FAULT_KINDS[kind]


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


# --- the options -----------------------------------------------------------------------------------------

# What can't change while the server runs: it is bound, and its journal is open.
_FIXED: Final = frozenset({"port", "journal", "api_keys", "secret_keys", "memory"})
Offenders: TypeAlias = Literal["all", "first", "none"]
_Taking: TypeAlias = Literal["obey", "ignore", "refuse"]
Count: TypeAlias = Annotated[int, Field(gt=0)]
_Rate: TypeAlias = Annotated[float, Field(gt=0)] | None
# Of JSON these are arrays.
Names: TypeAlias = Annotated[frozenset[str], Strict(False)]
_Rule: TypeAlias = Annotated[
    FaultRule, BeforeValidator(lambda r: parse_fault(r) if isinstance(r, str) else r)
]
Seconds: TypeAlias = Annotated[
    float, Field(ge=0), BeforeValidator(lambda s: parse_latency(s) if isinstance(s, str) else s)
]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, hide_input_in_errors=True))
class SandboxOptions:
    """What the sandbox imitates, which limits it has and how it misbehaves. Wrong values raise ValueError.

    `port` 0 takes a free one. An empty `api_keys` or `secret_keys` takes any key that isn't empty; `echo_key`
    repeats a refused key in the answer. `max_bytes` counts a form as it came over the wire, and the JSON of
    `/2/httpapi` unpacked; `max_batch_bytes` that of `/batch`. Rates are per second and None means no limit;
    one user's rate is averaged over `user_window` seconds, and its updates above `user_updates_per_hour` are
    dropped while the answer says success. `retry_after` (seconds) is put on every 429. Requests with one of
    `hot_users` get a 429: the first `hot_tries` of them, or all. Requests with one of `poison_users`, or one
    of `poison_texts` in their JSON text, get `poison_status`. Events of `quota_users` get a 429 and those of
    `silenced_users` a 400. `offenders` are the events that a 400 names, `ingested` those that
    `events_ingested` counts. Of `/identify` no page says whether it takes gzip, the form field `options`
    (`identify_min_id_length`), an `insert_id`, a `time` or `$clearAll`, what it does with an array in which
    an item is bad (`bad_item`), and what clears a field: an `empty` text or a `null`. `latency` is in
    seconds. `sink` reads bodies and looks at nothing. `record` remembers every request in memory, `journal`
    appends them to a file. `memory` keeps profiles in memory, and not in a temporary file.
    """

    port: Annotated[int, Field(ge=0, le=65535)] = 0
    api_keys: Names = frozenset()
    secret_keys: Names = frozenset()
    echo_key: bool = False
    max_identifications: Count = MOST_IDENTIFICATIONS
    max_bytes: Count = MOST_IDENTIFY_BYTES
    max_events: Count = MOST_EVENTS
    max_batch_bytes: Count = MOST_BATCH_BYTES
    requests_per_second: _Rate = None
    identifications_per_second: _Rate = None
    reads_per_minute: _Rate = None
    user_updates_per_second: _Rate = None
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
    identify_insert_id: _Taking = "ignore"
    identify_time: _Taking = "ignore"
    clear_all: _Taking = "obey"
    bad_item: Literal["refuses_all", "refused_alone", "skipped"] = "refuses_all"
    cleared_by: Literal["empty", "null"] | None = None
    faults: Annotated[tuple[_Rule, ...], Strict(False), AfterValidator(_check_shares)] = ()
    latency: Seconds = 0.0
    seed: int = 0
    sink: bool = False
    record: bool = False
    memory: bool = False
    journal: Path | None = None

    def changed(self, values: Mapping[str, object]) -> SandboxOptions:
        """Return options with other values, given as JSON has them. Raises SandboxError for a wrong one."""
        changeable = vars(self).keys() - _FIXED
        for name in values.keys() - changeable:
            raise SandboxError(f'"{name}" can\'t be changed', hint=f"give {', '.join(sorted(changeable))}")
        return make_options({**vars(self), **values})

    def as_json(self) -> dict[str, object]:
        """Return the options that can change while the server runs, as JSON values."""
        shown = {name: value for name, value in vars(self).items() if name not in _FIXED}
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


# --- which request meets which fault ---------------------------------------------------------------------

_PAGE: Final = "<!doctype html>\n<html><head><title>{}</title></head><body>{}</body></html>\n"
# Kinds that are a whole answer: its status and its page.
_PAGES: Final[Mapping[str, tuple[int, str]]] = {
    "html": (502, _PAGE.format("502", "<h1>Bad gateway</h1>")),
    "empty": (200, ""),
    "portal": (200, _PAGE.format("Sign in", "<form></form>")),
}


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """The fault that one request meets: `kind` as in FaultRule, and whether the request is applied first."""

    kind: str
    applied: bool

    @property
    def status(self) -> int | None:
        """The status that reaches the client whole; None where none does."""
        if self.kind.isdigit():
            return int(self.kind)
        return 502 if self.kind == "oversized" else _PAGES.get(self.kind, (None,))[0]

    def __str__(self) -> str:
        return f"{self.kind}-{'after' if self.applied else 'before'}"


class FaultInjector:
    """Draws the fault of each request from the seed, the request's digest and how often that one came."""

    def __init__(self, rules: Sequence[FaultRule], seed: int) -> None:
        self._rules = tuple(rules)
        self._seed = seed
        self._tries: Counter[bytes] = Counter()

    def draw(self, digest: bytes) -> InjectedFault | None:
        """Draw the fault that this try of the request meets, or None."""
        if not self._rules:
            return None
        self._tries[digest] += 1
        drawn = blake2b(digest + f"{self._seed} {self._tries[digest]}".encode(), digest_size=9).digest()
        share = int.from_bytes(drawn[:8], "big") / 2**64
        for rule in self._rules:
            share -= rule.probability
            if share < 0:
                after = bool(drawn[8] & 1) if rule.moment == "either" else rule.moment == "after"
                return InjectedFault(rule.kind, after)
        return None


# --- what the client gets --------------------------------------------------------------------------------

OVERSIZED_BYTES: Final = 8 * 2**20
_STALL_CHECK_SECONDS: Final = 0.05
# Closing with this set sends a reset instead of an orderly end.
_NO_LINGER: Final = struct.pack("ii", 1, 0)


def has_hung_up(request: web.Request) -> bool:
    """Whether the client of a request has closed its connection."""
    return request.transport is None or request.transport.is_closing()


async def respond_with_fault(
    request: web.Request, fault: InjectedFault, headers: Mapping[str, str], stopping: asyncio.Event
) -> web.StreamResponse:
    """Answer a request as a fault wants it. `stopping` ends a stall."""
    if fault.kind in _PAGES:
        status, page = _PAGES[fault.kind]
        return web.Response(status=status, text=page, content_type="text/html")
    if fault.kind == "truncate":
        response = web.StreamResponse(headers={"Content-Type": "text/plain", "Content-Length": "7"})
        await response.prepare(request)
        if request.transport is not None and not request.transport.is_closing():
            await response.write(b"succ")
            request.transport.close()
        return response
    if fault.status is not None:
        text = "x" * OVERSIZED_BYTES if fault.kind == "oversized" else f"sandbox fault {fault.kind}"
        return web.Response(status=fault.status, text=text, headers=headers)
    if fault.kind == "stall":
        # Nothing notifies a handler when its client hangs up.
        while not has_hung_up(request) and not stopping.is_set():  # noqa: ASYNC110
            await asyncio.sleep(_STALL_CHECK_SECONDS)
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        request.transport.abort()
    return web.Response()  # goes nowhere; the server wants one
