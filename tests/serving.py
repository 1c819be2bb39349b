"""Small HTTP servers: one that answers as it is told, and one that keeps what it is sent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Status, body and headers of an answer.
Reply = tuple[int, bytes, Mapping[str, str]]


@dataclass
class Received:
    """A request that came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """What came to `url`, in order. `statuses` are the next answers, 200 after them; `delay` in seconds."""

    url: str
    requests: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    delay: float = 0.0

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]


@contextmanager
def serving(answer: Callable[[str, Mapping[str, str], bytes], Reply]) -> Iterator[str]:
    """Answer each POST on this machine by `answer(path, headers, body)`; yields the base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # the answer in one piece: what comes in two waits for the first to be confirmed
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = {name.lower(): value for name, value in self.headers.items()}
            status, text, headers = answer(self.path, found, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 100

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    """Receive while the block lasts."""

    def receive(path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        receiver.requests.append(Received(path, headers, body))
        time.sleep(receiver.delay)
        return receiver.statuses.pop(0) if receiver.statuses else 200, b"", {}

    with serving(receive) as url:
        receiver = Receiver(url)
        yield receiver
