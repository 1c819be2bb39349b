"""Takes HTTP requests to the service and its answers back, with the delays and faults that were asked for."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from etl.amplitude import IDENTIFY_PATH
from etl.sandbox.checks import RequestRefusedError
from etl.sandbox.delivery import answered_status, deliver_fault, has_hung_up, respond
from etl.sandbox.faults import Dice, Fault, Outage
from etl.sandbox.flights import NOBODY, Flight, Flights
from etl.sandbox.forms import read_form
from etl.sandbox.profiles import Profiles
from etl.sandbox.service import Answer, Order, Service, refusal
from etl.sandbox.stats import Entry, Journal, Stats

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from etl.sandbox.options import SandboxOptions

PROFILE_PATH = "/v1/userprofile"


@dataclass(frozen=True, slots=True)
class Clocks:
    """`monotonic` and `wall` give seconds; `sleep` waits some."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: its answer, or the fault that stands for it."""

    digest: bytes
    size: int
    order: Order
    answer: Answer
    fault: Fault | None = None

    @property
    def status(self) -> int | None:
        """The status that the client gets, if it gets one."""
        return self.answer.status if self.fault is None else answered_status(self.fault)

    @property
    def applied(self) -> bool:
        """Whether the request's identifications are in the profiles."""
        return self.answer.status == 200


_UNAPPLIED = Answer(0, "")
_NOTHING = Order("", [], ())
_TOO_BIG = Answer(413, "payload too large", "payload too large")


class Server:
    """The handlers of Amplitude's paths, and the state they share."""

    def __init__(self, options: SandboxOptions, clocks: Clocks) -> None:
        self.options = options
        self.stats = Stats()
        self.outage = Outage(clocks.monotonic)
        self.stopping = asyncio.Event()
        self.journal = Journal(options.journal, keep=lambda: self.options.record)
        self._clocks = clocks
        self._flights = Flights()
        self.reset()

    def routes(self) -> list[web.RouteDef]:
        """Amplitude's paths."""
        return [web.post(IDENTIFY_PATH, self.identify), web.get(PROFILE_PATH, self.profile)]

    def change(self, values: Mapping[str, object]) -> None:
        """Go on with other options, given as JSON has them; limits count anew. Raises UsageError."""
        self.options = self.options.changed(values)
        self._follow_options()

    def reset(self) -> None:
        """Forget every profile, count and entry; options and an outage stay."""
        self.stats.reset()
        self.journal.entries.clear()
        self.profiles = Profiles()
        self._follow_options()

    async def identify(self, request: web.Request) -> web.StreamResponse:
        """`POST /identify`."""
        received = self._clocks.wall()
        flight = self._flights.begin(lambda: has_hung_up(request))
        try:
            outcome = await self._handle(request, flight)
        except (ConnectionError, web.RequestPayloadError):
            return web.Response(status=400)  # the body broke off, so there was no request
        finally:
            self._flights.end(flight)
        self._note(received, outcome)
        if outcome.fault is not None:
            return await deliver_fault(request, outcome.fault, self._headers(outcome.status), self.stopping)
        return respond(outcome.answer, self._headers(outcome.status))

    async def profile(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/userprofile`."""
        self.stats.reads += 1
        if self.outage.fault is not None:
            fault = self.outage.fault
            return await deliver_fault(request, fault, self._headers(fault.status), self.stopping)
        try:
            answer = self._service.profile(request.query, request.headers.get("Authorization", ""))
        except RequestRefusedError as error:
            answer = refusal(error)
        return respond(answer, self._headers(answer.status))

    async def _handle(self, request: web.Request, flight: Flight) -> Outcome:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return Outcome(b"", 0, _NOTHING, _TOO_BIG)
        digest = self._digest(body)
        order, refused = await self._read(request, len(body))
        users = frozenset(order.users) - {NOBODY}
        self.stats.concurrent_users += self._flights.board(flight, users)
        # Also without latency: requests that came together are noticed only if all get a turn.
        await self._clocks.sleep(self.options.latency)
        fault = self.outage.fault or self._dice.draw(digest)
        if fault is not None and not fault.applied:
            return Outcome(digest, len(body), order, _UNAPPLIED, fault)
        return Outcome(digest, len(body), order, refused or self._take(order), fault)

    async def _read(self, request: web.Request, size: int) -> tuple[Order, Answer | None]:
        if size > self.options.max_bytes:
            return _NOTHING, _TOO_BIG
        if self.options.sink:
            return _NOTHING, None
        try:
            return self._service.read(await read_form(request)), None
        except RequestRefusedError as error:
            return _NOTHING, refusal(error)

    def _take(self, order: Order) -> Answer:
        try:
            return self._service.take(order)
        except RequestRefusedError as error:
            return refusal(error)

    def _digest(self, body: bytes) -> bytes:
        wanted = self.options.faults or self.journal.wanted
        return hashlib.sha256(body).digest() if wanted else b""

    def _note(self, received: float, outcome: Outcome) -> None:
        fault, status = outcome.fault, outcome.status
        self.stats.requests += 1
        self.stats.accepted += outcome.applied
        self.stats.bytes += outcome.size
        if status is not None:
            self.stats.statuses[status] += 1
        if fault is not None:
            self.stats.faults[str(fault)] += 1
        if self.journal.wanted:
            self.journal.add(_entry(received, outcome))

    def _headers(self, status: int | None) -> dict[str, str]:
        seconds = self.options.retry_after
        return {"Retry-After": f"{seconds:g}"} if status == 429 and seconds is not None else {}

    def _follow_options(self) -> None:
        self._service = Service(self.options, self.profiles, self.stats, self._clocks.monotonic)
        self._dice = Dice(self.options.faults, self.options.seed)


def _entry(received: float, outcome: Outcome) -> Entry:
    return Entry(
        received=received,
        sha256=outcome.digest.hex(),
        size=outcome.size,
        identifications=len(outcome.order.identifications),
        users=len(set(outcome.order.users)),
        status=outcome.status,
        applied=outcome.applied,
        fault=None if outcome.fault is None else str(outcome.fault),
        reason=outcome.answer.reason,
    )
