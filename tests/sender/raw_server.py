"""A server on this machine that answers each connection with given bytes, as raw as need be."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Raw:
    """What is sent back, and what came in.

    `greeting` is sent as soon as somebody connects, `answer` after `hold` seconds, `endless` for ever after.
    """

    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsuccess"
    greeting: bytes = b""
    hold: float = 0.0
    endless: bytes = b""
    requests: list[bytes] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.write(self.greeting)
            head = await reader.readuntil(b"\r\n\r\n")
            size = next(
                (
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if b"content-length" in line
                ),
                0,
            )
            self.requests.append(head + await reader.readexactly(size))
            await asyncio.sleep(self.hold)
            writer.write(self.answer)
            while self.endless:
                writer.write(self.endless)
                await writer.drain()
            await writer.drain()
        writer.close()


@asynccontextmanager
async def answering(raw: Raw, context: ssl.SSLContext | None = None) -> AsyncIterator[Raw]:
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    raw.url = f"{'https' if context else 'http'}://127.0.0.1:{port}"
    try:
        yield raw
    finally:
        server.close()


def status(line: str, body: bytes = b"", *headers: str) -> bytes:
    """A whole answer."""
    head = "\r\n".join([f"HTTP/1.1 {line}", f"Content-Length: {len(body)}", *headers, "", ""])
    return head.encode() + body
