"""Servers of others: moto, which trusts anybody, rclone, which checks signatures, and programs as such."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMIK7MDENG"


@contextmanager
def moto_store() -> Iterator[str]:
    """Host and port of moto's server, in a thread of this process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        yield ":".join(map(str, server.get_host_and_port()))
    finally:
        server.stop()


@contextmanager
def started(program: str, *words: str, **environment: str) -> Iterator[str]:
    """Host and port of a server, of this environment or of the machine. Words may name `{host}`, `{port}`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host, port = probe.getsockname()
    found = shutil.which(program, path=str(Path(sys.executable).parent)) or program
    command = [found, *(word.format(host=host, port=port) for word in words)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, env=os.environ | environment) as process:
        try:
            for _ in range(400):
                with socket.socket() as probe:
                    if probe.connect_ex((host, port)) == 0:
                        break
                time.sleep(0.05)
            yield f"{host}:{port}"
        finally:
            process.terminate()


@contextmanager
def rclone_store(folder: Path) -> Iterator[str]:
    """Host and port of a server that serves a folder: its subfolders are buckets, and files are objects."""
    words = ["serve", "s3", str(folder), "--addr", "{host}:{port}", "--auth-key", f"{KEY},{SECRET}"]
    with started("rclone", *words, "--dir-cache-time", "0s", "--config", "/dev/null") as address:
        yield address
