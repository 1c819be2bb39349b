"""The server of the sandbox: its paths, the delays and faults that were asked for, and the ways to run it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, Self, TypedDict, Unpack

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from .api_rules import BATCH, HTTP_V2, IDENTIFY, USER_PROFILE, Answer, RequestRefusedError
from .endpoints import IdentifyEndpoint, ParsedRequest, SandboxState, find_profile
from .event_endpoint import EventEndpoint
from .profiles import NOBODY, MapStore, Profiles
from .sandbox_options import (
    FaultInjector,
    InjectedFault,
    SandboxError,
    SandboxOptions,
    has_hung_up,
    parse_kind,
    respond_with_fault,
)
from .traffic import InsertIdMemory, Journal, Limiter, OpenRequest, RequestRecord, RequestsInFlight, Stats
from .web_page import Trial, WebPage, refuse_foreign

HOST: Final = "127.0.0.1"
# What is read at all; the sandbox's own limit is below it, and answered in good order.
_READ_BYTES: Final = 64 * 2**20
_SHUTDOWN_SECONDS: Final = 1.0
_DEFAULTS: Final = SandboxOptions()
_UNAPPLIED: Final = Answer(0, "")
# What is not HTTP, or too long for it, is the client's fault: it is answered so, without a trace.
_LOGGER: Final = logging.getLogger(__name__)
_LOGGER.addFilter(lambda record: not isinstance((record.exc_info or ("", ""))[1], HttpProcessingError))


class Clocks(TypedDict, total=False):
    """`clock` (monotonic) drives limits and outages, `wall` stamps the journal, `sleep` makes latency."""

    clock: Callable[[], float]
    wall: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]


class Sandbox:
    """A stand-in for Amplitude on this machine: `async with Sandbox(options) as sandbox: ... sandbox.url`.

    `profiles` has the users and devices known by now, `stats` counts since the start or the last reset. The
    clocks are in seconds. Raises SandboxError where the port is taken or the journal can't be opened.
    """

    def __init__(self, options: SandboxOptions = _DEFAULTS, **clocks: Unpack[Clocks]) -> None:
        self._clock, self._wall = clocks.get("clock", time.monotonic), clocks.get("wall", time.time)
        self._sleep = clocks.get("sleep", asyncio.sleep)
        self._outage: InjectedFault | None = None
        self._outage_ends = math.inf
        self.stopping = asyncio.Event()
        self.journal = Journal(options.journal)
        self.trial: Trial | None = None  # what `propsync try` shows on the page
        self._in_flight = RequestsInFlight()
        self._runner: web.AppRunner | None = None
        self._port = options.port
        self._begin(options)

    def _begin(self, options: SandboxOptions) -> None:
        """Begin without any profile and count."""
        store, limiter = MapStore(memory=options.memory), Limiter(options, self._clock)
        self.stats, self.profiles = Stats(), Profiles(store, self._wall)
        inserts = InsertIdMemory(self._clock, store)
        self._state = SandboxState(options, limiter, self.stats, self.profiles, inserts)
        self._injector = FaultInjector(options.faults, options.seed)
        self._endpoints: dict[str, IdentifyEndpoint | EventEndpoint] = {
            IDENTIFY: IdentifyEndpoint(self._state),
            BATCH: EventEndpoint(BATCH, self._state, self._wall),
            HTTP_V2: EventEndpoint(HTTP_V2, self._state, self._wall),
        }

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_READ_BYTES, middlewares=[refuse_foreign])
        app.add_routes(
            [
                *(web.post(path, self.update) for path in self._endpoints),
                web.get(USER_PROFILE, self.profile),
                web.get("/_sandbox/{name}", self.show),
                web.post("/_sandbox/faults", self.change_options),
                web.post("/_sandbox/reset", self.forget),
                *WebPage(self).routes(),
            ]
        )
        # A compressed body stays compressed until its path opens it, within bounds or not at all.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_LOGGER,
            auto_decompress=False,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, HOST, self._port).start()
        except OSError as error:
            await self.__aexit__()
            message = f"port {self._port} can't be had on {HOST}: {error.strerror or error}"
            raise SandboxError(message, hint="choose another --port, or 0 for a free one") from error
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
        self.journal.close()

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://{HOST}:{self._port}"

    @property
    def options(self) -> SandboxOptions:
        """The options in force."""
        return self._state.options

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The requests with updates answered by now; empty unless the options have `record`."""
        return tuple(self.journal.records)

    def begin_outage(self, kind: str = "reset-before", *, seconds: float | None = None) -> None:
        """Let all requests meet a fault such as `503`, for a while or until `end_outage`.

        None of them is applied unless the kind ends in -after. Raises SandboxError.
        """
        word, moment = parse_kind(kind)
        self._outage = InjectedFault(word, moment == "after")
        self._outage_ends = math.inf if seconds is None else self._clock() + seconds

    def end_outage(self) -> None:
        """Let requests through again."""
        self._outage = None

    @property
    def outage(self) -> InjectedFault | None:
        """The fault that every request meets at present, or None."""
        return self._outage if self._clock() < self._outage_ends else None

    def change(self, **values: object) -> None:
        """Change options by name; limits count anew, and nothing changes if one value is wrong.

        `outage` names a fault that all requests meet, for `outage_seconds` if given; None ends it. Raises
        SandboxError.
        """
        about_outage = {name: values.pop(name) for name in ("outage", "outage_seconds") if name in values}
        options = self.options.changed(values)
        outage, seconds = about_outage.get("outage"), about_outage.get("outage_seconds")
        if not isinstance(outage, str | None) or not isinstance(seconds, int | float | None):
            hint = 'such as "503"'
            raise SandboxError("outage takes the name of a fault, outage_seconds a number", hint=hint)
        if outage is not None:
            self.begin_outage(outage, seconds=seconds)
        elif "outage" in about_outage:
            self.end_outage()
        self._state.options = options
        self._state.limiter = Limiter(options, self._clock)
        self._injector = FaultInjector(options.faults, options.seed)

    def reset(self) -> None:
        """Forget every profile, count and record; options and an outage stay."""
        self.journal.records.clear()
        self.journal.recent.clear()
        self._begin(self.options)

    # --- Amplitude's paths ---

    async def update(self, request: web.Request) -> web.StreamResponse:
        """`POST /identify`, `/batch` or `/2/httpapi`."""
        open_request = self._in_flight.begin(lambda: has_hung_up(request))
        try:
            record, answer, fault = await self._handle(request, open_request, self._wall())
        except (ConnectionError, web.RequestPayloadError):
            return web.Response(status=400)  # the body broke off, so there was no request
        finally:
            self._in_flight.end(open_request)
        self.stats.count(record)
        self.journal.add(record, keep=self.options.record)
        return await self._respond(request, fault, answer)

    async def profile(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/userprofile`; only an outage lets it fail."""
        self.stats.reads += 1
        try:
            answer = find_profile(self._state, request.query, request.headers.get("Authorization", ""))
        except RequestRefusedError as error:
            answer = error.as_answer()
        return await self._respond(request, self.outage, answer)

    async def _handle(
        self, request: web.Request, open_request: OpenRequest, received: float
    ) -> tuple[RequestRecord, Answer, InjectedFault | None]:
        """Answer a request with updates; where it meets a fault, that stands for the answer."""
        body, digest, parsed = b"", b"", ParsedRequest()
        answer: Answer | None = None
        fault = None
        endpoint = self._endpoints[request.path]
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            answer = endpoint.refuse(RequestRefusedError(413, "payload too large"))
        else:
            if self.options.faults or self.options.record or self.options.journal:
                digest = hashlib.sha256(body).digest()
            try:
                parsed = endpoint.parse(request, body)
            except RequestRefusedError as error:
                answer = endpoint.refuse(error)
            users = frozenset(parsed.users) - {NOBODY}
            self.stats.concurrent_users += self._in_flight.set_users(open_request, users)
            # Also without latency: requests that came together are noticed only if all get a turn.
            await self._sleep(self.options.latency)
            fault = self.outage or self._injector.draw(digest)
            if fault is not None and not fault.applied:
                answer = _UNAPPLIED
            if answer is None:
                try:
                    answer = self._endpoints[request.path].take(parsed)
                except RequestRefusedError as error:
                    answer = endpoint.refuse(error)
        record = RequestRecord(
            path=request.path,
            received=received,
            sha256=digest.hex(),
            size=len(body),
            identifications=len(parsed.identifications),
            users=len(set(parsed.users)),
            status=answer.status if fault is None else fault.status,
            applied=answer.status == 200,
            fault=None if fault is None else str(fault),
            reason=answer.reason,
        )
        return record, answer, fault

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
            "stats": lambda: self.stats,
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


def _json(value: object, *, status: int = 200) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    return web.Response(body=body, status=status, content_type="application/json")


@contextmanager
def running_sandbox(options: SandboxOptions = _DEFAULTS, **clocks: Unpack[Clocks]) -> Iterator[Sandbox]:
    """Run a Sandbox in a thread, for callers without an event loop, until the end of the block."""
    sandbox = Sandbox(options, **clocks)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sandbox", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(sandbox.__aenter__(), loop).result()
        try:
            yield sandbox
        finally:
            asyncio.run_coroutine_threadsafe(sandbox.__aexit__(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def serve(options: SandboxOptions, *, ready: Callable[[str], None]) -> None:
    """Run until cancelled, interrupted or terminated; `ready` gets the base URL once requests are taken."""
    stop = asyncio.Event()
    async with Sandbox(options) as sandbox:
        for number in (signal.SIGINT, signal.SIGTERM):  # until the loop is closed
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        ready(sandbox.url)
        await stop.wait()
