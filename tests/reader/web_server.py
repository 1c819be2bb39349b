"""A small web server that sends one file as servers do on bad days."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """What the server sends, and how.

    `breaks` has for each answer in turn the number of body bytes after which the connection ends (None:
    none; later answers are whole); with `stalls` it falls silent there instead. `parts`: it understands
    Range. `pause` seconds go by before each KiB. `status` is that of every answer. `asked` has the headers of
    every request.
    """

    data: bytes
    breaks: list[int | None] = field(default_factory=list)
    stalls: bool = False
    parts: bool = True
    tag: str | None = '"one"'
    chunked: bool = False
    pause: float = 0.0
    status: int | None = None
    told_size: int | None = None
    redirect: str | None = None
    shift: int = 0
    asked: list[dict[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, how: Behaviour, *arguments: object) -> None:
        self._how = how
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        how = self._how
        how.asked.append(dict(self.headers.items()))
        self.close_connection = True
        if how.status is not None or how.redirect is not None:
            self.send_response(how.status or 302)
            self.send_header("Content-Length", "0")
            if how.redirect is not None:
                self.send_header("Location", how.redirect)
            self.end_headers()
            return
        self._send_data(how, self._start(how))

    def _start(self, how: Behaviour) -> int:
        begin = self.headers.get("Range")
        same = self.headers.get("If-Range") in {None, how.tag}
        return int(begin.removeprefix("bytes=").rstrip("-")) if begin and how.parts and same else 0

    def _send_data(self, how: Behaviour, start: int) -> None:
        body = how.data[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start + how.shift}-{len(how.data) - 1}/{len(how.data)}"
            )
        if how.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(how.told_size or len(body)))
        if how.tag is not None:
            self.send_header("ETag", how.tag)
        self.end_headers()
        most = how.breaks.pop(0) if how.breaks else None
        for at in range(0, len(body), 1024):
            time.sleep(how.pause)
            piece = body[at : min(at + 1024, len(body) if most is None else most)]
            self._write(how, piece)
            if most is not None and at + 1024 >= most:
                if how.stalls:
                    how.over.wait(30)
                return
        if how.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _write(self, how: Behaviour, piece: bytes) -> None:
        try:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if how.chunked else piece)
            self.wfile.flush()
        except OSError:
            return  # the client went away


@contextmanager
def serving(how: Behaviour) -> Iterator[str]:
    """The address of a file that is sent so."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, how)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/users.csv"
        finally:
            how.over.set()
            server.shutdown()
            thread.join()
