"""The process of the command: what a batch frees is there for the next one, and no signal gets lost."""

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
from etl.pipeline.prefetch import worker_process

def held():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) << 10

pieces = [np.ones(1 << 17) for _ in range(60)]
pieces = pieces[::10]
before = held()
with worker_process(lambda: iter(()), lock=os.open(os.devnull, os.O_RDONLY)):
    print(before - held())
"""

# A thread sends a signal at a time to a process that parses CSV in its main thread. Prints how many get lost.
SIGNALS = """
import os, random, signal, threading, time
from etl.cli.process_setup import watch_imports
watch_imports()
import pyarrow as pa
from pyarrow import csv
heard = sent = 0

def hear(number, frame):
    global heard
    heard += 1

def send():
    global sent
    for sent in range(1, 151):
        time.sleep(random.uniform(0.0005, 0.003))
        before, end = heard, time.monotonic() + 0.2
        os.kill(os.getpid(), signal.SIGTERM)
        while heard == before and time.monotonic() < end:
            time.sleep(0.0005)

signal.signal(signal.SIGTERM, hear)
data = b"id,plan\\n" + b"user-1,free\\n" * 30_000
thread = threading.Thread(target=send)
thread.start()
while thread.is_alive():
    csv.read_csv(pa.BufferReader(data), read_options=csv.ReadOptions(use_threads=False))
print(sent - heard)
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


def test_no_signal_is_lost_while_csv_is_read() -> None:
    assert told(SIGNALS) == 0
