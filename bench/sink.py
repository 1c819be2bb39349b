"""Servers on this machine: one that reads bodies and answers at once, and the sandbox.

The sink is nginx with its echo module (Debian: nginx, libnginx-mod-http-echo), or `propsync sandbox --sink`
where that isn't installed.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.children import BenchError

_NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
_ECHO = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
_CONFIG = """
load_module {echo};
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  log_format counted '$status $request_length';
  access_log {log} counted;
  client_max_body_size 16m;
  client_body_buffer_size 4m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000;
  server {{
    listen 127.0.0.1:{port};
    location /identify {{ default_type text/plain; echo_read_request_body; echo success; }}
    location /2/httpapi {{ default_type application/json; echo_read_request_body; echo '{{"code": 200}}'; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a sink got: requests, those answered with 200, and bytes."""

    requests: int = 0
    fine: int = 0
    bytes: int = 0

    def __sub__(self, before: Counts) -> Counts:
        """What came since."""
        return Counts(self.requests - before.requests, self.fine - before.fine, self.bytes - before.bytes)


@dataclass(frozen=True, slots=True)
class Sink:
    """A running sink. `takes_events`: whether it also answers as the HTTP API for events does."""

    name: str
    url: str
    count: Callable[[], Counts]
    takes_events: bool


def counts(log: str) -> Counts:
    """Read nginx's log: a status and the bytes of a request in each line."""
    lines = [line.split() for line in log.splitlines()]
    return Counts(
        len(lines), sum(status == "200" for status, _ in lines), sum(int(size) for _, size in lines)
    )


@contextmanager
def sink(folder: Path) -> Iterator[Sink]:
    """The fastest sink that there is on this machine."""
    if _NGINX is not None and _ECHO.exists():
        with _nginx(folder, _NGINX) as running:
            yield running
    else:
        with sandbox("--sink") as url:
            yield Sink("propsync sandbox --sink", url, lambda: _sandbox_counts(url), takes_events=False)


@contextmanager
def _nginx(folder: Path, program: str) -> Iterator[Sink]:
    port, log = _free_port(), folder / "access.log"
    folder.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(echo=_ECHO, folder=folder, log=log, port=port))
    with serving([program, "-c", config, "-p", folder]) as server:
        _wait_for(port, server)
        yield Sink(
            "nginx with the echo module, one worker",
            f"http://127.0.0.1:{port}",
            lambda: counts(log.read_text()),
            takes_events=True,
        )


@contextmanager
def sandbox(*options: str) -> Iterator[str]:
    """The project's sandbox in a process of its own; gives its address."""
    with serving([sys.executable, "-m", "etl", "sandbox", *options]) as server:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1]


@contextmanager
def recording(record: Path) -> Iterator[str]:
    """A server that keeps what it gets; gives its address. At the end the record is at `record`."""
    with serving([sys.executable, "-m", "bench.recorder", record], patience=120) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()


@contextmanager
def serving(command: Sequence[str | Path], *, patience: float = 10) -> Iterator[subprocess.Popen[str]]:
    """A server that is told to stop at the end, and ended if it hasn't after `patience` seconds."""
    words = [str(word) for word in command]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            yield server
        finally:
            server.terminate()
            try:
                server.wait(patience)
            except subprocess.TimeoutExpired:
                server.kill()


def _sandbox_counts(url: str) -> Counts:
    with urllib.request.urlopen(f"{url}/_sandbox/stats") as answer:
        stats = json.load(answer)
    return Counts(stats["requests"], stats["statuses"].get("200", 0), stats["bytes"])


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _wait_for(port: int, server: subprocess.Popen[str]) -> None:
    for _ in range(100):
        with socket.socket() as trying:
            if trying.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.05)
    raise BenchError("nginx doesn't start; see its error.log below .cache/bench")
