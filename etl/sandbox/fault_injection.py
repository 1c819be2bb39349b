"""Faults on purpose: which request meets which, and what the client then gets.

The same seed and the same requests meet the same faults, in any order.
"""

from __future__ import annotations

import asyncio
import math
import re
import socket
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal, TypeAlias

from aiohttp import web

Moment: TypeAlias = Literal["before", "after", "either"]

# Kinds that aren't a status, each with the moment it strikes by default: before the request is applied,
# after it, or either.
FAULT_KINDS: Final[Mapping[str, Moment]] = {
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

OVERSIZED_BYTES: Final = 8 * 2**20
_STALL_CHECK_SECONDS: Final = 0.05
_PAGE: Final = "<!doctype html>\n<html><head><title>{}</title></head><body>{}</body></html>\n"
# Kinds that are a whole answer: its status and its page.
_PAGES: Final[Mapping[str, tuple[int, str]]] = {
    "html": (502, _PAGE.format("502", "<h1>Bad gateway</h1>")),
    "empty": (200, ""),
    "portal": (200, _PAGE.format("Sign in", "<form></form>")),
}
# Closing with this set sends a reset instead of an orderly end.
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class SandboxError(ValueError):
    """The sandbox can't be had as asked: a wrong option, a taken port, a journal that can't be opened."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class FaultRule:
    """A kind of fault and its share of requests; `kind` is a status from 400 to 599 or one of FAULT_KINDS."""

    kind: str
    moment: Moment
    probability: float

    def __str__(self) -> str:
        moment = "" if self.moment == _usual_moment(self.kind) else f"-{self.moment}"
        return f"{self.kind}{moment}:{self.probability:g}"


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """What happens to one request: `kind` as in FaultRule, and whether the request is applied first."""

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


def parse_kind(text: str) -> tuple[str, Moment]:
    """Read the part of a fault before the colon. Raises SandboxError."""
    found = _NAME.fullmatch(text)
    if found is None or not (found["kind"].isdigit() or found["kind"] in FAULT_KINDS):
        kinds = ", ".join(FAULT_KINDS)
        hint = f"give a status from 400 to 599, or one of {kinds}; -before or -after may follow"
        raise SandboxError(f'there is no fault "{text}"', hint=hint)
    moment: Moment = "after" if found["moment"] == "after" else "before"
    return found["kind"], moment if found["moment"] else _usual_moment(found["kind"])


def _usual_moment(kind: str) -> Moment:
    if kind.isdigit():
        return "either" if int(kind) in _AMBIGUOUS_STATUSES else "before"
    return FAULT_KINDS[kind]


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
        nth = self._tries[digest]
        drawn = blake2b(digest + f"{self._seed} {nth}".encode(), digest_size=9).digest()
        share = int.from_bytes(drawn[:8], "big") / 2**64
        for rule in self._rules:
            share -= rule.probability
            if share < 0:
                after = bool(drawn[8] & 1) if rule.moment == "either" else rule.moment == "after"
                return InjectedFault(rule.kind, after)
        return None


# --- what the client gets --------------------------------------------------------------------------------


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
