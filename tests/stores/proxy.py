"""A small proxy in front of a store: it counts requests, and delays, throttles, cuts and stalls answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_PIECE = 1 << 16


@dataclass
class Proxy:
    """How it behaves, and what it saw.

    Each request waits `delay` seconds, and an answer has at most `rate` bytes a second. `cuts` has for each
    GET in turn the number of body bytes after which the connection ends (None: none; later answers are
    whole); with `stalls` it falls silent there instead. `dead`: nothing is answered any more. `statuses` are
    answered in place of the store's, one a request. `before` is called before each request is passed on.
    """

    store: str
    delay: float = 0.0
    rate: float | None = None
    cuts: list[int | None] = field(default_factory=list)
    stalls: bool = False
    dead: bool = False
    statuses: list[int] = field(default_factory=list)
    before: Callable[[str, str], None] | None = None
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    sent: int = 0
    address: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def count(self, method: str) -> int:
        """How many requests there were of a method."""
        return sum(one == method for one, _, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, how: Proxy, *arguments: object) -> None:
        self._how = how
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test's output clean."""

    def _pass_on(self) -> None:
        how = self._how
        how.requests.append((self.command, self.path, self.headers.get("Range")))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if how.before is not None:
            how.before(self.command, self.path)
        how.over.wait(60 if how.dead else how.delay)
        if how.dead:
            self.close_connection = True
            return
        if how.statuses and (status := how.statuses.pop(0)):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        store = HTTPConnection(how.store)
        store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in {"connection", "expect"}:
                store.putheader(name, value)
        store.endheaders(body)
        self._send_back(store.getresponse())
        store.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815

    def _send_back(self, answer: HTTPResponse) -> None:
        how = self._how
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in {"connection", "transfer-encoding", "content-length", "date", "server"}:
                self.send_header(name, value)
        length = answer.headers.get("Content-Length")
        whole = answer.read() if length is None else b""
        self.send_header("Content-Length", length or str(len(whole)))
        self.end_headers()
        most = how.cuts.pop(0) if how.cuts and self.command == "GET" else None
        at = 0
        try:
            while piece := whole or answer.read(_PIECE):
                if how.rate:
                    time.sleep(len(piece) / how.rate)
                whole, begin, at = b"", at, at + len(piece)
                self.wfile.write(piece if most is None else piece[: most - begin])
                how.sent += len(piece)
                if most is not None and at >= most:
                    how.over.wait(60 if how.stalls else 0)
                    self.close_connection = True
                    return
        except OSError:
            self.close_connection = True  # the client went away


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is not an error."""


@contextmanager
def proxied(how: Proxy) -> Iterator[Proxy]:
    """Run it; `address` is its host and port."""
    with _Server(("127.0.0.1", 0), partial(_Handler, how)) as server:
        how.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield how
        finally:
            how.over.set()
            server.shutdown()
            thread.join()
