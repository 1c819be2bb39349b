"""One core is left to the thread that makes chunks, and everybody has all of them back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from etl.pipeline.ahead import read_ahead
from etl.pipeline.cores import one_core_left

CORES = os.sched_getaffinity(0) if sys.platform == "linux" else set[int]()

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads can't choose their cores here")
several = pytest.mark.skipif(len(CORES) < 2, reason="there is but one core")


def mine() -> set[int]:
    return os.sched_getaffinity(0) if sys.platform == "linux" else set()


def in_a_thread(function: Callable[[], set[int]]) -> set[int]:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


@several
def test_threads_that_begin_meanwhile_leave_the_same_core() -> None:
    with one_core_left():
        assert mine() == in_a_thread(mine) < CORES
    assert mine() == CORES
    assert in_a_thread(mine) == CORES


@several
def test_all_cores_are_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), one_core_left():
        raise ZeroDivisionError
    assert mine() == CORES


def test_who_has_one_core_keeps_it() -> None:
    def with_one() -> set[int]:
        assert sys.platform == "linux"
        os.sched_setaffinity(0, {max(CORES)})
        with one_core_left():
            return mine()

    assert in_a_thread(with_one) == {max(CORES)}
    assert mine() == CORES


@several
def test_the_reading_thread_leaves_a_core_to_who_uses_what_it_read() -> None:
    def items() -> Iterator[tuple[str, set[int]]]:
        yield threading.current_thread().name, mine()

    [(name, cores)] = read_ahead(items())
    assert (name, len(cores)) == ("read", len(CORES) - 1)
    assert mine() == CORES


def test_a_system_that_forbids_it_is_left_alone() -> None:
    program = """
import os
from etl.pipeline.cores import one_core_left
def forbidden(*_):
    raise PermissionError
os.sched_setaffinity = forbidden
with one_core_left():
    print("went on")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "went on\n"
