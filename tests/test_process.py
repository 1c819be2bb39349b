"""The process of a command: who hears its signals and when, and what it keeps of its memory."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from etl.process import STOPPING, handling_signals, holding_signals, release_signals, watch_signals
from tests.commands import REPOSITORY

# Two buffers of 6 MB at a time, as for the JSON lines of a batch; a page is 4 KB or more.
BATCHES = """
import resource, sys
if sys.argv[1] == "configured":
    from etl.process import configure_allocation
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
from etl.process import configure_allocation
configure_allocation()
import numpy as np
from etl.pipeline.worker_process import worker_process

def holding_signals():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) << 10

pieces = [np.ones(1 << 17) for _ in range(60)]
pieces = pieces[::10]
before = holding_signals()
with worker_process(lambda: iter(()), lock=os.open(os.devnull, os.O_RDONLY)):
    print(before - holding_signals())
"""

# A thread sends a signal at a time to a process that parses CSV in its main thread. Prints how many get lost.
SIGNALS = """
import os, random, signal, threading, time
from etl.process import watch_imports
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


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """All of them raise KeyboardInterrupt, as in the command; afterwards they are what they were."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    for number in STOPPING:
        signal.signal(number, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", STOPPING)
def test_one_that_comes_while_they_are_held_comes_afterwards(number: int) -> None:
    done = []

    def work() -> None:
        with holding_signals():
            send(number)
            done.append("inside")
        done.append("after")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inside"]


def test_a_second_one_is_not_held() -> None:
    done = []

    def work() -> None:
        with holding_signals():
            send(signal.SIGTERM)
            done.append("once")
            send(signal.SIGINT)
            done.append("twice")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["once"]


def test_those_that_are_ignored_stay_so() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with handling_signals(lambda number, _: heard.append(number)):
        send(signal.SIGHUP)
        send(signal.SIGTERM)
    assert heard == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) == signal.default_int_handler


def test_another_thread_than_the_main_one_changes_nothing() -> None:
    seen = []

    def hold() -> None:
        with holding_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_from_the_first_moment_they_wait_until_they_are_released() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    watch_signals()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    send(signal.SIGTERM)
    send(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        release_signals()
    release_signals()
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGTERM)


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
