"""What a batch frees is there for the next one; a second process doesn't get it, too."""

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

# 60 MB, of which a tenth stays, here and there.
FORK = """
import os
from etl.cli.process_setup import configure_allocation
configure_allocation()
import numpy as np
from etl.pipeline.worker_process import worker_process

def held():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) << 10

pieces = [np.ones(1 << 17) for _ in range(60)]
pieces = pieces[::10]
before = held()
with worker_process(lambda: iter(()), closing=os.open(os.devnull, os.O_RDONLY)):
    print(before - held())
"""

glibc = pytest.mark.skipif(
    os.name != "posix" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the system has no mallopt"
)


def told(script: str, *words: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@glibc
def test_memory_is_kept_from_batch_to_batch() -> None:
    assert told(BATCHES, "configured") * 10 < told(BATCHES, "as it comes")


@glibc
@pytest.mark.skipif(sys.platform != "linux", reason="the system has no /proc")
def test_free_memory_is_given_back_before_a_second_process_begins() -> None:
    assert told(FORK) > 40 << 20
