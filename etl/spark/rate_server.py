"""One rate for all tasks of a Spark job: a small server on the driver that books for each of them.

A task sends a secret word, then for each request a line with the number of identifications; the answer is a
line with the seconds to wait. The server is a process of its own, since Spark has no process on the driver
that lives as long as the job; it ends when it is told to, or when no task has been heard of for ten minutes.
"""

from __future__ import annotations

import secrets
import socket
import socketserver
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Final

from ..sender import Clock, FixedRate

_SILENT_SECONDS: Final = 600.0
_STOP: Final = b"stop\n"
_TIMEOUT_SECONDS: Final = 30.0


@dataclass(frozen=True)
class RateAddress:
    """Where the server of a job listens; `host` empty: where Spark's driver is. `word` is its secret."""

    host: str
    port: int
    word: str

    def connect(self, driver: str) -> socket.socket:
        """Open a connection from a task. Raises OSError."""
        connection = socket.create_connection((self.host or driver, self.port), _TIMEOUT_SECONDS)
        connection.sendall(self.word.encode() + b"\n")
        return connection

    def stop(self) -> None:
        """End the server, if it still runs."""
        try:
            with self.connect("127.0.0.1") as connection:
                connection.sendall(_STOP)
        except OSError:
            return  # it has ended


class SharedRate:
    """A task's view of the rate: every booking is made at the driver."""

    def __init__(self, connection: socket.socket) -> None:
        self._answers = connection.makefile("r")
        self._connection = connection

    def book(self, amount: int) -> float:
        """Book `amount` identifications in one request; the seconds to wait. Raises OSError."""
        self._connection.sendall(b"%d\n" % amount)
        answer = self._answers.readline()
        if not answer:
            raise ConnectionError("the rate server on Spark's driver has ended")
        return float(answer)

    def passed(self, amount: int, latency: float) -> None:
        """A fixed rate learns nothing."""

    def refused(self, amount: int) -> bool:
        """A fixed rate is never the reason of a refusal."""
        return False


def start_rate_server(rate: float | None, requests_per_second: float | None, host: str) -> RateAddress:
    """Start the server in a process of its own; `host` empty listens on all addresses of this machine."""
    word = secrets.token_hex(16)
    package = __package__ or "etl.spark"
    numbers = [str(number or 0) for number in (rate, requests_per_second)]
    server = subprocess.Popen(  # noqa: S603 - this program itself
        [sys.executable, "-m", f"{package}.rate_server", *numbers, host],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stdin is not None and server.stdout is not None  # noqa: S101, PT018 - they are pipes
    with server.stdin, server.stdout:
        server.stdin.write(word.encode() + b"\n")  # not an argument: others can read those
        server.stdin.flush()
        return RateAddress(host, int(server.stdout.readline()), word)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], rates: tuple[FixedRate, FixedRate], word: str) -> None:
        super().__init__(address, _Task)
        self.rates, self.word = rates, word
        self.lock, self.heard = threading.Lock(), time.monotonic()

    def service_actions(self) -> None:
        """End where no task was heard of for a long time: the job was killed."""
        if time.monotonic() - self.heard > _SILENT_SECONDS:
            threading.Thread(target=self.shutdown).start()


class _Task(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Book for one task until it ends."""
        if not secrets.compare_digest(self.rfile.readline().strip(), self.server.word.encode()):
            return
        for line in self.rfile:
            if line == _STOP:
                self.server.shutdown()
                return
            with self.server.lock:
                self.server.heard = time.monotonic()
                identifications, requests = self.server.rates
                wait = max(identifications.book(int(line)), requests.book(1))
            self.wfile.write(b"%r\n" % wait)


def main(rate: str, requests_per_second: str, host: str) -> None:
    """Serve until told to stop; the port goes to stdout, the secret word comes from stdin."""
    clock = Clock()
    rates = FixedRate(float(rate) or None, clock), FixedRate(float(requests_per_second) or None, clock)
    with _Server((host, 0), rates, sys.stdin.readline().strip()) as server:
        sys.stdout.write(f"{server.server_address[1]}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
