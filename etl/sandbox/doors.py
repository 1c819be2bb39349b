"""The paths that take updates, and how each reads a request, takes it, and words a refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from etl.sandbox.answers import Answer, Order, json_refusal, refusal
from etl.sandbox.checks import RequestRefusedError
from etl.sandbox.forms import read_form
from etl.sandbox.uploads import parse_upload, unpack

if TYPE_CHECKING:
    from aiohttp import web

    from etl.sandbox.events import EventsService
    from etl.sandbox.options import SandboxOptions
    from etl.sandbox.service import IdentifyService

NOTHING: Final = Order("", [], ())
# A quote inside a JSON string is escaped, so this is never part of one.
_EVENT_MARK: Final = '"event_type":'


class Door(Protocol):
    """One path. `read` and `take` raise RequestRefusedError; `too_big` answers what was never read whole."""

    too_big: Answer

    async def read(self, request: web.Request, body: bytes) -> Order:
        """Read what a request whose body is read asks for."""

    def take(self, order: Order) -> Answer:
        """Check it and apply it."""

    def refuse(self, error: RequestRefusedError) -> Answer:
        """Word a refusal as the path does."""


class IdentifyDoor:
    """`/identify`: a form, as large as it came."""

    too_big: Answer = Answer(413, "payload too large", "payload too large")

    def __init__(self, service: IdentifyService, options: SandboxOptions) -> None:
        self._service = service
        self._options = options

    async def read(self, request: web.Request, body: bytes) -> Order:
        """Read the form."""
        if len(body) > self._options.max_bytes:
            raise RequestRefusedError(413, self.too_big.text)
        return NOTHING if self._options.sink else self._service.read(await read_form(request))

    def take(self, order: Order) -> Answer:
        """Check all identifications and apply them."""
        return self._service.take(order)

    def refuse(self, error: RequestRefusedError) -> Answer:
        """Say it in JSON or in bare words."""
        return self.too_big if error.words == self.too_big.text else refusal(error)


class EventsDoor:
    """`/batch` and `/2/httpapi`: JSON of at most `most` bytes once it is unpacked."""

    too_big: Answer = json_refusal(RequestRefusedError(413, "payload too large"))

    def __init__(self, service: EventsService, options: SandboxOptions, most: int) -> None:
        self._service = service
        self._options = options
        self._most = most

    async def read(self, request: web.Request, body: bytes) -> Order:
        """Read the JSON."""
        text = unpack(body, request.headers.get("Content-Encoding", ""), self._most)
        if self._options.sink:
            return Order(text, [], ())
        return self._service.read(text, parse_upload(text, request.content_type))

    def take(self, order: Order) -> Answer:
        """Check all events and apply them; a sink only counts them."""
        if self._options.sink:
            return self._service.success(order.text.count(_EVENT_MARK), order.text)
        return self._service.take(order)

    def refuse(self, error: RequestRefusedError) -> Answer:
        """Say it in JSON."""
        return json_refusal(error)
