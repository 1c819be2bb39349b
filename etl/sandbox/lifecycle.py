"""Run the sandbox: in a program's event loop, in a thread of its own, or until it is interrupted."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web

from .fault_injection import SandboxError
from .sandbox_options import SandboxOptions
from .server import Clocks, Server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

HOST: Final = "127.0.0.1"
# What is read at all; the sandbox's own limit is below it, and answered in good order.
_READ_BYTES = 64 * 2**20
_DEFAULTS = SandboxOptions()
_SHUTDOWN_SECONDS = 1.0


class Sandbox(Server):
    """A stand-in for Amplitude on this machine: `async with Sandbox(options) as sandbox: ... sandbox.url`.

    `clock` (monotonic) drives limits and outages, `wall` stamps the journal and `sleep` makes latency;
    all in seconds. Raises SandboxError where the port is taken or the journal can't be opened.
    """

    def __init__(
        self,
        options: SandboxOptions = _DEFAULTS,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        super().__init__(options, Clocks(clock, wall, sleep))
        self._runner: web.AppRunner | None = None
        self._port = options.port

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_READ_BYTES)
        app.add_routes(self.routes())
        # A compressed body stays compressed until its path opens it, within bounds or not at all.
        self._runner = web.AppRunner(
            app, access_log=None, auto_decompress=False, shutdown_timeout=_SHUTDOWN_SECONDS
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

    def begin_outage(self, kind: str = "reset-before", *, seconds: float | None = None) -> None:
        """Let all requests meet a fault such as `503`, for a while or until `end_outage`."""
        self.outage.begin(kind, seconds)

    def end_outage(self) -> None:
        """Let requests through again."""
        self.outage.end()


@contextmanager
def running_sandbox(
    options: SandboxOptions = _DEFAULTS,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> Iterator[Sandbox]:
    """Run a Sandbox in a thread, for callers without an event loop, until the end of the block."""

    async def enter() -> Sandbox:
        return await Sandbox(options, clock=clock, wall=wall, sleep=sleep).__aenter__()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sandbox", daemon=True)
    thread.start()
    try:
        sandbox = asyncio.run_coroutine_threadsafe(enter(), loop).result()
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
    loop = asyncio.get_running_loop()
    async with Sandbox(options) as sandbox:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        try:
            ready(sandbox.url)
            await stop.wait()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
