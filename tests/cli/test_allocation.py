"""What a batch frees is there for the next one, and isn't fetched from the system again."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from tests.commands import REPOSITORY

# Two buffers of 6 MB at a time, as for the JSON lines of a batch; a page is 4 KB or more.
BATCHES = """
import resource, sys
if sys.argv[1] == "configured":
    from etl.cli.process_setup import configure_allocation
    configure_allocation()

def batch():
    written = b"x" * (6 << 20)
    return len(bytearray(written))

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(3):
    batch()
before = faults()
for _ in range(20):
    batch()
print(faults() - before)
"""

glibc = pytest.mark.skipif(
    os.name != "posix" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the system has no mallopt"
)


def faults(how: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", BATCHES, how]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@glibc
def test_memory_is_kept_from_batch_to_batch() -> None:
    assert faults("configured") * 10 < faults("as it comes")
