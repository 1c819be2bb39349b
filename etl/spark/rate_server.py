"""One rate for all tasks of a write: a small server on Spark's driver that books for each of them.

A task sends a secret word, then for each request a line with the number of identifications; the answer is a
line with the seconds to wait. The server is a process of its own, since Spark makes and commits a writer in
two processes. It ends at the line `stop`, or with the process that started the first of them.
"""

from __future__ import annotations

import os
import secrets
import socket
import socketserver
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from ..sender import Clock, RateLimiter

_STOP: Final = b"stop\n"
_TIMEOUT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class RateAddress:
    """Where the server of a write is reached; `word` is its secret."""

    host: str
    port: int
    word: str = field(repr=False)

    def connect(self) -> socket.socket:
        """Open a connection. Raises OSError."""
        try:
            connection = socket.create_connection((self.host, self.port), _TIMEOUT_SECONDS)
            connection.sendall(self.word.encode() + b"\n")
        except OSError as error:
            message = f"the rate server on Spark's driver, {self.host}:{self.port}, can't be reached: {error}"
            raise ConnectionError(message) from error
        return connection

    def stop(self) -> None:
        """End the server, if it still runs."""
        with suppress(OSError), self.connect() as connection:
            connection.sendall(_STOP)
            connection.recv(1)  # until it has ended


class SharedRate(RateLimiter):
    """A task's view of the rate: every request is booked at the driver."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(None, Clock())
        self._connection, self._answers = connection, connection.makefile("r")

    def book(self, amount: int) -> float:
        """Book `amount` identifications in one request; the seconds to wait. Raises OSError."""
        self._connection.sendall(b"%d\n" % amount)
        answer = self._answers.readline()
        if not answer:
            raise ConnectionError("the rate server on Spark's driver has ended")
        return float(answer)


def start_rate_server(
    rate: float | None, requests_per_second: float | None, bind: str, host: str, parent: int | None = None
) -> RateAddress:
    """Start the server; it listens on `bind` and is reached at `host`. None means no limit.

    It ends with the process `parent`; None: that which started this one. Raises OSError.
    """
    word = secrets.token_hex(16)
    numbers = rate or 0, requests_per_second or 0, parent or os.getppid()
    server = subprocess.Popen(  # noqa: S603 - this program itself
        [sys.executable, "-c", f"from {__name__} import serve_rate; serve_rate()", *map(str, numbers), bind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    assert server.stdin is not None and server.stdout is not None  # noqa: S101, PT018 - they are pipes
    with server.stdin, server.stdout:
        server.stdin.write(word.encode() + b"\n")  # not an argument: others can read those
        server.stdin.flush()
        port = server.stdout.readline()
    if not port:
        raise OSError(f"the rate server can't listen on {bind}")
    return RateAddress(host, int(port), word)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, bind: str, rates: tuple[RateLimiter, RateLimiter], word: str, parent: int) -> None:
        super().__init__((bind, 0), _Handler)
        self.rates, self.word, self.parent, self.lock = rates, word, parent, threading.Lock()

    def service_actions(self) -> None:
        """End with the parent; called twice a second."""
        try:
            os.kill(self.parent, 0)
        except ProcessLookupError:
            raise SystemExit from None


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Book for one task until it ends."""
        if not secrets.compare_digest(self.rfile.readline(64).strip(), self.server.word.encode()):
            return
        while line := self.rfile.readline(64):
            if line == _STOP:
                self.server.shutdown()
                return
            with self.server.lock:
                identifications, requests = self.server.rates
                wait = max(identifications.book(int(line)), requests.book(1))
            self.wfile.write(b"%r\n" % wait)


def serve_rate() -> None:
    """Serve until the line `stop`; the port goes to stdout, the secret word comes from stdin."""
    (*per_second, parent), bind, clock = map(float, sys.argv[1:-1]), sys.argv[-1], Clock()
    identifications, requests = (RateLimiter(one or None, clock) for one in per_second)
    # Without a port it is known that it could not listen.
    with (
        suppress(OSError),
        _Server(bind, (identifications, requests), sys.stdin.readline().strip(), int(parent)) as server,
    ):
        sys.stdout.write(f"{server.server_address[1]}\n")
        sys.stdout.flush()
        server.serve_forever()
