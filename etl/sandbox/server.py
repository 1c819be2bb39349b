"""Take HTTP requests to the endpoints and answers back, with the delays and faults that were asked for."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson
from aiohttp import web

from .api_rules import BATCH, HTTP_V2, IDENTIFY, USER_PROFILE
from .checks import Answer, RequestRefusedError
from .endpoints import IdentifyEndpoint, ParsedRequest, SandboxState, find_profile
from .event_endpoint import EventEndpoint, InsertIdMemory
from .fault_injection import (
    FaultInjector,
    InjectedFault,
    Outage,
    SandboxError,
    has_hung_up,
    respond_with_fault,
)
from .limiter import Limiter
from .profiles import NOBODY, Profiles
from .stats import Journal, OpenRequest, RequestRecord, RequestsInFlight, Stats

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .sandbox_options import SandboxOptions

Endpoint: TypeAlias = IdentifyEndpoint | EventEndpoint
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
    """The outcome of a request: its answer, or the fault that stands for it."""

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
    """The handlers of all paths, and the state they share."""

    def __init__(self, options: SandboxOptions, clocks: Clocks) -> None:
        self.stats = Stats()
        self.outage = Outage(clocks.monotonic)
        self.stopping = asyncio.Event()
        self.journal = Journal(options.journal, keep=lambda: self.options.record)
        self._clocks = clocks
        self._in_flight = RequestsInFlight()
        self._begin(options)

    def _begin(self, options: SandboxOptions) -> None:
        """Begin without any profile; the counts go on."""
        clock = self._clocks.monotonic
        limiter, inserts = Limiter(options, clock), InsertIdMemory(clock)
        self._state = SandboxState(options, limiter, self.stats, Profiles(), inserts)
        self._injector = FaultInjector(options.faults, options.seed)
        self._endpoints: dict[str, Endpoint] = {
            IDENTIFY: IdentifyEndpoint(self._state),
            BATCH: EventEndpoint(BATCH, self._state, self._clocks.wall),
            HTTP_V2: EventEndpoint(HTTP_V2, self._state, self._clocks.wall),
        }

    @property
    def options(self) -> SandboxOptions:
        """The options in force."""
        return self._state.options

    @property
    def profiles(self) -> Profiles:
        """The users and devices known by now."""
        return self._state.profiles

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The requests with updates answered by now; empty unless the options have `record`."""
        return tuple(self.journal.records)

    def change(self, **values: object) -> None:
        """Change options by name; limits count anew, and nothing changes if one value is wrong.

        `outage` names a fault that all requests meet, for `outage_seconds` if given; None ends it.
        Raises SandboxError.
        """
        options = self.options.changed(
            {name: value for name, value in values.items() if name not in {"outage", "outage_seconds"}}
        )
        outage, seconds = values.get("outage"), values.get("outage_seconds")
        if not isinstance(outage, str | None) or not isinstance(seconds, int | float | None):
            hint = 'such as "503"'
            raise SandboxError("outage takes the name of a fault, outage_seconds a number", hint=hint)
        if outage is not None:
            self.outage.begin(outage, seconds)
        elif "outage" in values:
            self.outage.end()
        self._state.options = options
        self._state.limiter = Limiter(options, self._clocks.monotonic)
        self._injector = FaultInjector(options.faults, options.seed)

    def reset(self) -> None:
        """Forget every profile, count and record; options and an outage stay."""
        self.stats.reset()
        self.journal.records.clear()
        self._begin(self.options)

    # --- Amplitude's paths ---

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
            answer = find_profile(self._state, request.query, request.headers.get("Authorization", ""))
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
        parsed, answer = _NOTHING, None
        try:
            parsed = await endpoint.parse(request, body)
        except RequestRefusedError as error:
            answer = endpoint.refuse(error)
        users = frozenset(parsed.users) - {NOBODY}
        self.stats.concurrent_users += self._in_flight.set_users(open_request, users)
        # Also without latency: requests that came together are noticed only if all get a turn.
        await self._clocks.sleep(self.options.latency)
        fault = self.outage.fault or self._injector.draw(digest)
        if fault is not None and not fault.applied:
            answer = _UNAPPLIED
        if answer is None:
            try:
                answer = self._endpoints[path].take(parsed)
            except RequestRefusedError as error:
                answer = endpoint.refuse(error)
        return RequestOutcome(path, digest, len(body), parsed, answer, fault)

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
        kind = "application/json" if answer.text.startswith("{") else "text/plain"
        return web.Response(status=answer.status, text=answer.text, content_type=kind, headers=headers)

    # --- the sandbox's own paths, which faults, latency and limits don't touch ---

    async def show(self, request: web.Request) -> web.Response:
        """`GET /_sandbox/stats`, `profiles`, `requests` or `faults`: what the sandbox holds."""
        shown: dict[str, Callable[[], object]] = {
            "stats": self.stats.as_json,
            "profiles": self.profiles.as_json,
            "requests": lambda: self.journal.records,
            "faults": self.options.as_json,
        }
        name = request.match_info["name"]
        if name not in shown:
            raise web.HTTPNotFound
        return _json(shown[name]())

    async def change_options(self, request: web.Request) -> web.Response:
        """`POST /_sandbox/faults`: change how the sandbox behaves."""
        error, hint = "the body isn't an object", "send an object of options"
        try:
            values = orjson.loads(await request.read())
            if isinstance(values, dict):
                self.change(**values)
                return _json(self.options.as_json())
        except orjson.JSONDecodeError:
            error = "the body isn't JSON"
        except SandboxError as wrong:
            error, hint = wrong.message, wrong.hint
        return _json({"error": error, "hint": hint}, status=400)

    async def forget(self, _: web.Request) -> web.Response:
        """`POST /_sandbox/reset`."""
        self.reset()
        return _json({})

    def routes(self) -> list[web.RouteDef]:
        """All paths."""
        return [
            *(web.post(path, self.update) for path in self._endpoints),
            web.get(USER_PROFILE, self.profile),
            web.get("/_sandbox/{name}", self.show),
            web.post("/_sandbox/faults", self.change_options),
            web.post("/_sandbox/reset", self.forget),
        ]


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
