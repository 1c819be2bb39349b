"""The process of its own writes the same, and is missed by nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pytest

from etl.json_apart import JsonApart
from etl.json_lines import json_lines
from etl.pipeline.run import writer_for
from etl.pipeline.settings import Settings
from etl.reader import open_source
from tests.test_json_lines import COLUMNS


def child_of(apart: JsonApart) -> subprocess.Popen[bytes]:
    assert apart._child is not None
    return apart._child


def test_it_writes_what_is_written_here() -> None:
    batches = [pa.record_batch([column.slice(3, 5)], ["v"]) for column in COLUMNS.values()]
    batches += [pa.record_batch({"a": ["x" * 3_000_000, None]}), pa.record_batch({"a": ["x"]}).slice(0, 0)]
    with JsonApart() as apart:
        for batch in [*batches, *batches]:
            assert apart(batch) == json_lines(batch)
        assert child_of(apart).poll() is None


def test_should_it_die_the_lines_are_written_here() -> None:
    batch = pa.record_batch({"a": ["x", "y"]})
    with JsonApart() as apart:
        assert apart(batch) == json_lines(batch)
        os.kill(child_of(apart).pid, signal.SIGKILL)
        assert apart(batch) == json_lines(batch)
        assert apart(batch) == json_lines(batch)


def test_it_ends_with_the_block_and_with_the_run_that_began_it() -> None:
    with JsonApart() as apart:
        child = child_of(apart)
    assert child.poll() is not None
    with JsonApart() as apart:
        child = child_of(apart)
        assert child.stdin is not None
        child.stdin.close()  # as when the run is killed
        end = time.monotonic() + 5
        while child.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        assert child.poll() == 0


@pytest.mark.parametrize(
    ("megabytes", "rate", "apart"), [(1, None, False), (20, None, True), (20, 1000.0, False)]
)
def test_it_is_begun_only_where_it_is_worth_it(
    tmp_path: Path, megabytes: int, rate: float | None, apart: bool
) -> None:
    path = tmp_path / "users.csv"
    path.write_bytes(b"id\n" + b"x" * 999_999 * megabytes)
    with writer_for(open_source([path]), Settings(rate=rate)) as write:
        assert isinstance(write, JsonApart) == apart
