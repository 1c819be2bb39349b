"""Puts an answer on the wire - or the broken thing that a fault makes of it."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final

from aiohttp import web

from etl.sandbox.answers import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etl.sandbox.faults import Fault

OVERSIZED_BYTES: Final = 8 * 2**20
_PIECE: Final = b"x" * 2**16
_STALL_CHECK_SECONDS: Final = 0.05
_HTML: Final = (
    "<!doctype html>\n<html><head><title>502</title></head><body><h1>Bad gateway</h1></body></html>\n"
)
_PORTAL: Final = (
    "<!doctype html>\n<html><head><title>Sign in</title></head><body><form></form></body></html>\n"
)
# What a proxy or a portal on the way may answer in place of the server, with a 200.
_SAID_BY_OTHERS: Final = {"empty": "", "portal": _PORTAL}
# Closing with this set sends a reset instead of an orderly end.
_LINGER_NOT: Final = struct.pack("ii", 1, 0)


def has_hung_up(request: web.Request) -> bool:
    """Whether the client of a request has closed its connection."""
    return request.transport is None or request.transport.is_closing()


def respond(answer: Answer, headers: Mapping[str, str]) -> web.Response:
    """Make a response of an answer: JSON where its text is an object."""
    kind = "application/json" if answer.text.startswith("{") else "text/plain"
    return web.Response(status=answer.status, text=answer.text, content_type=kind, headers=headers)


async def deliver_fault(
    request: web.Request, fault: Fault, headers: Mapping[str, str], stopping: asyncio.Event
) -> web.StreamResponse:
    """Answer a request as a fault wants it. `stopping` ends a stall."""
    if fault.status is not None:
        return respond(Answer(fault.status, f"sandbox fault {fault.status}"), headers)
    if fault.kind == "html":
        return web.Response(status=502, text=_HTML, content_type="text/html")
    if fault.kind in _SAID_BY_OTHERS:
        return web.Response(text=_SAID_BY_OTHERS[fault.kind], content_type="text/html")
    if fault.kind == "truncate":
        return await _truncate(request)
    if fault.kind == "oversized":
        return await _send_oversized(request)
    if fault.kind == "stall":
        await _stall(request, stopping)
    return _reset(request)


def answered_status(fault: Fault) -> int | None:
    """Say which status reaches the client whole; None where none does."""
    if fault.kind in _SAID_BY_OTHERS:
        return 200
    return fault.status or (502 if fault.kind in {"html", "oversized"} else None)


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        request.transport.abort()
    return web.Response()  # goes nowhere; the server wants one


async def _stall(request: web.Request, stopping: asyncio.Event) -> None:
    # A handler isn't told when its client hangs up.
    while not has_hung_up(request) and not stopping.is_set():  # noqa: ASYNC110
        await asyncio.sleep(_STALL_CHECK_SECONDS)


async def _truncate(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "7", "Content-Type": "text/plain"})
    await response.prepare(request)
    await response.write(b"succ")
    if request.transport is not None:
        request.transport.close()
    return response


async def _send_oversized(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(status=502, headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    for _ in range(OVERSIZED_BYTES // len(_PIECE)):
        if has_hung_up(request):
            break
        await response.write(_PIECE)
    return response
