"""A server on this machine that stands between a run and Amplitude and says what it is told to."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tests.serving import Reply, serving


def users_of(path: str, body: bytes) -> list[dict[str, Any]]:
    """The identifications or events of a request."""
    if path == "/batch":
        found = json.loads(gzip.decompress(body))["events"]
    else:
        found = json.loads(parse_qs(body.decode(), strict_parsing=True)["identification"][0])
    assert isinstance(found, list)
    return found


def taking(path: str, users: list[dict[str, Any]]) -> Reply:
    """Say that all are accepted."""
    told = json.dumps({"code": 200, "events_ingested": len(users)})
    return 200, told.encode() if path == "/batch" else b"success", {}


@dataclass
class StandIn:
    """Answers each request by `answer(path, users)`; notes when it came, who was in it, and who was taken."""

    answer: Callable[[str, list[dict[str, Any]]], Reply] = taking
    times: list[float] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    url: str = ""

    def says(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Give every request this answer from now on."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = lambda path, users: (status, body, named)

    def reply(self, path: str, body: bytes) -> Reply:
        """Answer a request."""
        self.times.append(time.monotonic())
        users = users_of(path, body)
        reply = self.answer(path, users)
        if reply == taking(path, users):
            self.taken += [user["user_id"] for user in users]
        return reply


@contextmanager
def standing_in() -> Iterator[StandIn]:
    """Run one."""
    stand_in = StandIn()
    with serving(lambda path, _, body: stand_in.reply(path, body)) as stand_in.url:
        yield stand_in


@contextmanager
def failing_handshakes(context: ssl.SSLContext, *, every: int) -> Iterator[StandIn]:
    """A TLS server that answers so many connections, and breaks off the handshake of the next one."""
    stand_in, alert = StandIn(), bytes.fromhex("15 03 03 00 02 02 50")
    listener = socket.create_server(("127.0.0.1", 0))
    stand_in.url = f"https://127.0.0.1:{listener.getsockname()[1]}"

    def serve() -> None:
        count = 0
        with suppress(OSError):  # closed: it is over
            while True:
                connection, _ = listener.accept()
                count += 1
                with connection, suppress(OSError):
                    connection.settimeout(5)
                    if count % every == 0:
                        connection.recv(4096)
                        connection.sendall(alert)
                        continue
                    with context.wrap_socket(connection, server_side=True) as safe:
                        _answer_once(stand_in, safe)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def _answer_once(stand_in: StandIn, connection: ssl.SSLSocket) -> None:
    with connection.makefile("rb") as reader:
        path = reader.readline().split()[1].decode()
        length = 0
        while (line := reader.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        status, text, _ = stand_in.reply(path, reader.read(length))
    head = f"HTTP/1.1 {status} OK\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n"
    connection.sendall(head.encode() + text)
