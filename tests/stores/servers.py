"""Two stores that speak S3 here: moto, which trusts anybody, and rclone, which checks signatures."""

from __future__ import annotations

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
def rclone_store(folder: Path) -> Iterator[str]:
    """Host and port of a server that serves a folder: its subfolders are buckets, and files are objects."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    program = shutil.which("rclone", path=str(Path(sys.executable).parent)) or "rclone"
    command = [program, "serve", "s3", str(folder), "--addr", address, "--auth-key", f"{KEY},{SECRET}"]
    with subprocess.Popen(
        [*command, "--dir-cache-time", "0s", "--config", "/dev/null"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            host, port = address.split(":")
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex((host, int(port))) == 0:
                        break
                time.sleep(0.05)
            yield address
        finally:
            process.terminate()
