"""Takes HTTP requests to the service and its answers back, with the delays and faults that were asked for."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from etl.amplitude import BATCH_PATH, IDENTIFY_PATH
from etl.sandbox.answers import Answer, Order, refusal
from etl.sandbox.applying import Applier
from etl.sandbox.checks import RequestRefusedError
from etl.sandbox.delivery import answered_status, deliver_fault, has_hung_up, respond
from etl.sandbox.doors import NOTHING, Door, EventsDoor, IdentifyDoor
from etl.sandbox.events import EventsService
from etl.sandbox.faults import Dice, Fault, Outage
from etl.sandbox.flights import NOBODY, Flight, Flights
from etl.sandbox.gate import Gate
from etl.sandbox.inserts import InsertIds
from etl.sandbox.profiles import Profiles
from etl.sandbox.service import IdentifyService, ProfileService
from etl.sandbox.stats import Entry, Journal, Stats

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from etl.sandbox.options import SandboxOptions

PROFILE_PATH = "/v1/userprofile"
HTTP_V2_PATH = "/2/httpapi"
# Events a second of one user.
_BATCH_THRESHOLD = 1000
_HTTP_V2_THRESHOLD = 30


@dataclass(frozen=True, slots=True)
class Clocks:
    """`monotonic` and `wall` give seconds; `sleep` waits some."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: its answer, or the fault that stands for it."""

    path: str
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
        posts = [web.post(path, self.update) for path in self._doors]
        return [*posts, web.get(PROFILE_PATH, self.profile)]

    def change(self, values: Mapping[str, object]) -> None:
        """Go on with other options, given as JSON has them; limits count anew. Raises UsageError."""
        self.options = self.options.changed(values)
        self._follow_options()

    def reset(self) -> None:
        """Forget every profile, count and entry; options and an outage stay."""
        self.stats.reset()
        self.journal.entries.clear()
        self.profiles = Profiles()
        self._inserts = InsertIds(self._clocks.monotonic)
        self._follow_options()

    async def update(self, request: web.Request) -> web.StreamResponse:
        """`POST /identify`, `/batch` or `/2/httpapi`."""
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
            answer = self._profile.answer(request.query, request.headers.get("Authorization", ""))
        except RequestRefusedError as error:
            answer = refusal(error)
        return respond(answer, self._headers(answer.status))

    async def _handle(self, request: web.Request, flight: Flight) -> Outcome:
        path = request.path
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return Outcome(path, b"", 0, NOTHING, self._doors[path].too_big)
        digest = self._digest(body)
        order, refused = await self._read(request, body)
        users = frozenset(order.users) - {NOBODY}
        self.stats.concurrent_users += self._flights.board(flight, users)
        # Also without latency: requests that came together are noticed only if all get a turn.
        await self._clocks.sleep(self.options.latency)
        fault = self.outage.fault or self._dice.draw(digest)
        if fault is not None and not fault.applied:
            return Outcome(path, digest, len(body), order, _UNAPPLIED, fault)
        return Outcome(path, digest, len(body), order, refused or self._take(path, order), fault)

    async def _read(self, request: web.Request, body: bytes) -> tuple[Order, Answer | None]:
        door = self._doors[request.path]
        try:
            return await door.read(request, body), None
        except RequestRefusedError as error:
            return NOTHING, door.refuse(error)

    def _take(self, path: str, order: Order) -> Answer:
        # Options may have changed since the order was read.
        door = self._doors[path]
        try:
            return door.take(order)
        except RequestRefusedError as error:
            return door.refuse(error)

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
        gate = Gate(self.options, self._clocks.monotonic)
        self._doors = self._make_doors(gate, Applier(self.profiles, gate, self.stats))
        self._profile = ProfileService(self.profiles, gate)
        self._dice = Dice(self.options.faults, self.options.seed)

    def _make_doors(self, gate: Gate, applier: Applier) -> Mapping[str, Door]:
        options = self.options

        def events(most: int, eps_threshold: int) -> EventsDoor:
            service = EventsService(
                options,
                self.profiles,
                self.stats,
                gate,
                applier,
                self._inserts,
                eps_threshold=eps_threshold,
                wall=self._clocks.wall,
            )
            return EventsDoor(service, options, most)

        identify = IdentifyService(options, self.profiles, self.stats, gate, applier)
        return {
            IDENTIFY_PATH: IdentifyDoor(identify, options),
            BATCH_PATH: events(options.max_batch_bytes, _BATCH_THRESHOLD),
            HTTP_V2_PATH: events(options.max_bytes, _HTTP_V2_THRESHOLD),
        }


def _entry(received: float, outcome: Outcome) -> Entry:
    return Entry(
        path=outcome.path,
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
