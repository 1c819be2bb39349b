"""A sink that reads what it gets: for showing that all contenders send the same.

    python -m bench.recorder FILE        says its port; at SIGTERM writes a line of JSON for each user to FILE

It understands the forms of the Identify API and the `$identify` events of the HTTP API, with Python's own
parsers only.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs

FIELDS = ("platform", "os_name", "app_version", "language")


def users(path: str, body: bytes) -> Iterator[dict[str, Any]]:
    """Each user in a request, flat: `id`, the device fields, and the properties that are set."""
    for sent in _sent(path, body):
        properties = sent["user_properties"]
        fields = {name: sent[name] for name in FIELDS if name in sent}
        yield {"id": sent["user_id"], **fields, **properties.get("$set", properties)}


def _sent(path: str, body: bytes) -> list[dict[str, Any]]:
    if path == "/identify":
        (text,) = parse_qs(body.decode(), strict_parsing=True)["identification"]
        found = json.loads(text)
        return found if isinstance(found, list) else [found]
    events: list[dict[str, Any]] = json.loads(body)["events"]
    if any(event["event_type"] != "$identify" for event in events):
        raise ValueError("an event that identifies nobody")
    return events


def differences(expected: list[dict[str, Any]], got: Mapping[str, dict[str, Any]]) -> list[str]:
    """What isn't there, is more than should be, or has other values."""
    found = [f"{row['id']}: {got.get(row['id'])}, not {row}" for row in expected if got.get(row["id"]) != row]
    strange = got.keys() - {row["id"] for row in expected}
    return found + [f"{user}: nobody asked for it" for user in sorted(strange)]


@dataclass
class Record:
    """What came in so far."""

    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    count: int = 0
    lock: Lock = field(default_factory=Lock)

    def add(self, path: str, body: bytes) -> None:
        """Keep what a request holds."""
        came = list(users(path, body))
        with self.lock:
            self.count += len(came)
            self.users.update((user["id"], user) for user in came)

    def write(self, path: Path) -> None:
        """Write how many came, then each user."""
        lines = [json.dumps({"count": self.count}), *map(json.dumps, self.users.values())]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def server(record: Record) -> ThreadingHTTPServer:
    """A server on a free port of this machine that adds to the record."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            record.add(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            answer = b"success" if self.path == "/identify" else b'{"code": 200}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def main() -> None:
    record = Record()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with server(record) as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        print(f"http://127.0.0.1:{running.server_port}", flush=True)
        signal.sigwait({signal.SIGTERM})
        running.shutdown()
    record.write(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
