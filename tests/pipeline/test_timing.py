"""The summary shows the busy seconds of each stage, in whichever process the stage ran."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl import Job
from etl.pipeline.job_source import StageTimes
from etl.pipeline.prefetch import ChunkStream
from etl.pipeline.row_pipeline import RowPipeline
from etl.pipeline.worker_process import may_fork, worker_process
from etl.reader import open_source
from etl.run_events import Timing
from etl.sandbox import Sandbox
from etl.tally import RowRange
from tests.pipeline.nights import job_in, send, users, write

SLOW = """
import time

def slow(frame):
    time.sleep(0.1)
    return frame
"""


def slow_job(folder: Path) -> tuple[Job, Path]:
    job = job_in(folder, transform="slow_functions:slow")
    (job.folder / "slow_functions.py").write_text(SLOW)
    return job, write(job.folder / "users.csv", users(range(9_000)))  # two frames


def shows_the_transform(timing: Timing, seconds: float) -> None:
    assert timing.map >= 0.2
    # Reading has a thread of its own; the other stages take turns.
    assert 0 < timing.source <= seconds
    assert timing.map + timing.diff + timing.encode <= seconds
    assert timing.encode > 0


def test_a_slow_transform_shows_in_map(tmp_path: Path, sandbox: Sandbox) -> None:
    job, path = slow_job(tmp_path / "job")
    began = time.monotonic()
    timing = send(job, sandbox, [path], batch_size=1000).timing
    assert timing is not None
    shows_the_transform(timing, time.monotonic() - began)
    assert timing.diff > 0


@pytest.mark.skipif(not may_fork(), reason="other threads run, or the system has no fork")
def test_a_worker_process_s_stages_are_measured_too(tmp_path: Path) -> None:
    job, path = slow_job(tmp_path / "job")
    pipeline = RowPipeline(job, open_source([path]))

    async def count(stream: ChunkStream) -> int:
        return sum(chunk.users for chunks in [x async for x in stream(asyncio.Event())] for chunk in chunks)

    lock, began = os.open(os.devnull, os.O_RDONLY), time.monotonic()
    with worker_process(lambda: pipeline.chunks(pipeline.rows.files()), lock=lock) as stream:
        assert asyncio.run(count(stream)) == 9_000
    os.close(lock)
    shows_the_transform(pipeline.rows.times.add_to(Timing()), time.monotonic() - began)


def test_chunks_are_made_and_timed_without_a_run(tmp_path: Path) -> None:
    path = write(tmp_path / "users.csv", users(range(500)))
    job = Job.of({"identification": {"user_id": "id", "user_properties": {"plan": "plan"}}})
    pipeline = RowPipeline(job, open_source([path]))
    chunks = [chunk for some in pipeline.chunks([RowRange(0)]) for chunk in some]
    assert (chunks[0].first, chunks[-1].stop, sum(chunk.users for chunk in chunks)) == (1, 501, 500)
    timing = pipeline.rows.times.add_to(Timing(slots=8))
    assert timing.slots == 8
    assert min(timing.source, timing.map, timing.encode) > 0


def test_a_stage_that_waits_for_another_is_not_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    times, now = StageTimes(), 0.0
    monkeypatch.setattr("etl.pipeline.job_source.perf_counter", lambda: now)

    def read() -> Iterator[int]:
        nonlocal now
        for number in range(2):
            with times.stage("map"):
                now += 2
            now += 0.5
            yield number

    assert list(times.each("diff", read())) == [0, 1]
    timing = times.add_to(Timing())
    assert (timing.map, timing.diff) == (4, 1)
