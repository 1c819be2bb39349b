"""Take HTTP requests to the endpoints and answers back, with the delays and faults that were asked for."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from etl.sandbox.answers import Answer, RequestRefusedError
from etl.sandbox.api_rules import BATCH, HTTP_V2, IDENTIFY, USER_PROFILE
from etl.sandbox.endpoints import Endpoint, IdentifyEndpoint, ParsedRequest, ProfileEndpoint, SandboxState
from etl.sandbox.event_endpoint import EventEndpoint, InsertIdMemory
from etl.sandbox.fault_injection import FaultInjector, InjectedFault, Outage, has_hung_up, respond_with_fault
from etl.sandbox.limiter import Limiter
from etl.sandbox.profiles import NOBODY, Profiles
from etl.sandbox.stats import Journal, OpenRequest, RequestRecord, RequestsInFlight, Stats

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from etl.sandbox.sandbox_options import SandboxOptions

_NOTHING: Final = ParsedRequest()
_UNAPPLIED: Final = Answer(0, "")


@dataclass(frozen=True, slots=True)
class Clocks:
    """`monotonic` and `wall` give seconds; `sleep` waits some."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """What became of a request: its answer, or the fault that stands for it."""

    path: str
    digest: bytes
    size: int
    parsed: ParsedRequest
    answer: Answer
    fault: InjectedFault | None = None

    @property
    def status(self) -> int | None:
        """The status that the client gets, if it gets one."""
        return self.answer.status if self.fault is None else self.fault.status

    @property
    def applied(self) -> bool:
        """Whether the request's identifications are in the profiles."""
        return self.answer.status == 200


class Server:
    """The handlers of Amplitude's paths, and the state they share."""

    def __init__(self, options: SandboxOptions, clocks: Clocks) -> None:
        self.stats = Stats()
        self.outage = Outage(clocks.monotonic)
        self.stopping = asyncio.Event()
        self.journal = Journal(options.journal, keep=lambda: self.options.record)
        self._clocks = clocks
        self._in_flight = RequestsInFlight()
        self._state = self._new_state(options)
        self._endpoints = self._new_endpoints()
        self._injector = FaultInjector(options.faults, options.seed)

    @property
    def options(self) -> SandboxOptions:
        """The options in force."""
        return self._state.options

    @property
    def profiles(self) -> Profiles:
        """The users and devices known by now."""
        return self._state.profiles

    def routes(self) -> list[web.RouteDef]:
        """Amplitude's paths."""
        return [
            *(web.post(path, self.update) for path in self._endpoints),
            web.get(USER_PROFILE, self.profile),
        ]

    def change(self, values: Mapping[str, object]) -> None:
        """Continue with other options, given as JSON has them; limits count anew. Raises SandboxError."""
        options = self.options.changed(values)
        self._state.options = options
        self._state.limiter = Limiter(options, self._clocks.monotonic)
        self._injector = FaultInjector(options.faults, options.seed)

    def reset(self) -> None:
        """Forget every profile, count and record; options and an outage stay."""
        self.stats.reset()
        self.journal.records.clear()
        self._state = self._new_state(self.options)
        self._endpoints = self._new_endpoints()
        self._injector = FaultInjector(self.options.faults, self.options.seed)

    async def update(self, request: web.Request) -> web.StreamResponse:
        """`POST /identify`, `/batch` or `/2/httpapi`."""
        received = self._clocks.wall()
        open_request = self._in_flight.begin(lambda: has_hung_up(request))
        try:
            outcome = await self._handle(request, open_request)
        except (ConnectionError, web.RequestPayloadError):
            return web.Response(status=400)  # the body broke off, so there was no request
        finally:
            self._in_flight.end(open_request)
        self._count(received, outcome)
        return await self._respond(request, outcome.fault, outcome.answer)

    async def profile(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/userprofile`; only an outage lets it fail."""
        self.stats.reads += 1
        try:
            answer = ProfileEndpoint(self._state).answer(
                request.query, request.headers.get("Authorization", "")
            )
        except RequestRefusedError as error:
            answer = error.as_answer()
        return await self._respond(request, self.outage.fault, answer)

    async def _handle(self, request: web.Request, open_request: OpenRequest) -> RequestOutcome:
        path, endpoint = request.path, self._endpoints[request.path]
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            too_large = RequestRefusedError(413, "payload too large")
            return RequestOutcome(path, b"", 0, _NOTHING, endpoint.refuse(too_large))
        wanted = self.options.faults or self.journal.wanted
        digest = hashlib.sha256(body).digest() if wanted else b""
        parsed, refused = _NOTHING, None
        try:
            parsed = await endpoint.parse(request, body)
        except RequestRefusedError as error:
            refused = endpoint.refuse(error)
        users = frozenset(parsed.users) - {NOBODY}
        self.stats.concurrent_users += self._in_flight.set_users(open_request, users)
        # Also without latency: requests that came together are noticed only if all get a turn.
        await self._clocks.sleep(self.options.latency)
        fault = self.outage.fault or self._injector.draw(digest)
        if fault is not None and not fault.applied:
            return RequestOutcome(path, digest, len(body), parsed, _UNAPPLIED, fault)
        if refused is None:
            try:
                refused = self._endpoints[path].take(parsed)
            except RequestRefusedError as error:
                refused = endpoint.refuse(error)
        return RequestOutcome(path, digest, len(body), parsed, refused, fault)

    def _count(self, received: float, outcome: RequestOutcome) -> None:
        fault, status, parsed = outcome.fault, outcome.status, outcome.parsed
        self.stats.requests += 1
        self.stats.accepted += outcome.applied
        self.stats.bytes += outcome.size
        if status is not None:
            self.stats.statuses[status] += 1
        if fault is not None:
            self.stats.faults[str(fault)] += 1
        if self.journal.wanted:
            record = RequestRecord(
                path=outcome.path,
                received=received,
                sha256=outcome.digest.hex(),
                size=outcome.size,
                identifications=len(parsed.identifications),
                users=len(set(parsed.users)),
                status=status,
                applied=outcome.applied,
                fault=None if fault is None else str(fault),
                reason=outcome.answer.reason,
            )
            self.journal.add(record)

    async def _respond(
        self, request: web.Request, fault: InjectedFault | None, answer: Answer
    ) -> web.StreamResponse:
        status, seconds = answer.status if fault is None else fault.status, self.options.retry_after
        headers = {"Retry-After": f"{seconds:g}"} if status == 429 and seconds is not None else {}
        if fault is not None:
            return await respond_with_fault(request, fault, headers, self.stopping)
        content_type = "application/json" if answer.text.startswith("{") else "text/plain"
        return web.Response(
            status=answer.status, text=answer.text, content_type=content_type, headers=headers
        )

    def _new_state(self, options: SandboxOptions) -> SandboxState:
        clock = self._clocks.monotonic
        return SandboxState(options, Limiter(options, clock), self.stats, Profiles(), InsertIdMemory(clock))

    def _new_endpoints(self) -> Mapping[str, Endpoint]:
        return {
            IDENTIFY: IdentifyEndpoint(self._state),
            BATCH: EventEndpoint(BATCH, self._state, self._clocks.wall),
            HTTP_V2: EventEndpoint(HTTP_V2, self._state, self._clocks.wall),
        }
