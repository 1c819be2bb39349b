"""The sandbox's own paths, under `/_sandbox`: show what it holds, and change how it behaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from etl.sandbox.fault_injection import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from etl.sandbox.server import Server


def control_routes(server: Server) -> list[web.RouteDef]:
    """Return the control paths of a server; faults, latency and limits don't touch them."""

    async def change(request: web.Request) -> web.Response:
        try:
            change_behaviour(server, _read_object(await request.read()))
        except SandboxError as error:
            return _json({"error": error.message, "hint": error.hint}, status=400)
        return _json(server.options.as_json())

    async def reset(_: web.Request) -> web.Response:
        server.reset()
        return _json({})

    def show(name: str, read: Callable[[], object]) -> web.RouteDef:
        async def handle(_: web.Request) -> web.Response:
            return _json(read())

        return web.get(f"/_sandbox/{name}", handle)

    return [
        show("stats", server.stats.as_json),
        show("profiles", lambda: server.profiles.as_json()),
        show("requests", lambda: server.journal.records),
        show("faults", lambda: server.options.as_json()),
        web.post("/_sandbox/faults", change),
        web.post("/_sandbox/reset", reset),
    ]


def change_behaviour(server: Server, values: Mapping[str, object]) -> None:
    """Change options by name; nothing changes where one value is wrong. Raises SandboxError.

    `outage` names a fault that all requests meet, for `outage_seconds` if given; None ends it.
    """
    options = {name: value for name, value in values.items() if name not in {"outage", "outage_seconds"}}
    outage, seconds = values.get("outage"), values.get("outage_seconds")
    if not isinstance(outage, str | None) or not isinstance(seconds, int | float | None):
        raise SandboxError("outage takes the name of a fault, outage_seconds a number", hint='such as "503"')
    server.options.changed(options)
    if outage is not None:
        server.outage.begin(outage, seconds)
    elif "outage" in values:
        server.outage.end()
    server.change(options)


def _read_object(body: bytes) -> dict[str, object]:
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SandboxError("the body isn't JSON", hint="send an object of options") from error
    if not isinstance(values, dict):
        raise SandboxError("the body isn't an object", hint="send an object of options")
    return values


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
