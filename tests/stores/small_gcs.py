"""A server with the part of Google Cloud Storage's JSON API that reading needs, over a folder.

It runs in a process of its own: Google's client blocks Python while it reads.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, folder: Path, *arguments: object) -> None:
        self._objects = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        bucket, _, rest = parts.path.partition("/b/")[2].partition("/")
        key = unquote(rest.partition("/")[2])
        if bucket != "exports":
            self._send(404, json.dumps({"error": {"code": 404, "message": "no such bucket"}}).encode())
        elif not rest:
            self._send(200, json.dumps({"kind": "storage#bucket", "name": bucket, "id": bucket}).encode())
        elif not key:
            prefix = query.get("prefix", [""])[0]
            found = [self._about(name) for name in sorted(self._objects) if name.startswith(prefix)]
            self._send(200, json.dumps({"kind": "storage#objects", "items": found}).encode())
        elif key not in self._objects:
            self._send(404, json.dumps({"error": {"code": 404, "message": "no such object"}}).encode())
        elif query.get("alt") == ["media"]:
            self._send_part(self._objects[key].read_bytes())
        else:
            self._send(200, json.dumps(self._about(key)).encode())

    def _about(self, key: str) -> dict[str, str]:
        data = self._objects[key].read_bytes()
        changed = self._objects[key].stat().st_mtime_ns
        moment = f"{datetime.fromtimestamp(changed / 10**9, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        return {
            "kind": "storage#object",
            "bucket": "exports",
            "name": key,
            "size": str(len(data)),
            "generation": str(changed),
            "updated": moment,
            "timeCreated": moment,
            "etag": hashlib.md5(data).hexdigest(),
        }

    def _send_part(self, data: bytes) -> None:
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        self._send(206 if "Range" in self.headers else 200, part, span)

    def _send(self, status: int, body: bytes, span: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if span is None else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        if span is not None:
            self.send_header("Content-Range", span)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def gcs_store(folder: Path) -> Iterator[str]:
    """Host and port; the bucket `exports` has the files of the folder."""
    command = [sys.executable, "-m", "tests.stores.small_gcs", str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, Path(sys.argv[1]))) as server:
        print(f"127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
