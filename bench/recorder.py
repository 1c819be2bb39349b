"""A sink that reads what it gets: for showing that all contenders send the same.

    python -m bench.recorder FILE                prints its port; at SIGTERM writes a line for each user
    python -m bench.recorder FILE EXPORT MODE    compares that with the export in which every 50th changed

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
from itertools import zip_longest
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

FIELDS = ("platform", "os_name", "app_version", "language")


def users(path: str, body: bytes) -> Iterator[dict[str, Any]]:
    """Each user in a request, flat: `id`, the device fields, and the properties that are set."""
    for sent in _sent(path, body):
        properties = dict(sent["user_properties"])
        plain = properties.pop("$set", {})
        yield {"id": sent["user_id"], **_fields(path, sent), **plain, **properties}


def _fields(path: str, sent: Mapping[str, Any]) -> dict[str, Any]:
    """What isn't a property. An event has more about itself, which says nothing of the user."""
    if path == "/identify":
        return {name: sent[name] for name in sent if name not in {"user_id", "user_properties"}}
    return {name: sent[name] for name in FIELDS if name in sent}


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
    """What came in so far, as it came: it is read at the end, so that it takes nothing from who is timed."""

    bodies: list[tuple[str, bytes]] = field(default_factory=list)

    def add(self, path: str, body: bytes) -> None:
        """Keep a request."""
        self.bodies.append((path, body))

    def write(self, path: Path) -> None:
        """Write how many users came, then each of them once, by id, as they came last."""
        found, count = {}, 0
        for at, body in self.bodies:
            for user in users(at, body):
                found[user["id"]] = json.dumps(user)
                count += 1
        lines = [json.dumps({"count": count}), *(line for _, line in sorted(found.items()))]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def server(record: Record) -> ThreadingHTTPServer:
    """A server on a free port of this machine that adds to the record."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # an answer goes in two pieces

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


def changed(path: Path, mode: str) -> Iterator[dict[str, Any]]:
    """What has to arrive, by id: of `property` the plan alone, of `user` all that the user has."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bench.data import EVERY, GROUP

    first = 0
    for batch in pq.ParquetFile(path).iter_batches(GROUP):
        rows = np.flatnonzero(np.arange(first, first + len(batch)) % EVERY == 0)
        first += len(batch)
        table = pa.Table.from_batches([batch]).take(pa.array(rows))
        yield from (table.select(["id", "plan"]) if mode == "property" else table).to_pylist()


def compared(record: Path, path: Path, mode: str) -> dict[str, Any]:
    """Count the users that changed, those that arrived, and those of them that are wrong, with some."""
    with record.open(encoding="utf-8") as lines:
        arrived = json.loads(next(lines))["count"]
        count = wrong = 0
        some: list[Any] = []
        for expected, got in zip_longest(changed(path, mode), map(json.loads, lines)):
            count += expected is not None
            if expected != got:
                wrong += 1
                some = [*some, [expected, got]][:2]
    return {"changed": count, "arrived": arrived, "wrong": wrong, "some": some}


def main() -> None:
    if len(sys.argv) > 2:
        print(json.dumps(compared(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])))
        return
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
