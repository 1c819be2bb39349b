"""Whatever happens on the way, the server ends with what an undisturbed run would have left."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl import plan, run
from etl.checkpoint import Checkpoint, StateDir
from etl.errors import (
    DestinationError,
    InterruptedRunError,
    JobError,
    SourceError,
    StaleCheckpointError,
    TooManyRejectsError,
)
from etl.pipeline.settings import RejectLimit
from etl.run_events import Ended, Event, Progressed, Started, Summary
from etl.sandbox import FaultRule, Sandbox, SandboxOptions, parse_fault, running_sandbox
from etl.tally import RowRange
from tests.pipeline.making import (
    KEY,
    QUICK,
    job_in,
    law_holds,
    rows_of,
    run_once,
    sent_bodies,
    write_csv,
    write_parquet,
)

RECORD = SandboxOptions(record=True)
ROWS = 1_500


Undisturbed = tuple[dict[str, object], Summary, set[str]]


def undisturbed(folder: Path, source: Path) -> Undisturbed:
    """Profiles, summary and request bodies of a run without faults."""
    with running_sandbox(RECORD) as sandbox:
        summary = run_once(folder, sandbox, source, state_dir=folder / "undisturbed")
        return sandbox.profiles.as_json(), summary, set(sent_bodies(sandbox))


@pytest.fixture(scope="module")
def calm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calm")
    write_csv(folder / "users.csv", rows_of(ROWS, users=700, bad=29))
    return folder


@pytest.fixture(scope="module")
def calm_run(calm_folder: Path) -> Undisturbed:
    """A run of `users` without faults, its state in `calm_folder`."""
    return undisturbed(calm_folder, calm_folder / "users.csv")


@pytest.fixture
def users(tmp_path: Path, calm_folder: Path) -> Path:
    return Path(shutil.copy(calm_folder / "users.csv", tmp_path))


def faults(*texts: str) -> tuple[FaultRule, ...]:
    return tuple(parse_fault(text) for text in texts)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in (1, 2))])
def test_faults_change_nothing_but_the_number_of_requests(
    tmp_path: Path, users: Path, calm_run: Undisturbed, seed: int
) -> None:
    profiles, calm, bodies = calm_run
    options = SandboxOptions(
        record=True,
        seed=seed,
        faults=faults(
            *("503:0.1", "500:0.1", "reset-before:0.05", "reset-after:0.05", "html:0.05", "truncate:0.05"),
            *("empty:0.05", "portal:0.05"),
        ),
    )
    with running_sandbox(options) as sandbox:
        summary = run_once(tmp_path, sandbox, users)
        assert sandbox.profiles.as_json() == profiles
        assert sandbox.stats.concurrent_users == 0
        assert set(sent_bodies(sandbox)) == bodies
    assert replace(summary.tally, requests=0, retries=0, bytes=0, in_doubt=0) == replace(
        calm.tally, requests=0, bytes=0
    )
    assert summary.tally.requests == calm.tally.requests + summary.tally.retries
    assert summary.tally.retries > 0
    assert law_holds(summary)


def test_every_row_is_accounted_for(calm_folder: Path, calm_run: Undisturbed) -> None:
    _, summary, _ = calm_run
    assert law_holds(summary)
    assert summary.tally.rows == ROWS
    assert summary.tally.rejected == ROWS // 29
    lines = (calm_folder / "undisturbed" / "rejects.ndjson").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == list(range(29, ROWS + 1, 29))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_run_cut_short_is_taken_up_where_it_stands(
    tmp_path: Path, users: Path, calm_run: Undisturbed, kind: str
) -> None:
    source, (profiles, calm, bodies) = users, calm_run
    if kind == "parquet":
        source = tmp_path / "users.parquet"
        write_parquet(source, rows_of(ROWS, users=700, bad=29), row_group=400)
        profiles, calm, bodies = undisturbed(tmp_path, source)
    with running_sandbox(replace(RECORD, latency=0.005)) as sandbox:
        summary = None
        for _ in range(20):
            committed = _settled_rows(tmp_path)
            before = sent_bodies(sandbox)
            heard = _Breaker(sandbox, after=committed + 400)
            try:
                summary = run_once(tmp_path, sandbox, source, listener=heard, max_outage=0.0)
                break
            except DestinationError:
                sandbox.end_outage()
            again = sent_bodies(sandbox) - before
            assert sum(again[body] for body in before) <= 8  # at most what was in flight
        assert summary is not None
        assert summary.resumed_rows > 0
        assert sandbox.profiles.as_json() == profiles
        assert set(sent_bodies(sandbox)) == bodies
    assert law_holds(summary)
    rows_only = {"requests": 0, "retries": 0, "bytes": 0, "in_doubt": 0}
    assert replace(summary.tally, **rows_only) == replace(calm.tally, **rows_only)


class _Breaker:
    """A listener that cuts the network once enough rows are committed."""

    def __init__(self, sandbox: object, *, after: int) -> None:
        self._sandbox = sandbox
        self._after = after

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progressed) and event.tally.rows >= self._after:
            self._sandbox.begin_outage("reset-before")  # type: ignore[attr-defined]


def _settled_rows(folder: Path) -> int:
    checkpoint = Checkpoint.load(StateDir(folder / ".propsync" / "job").checkpoint)
    if checkpoint is None:
        return 0
    with checkpoint:
        return checkpoint.progress().tally.rows


def test_settled_row_groups_are_not_read_again(tmp_path: Path) -> None:
    source = tmp_path / "users.parquet"
    write_parquet(source, rows_of(1000, users=1000), row_group=250)
    with running_sandbox(RECORD) as sandbox:
        heard = _Breaker(sandbox, after=550)
        with pytest.raises(DestinationError):
            run_once(tmp_path, sandbox, source, listener=heard, max_outage=0.0, concurrency=1)
        sandbox.end_outage()
        assert _settled_rows(tmp_path) >= 500
        _spoil_first_row_group(source)
        summary = run_once(tmp_path, sandbox, source)
        assert summary.tally.rows == 1000
        assert summary.resumed_rows >= 500


def _spoil_first_row_group(path: Path) -> None:
    """Put rubbish where the first row group is, unnoticed: whoever reads it stumbles."""
    metadata, times = pq.ParquetFile(path).metadata, path.stat()
    first, second = (metadata.row_group(number).column(0).data_page_offset for number in (0, 1))
    content = bytearray(path.read_bytes())
    content[first - 40 : second - 200] = b"\xff" * (second - 200 - first + 40)
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(OSError):  # noqa: PT011 - how it stumbles is pyarrow's affair
        pq.ParquetFile(path).read_row_group(0)


def test_a_finished_job_begins_anew(tmp_path: Path, users: Path) -> None:
    with running_sandbox(RECORD) as sandbox:
        first = run_once(tmp_path, sandbox, users)
        second = run_once(tmp_path, sandbox, users, full=True)
        assert second.tally.rows == first.tally.rows == ROWS
        assert second.resumed_rows == 0
        assert set(sent_bodies(sandbox).values()) == {2}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 60}, "--batch-size 50, not 60"),
        pytest.param({"endpoint": "http://127.0.0.1:9"}, "another destination", marks=pytest.mark.soak),
        pytest.param({"full": True}, "begun without --full", marks=pytest.mark.soak),
    ],
)
def test_an_unfinished_run_is_taken_up_only_as_it_was(
    tmp_path: Path, users: Path, change: dict[str, object], words: str
) -> None:
    with running_sandbox(RECORD) as sandbox:
        with pytest.raises(DestinationError):
            run_once(tmp_path, sandbox, users, listener=_Breaker(sandbox, after=200), max_outage=0.0)
        sandbox.end_outage()
        arguments: dict[str, Any] = {"endpoint": sandbox.url, "batch_size": 50} | change
        with pytest.raises(StaleCheckpointError, match=words) as caught:
            run(job_in(tmp_path), users, key=KEY, on_source_change="stop", **arguments)
        assert "finish that run first" in str(caught.value)
        assert "--on-source-change restart" in str(caught.value)
        summary = run_once(tmp_path, sandbox, users, restart=True)
        assert summary.tally.rows == ROWS


def test_another_source_is_refused_by_name(tmp_path: Path, users: Path) -> None:
    with running_sandbox(RECORD) as sandbox:
        with pytest.raises(DestinationError):
            run_once(tmp_path, sandbox, users, listener=_Breaker(sandbox, after=200), max_outage=0.0)
        sandbox.end_outage()
        users.write_text(users.read_text() + "user-999999,,,,1\n")
        stop: dict[str, Any] = {"on_source_change": "stop"}
        with pytest.raises(StaleCheckpointError, match=r"users\.csv has changed") as caught:
            run_once(tmp_path, sandbox, users, **stop)
        assert "finish that run" not in str(caught.value)  # what it read is gone
        other = tmp_path / "other.csv"
        write_csv(other, rows_of(10, users=10))
        with pytest.raises(StaleCheckpointError, match="isn't among the files any more"):
            run_once(tmp_path, sandbox, other, **stop)


def test_a_source_that_grows_while_it_is_read_stops_the_run(tmp_path: Path, users: Path) -> None:
    def grow(event: Event) -> None:
        if isinstance(event, Started):
            users.write_text(users.read_text() + "user-999999,,,,1\n")

    with running_sandbox(RECORD) as sandbox, pytest.raises(SourceError, match="changed while it was read"):
        run_once(tmp_path, sandbox, users, listener=grow)


def test_a_source_that_goes_away_while_it_is_read_stops_the_run(tmp_path: Path, users: Path) -> None:
    def remove(event: Event) -> None:
        if isinstance(event, Started):
            users.rename(tmp_path / "elsewhere")

    with running_sandbox(RECORD) as sandbox:
        with pytest.raises(SourceError, match=r"users\.csv"):
            run_once(tmp_path, sandbox, users, listener=remove)
        (tmp_path / "elsewhere").rename(users)
        assert run_once(tmp_path, sandbox, users).tally.rows == ROWS


def test_a_hot_user_is_set_apart_over_the_wire(tmp_path: Path) -> None:
    source = tmp_path / "users.csv"
    rows = rows_of(ROWS, users=ROWS)
    for row in rows[17::150]:
        row["id"] = "user-hot"
    write_csv(source, rows)
    profiles, _, _ = undisturbed(tmp_path, source)
    options = replace(RECORD, hot_users=frozenset(["user-hot"]), hot_tries=12)
    with running_sandbox(options) as sandbox:
        summary = run_once(tmp_path, sandbox, source)
        assert sandbox.profiles.as_json() == profiles
        assert sandbox.stats.concurrent_users == 0
    assert summary.tally.rejected == 0
    assert summary.tally.throttled == 12
    assert law_holds(summary)


def test_rejects_are_a_source_once_fixed(tmp_path: Path, users: Path) -> None:
    with running_sandbox(RECORD) as sandbox:
        first = run_once(tmp_path, sandbox, users)
        rejects = tmp_path / ".propsync" / "job" / "rejects.ndjson"
        fixed = rejects.read_text().replace('"id":"x"', '"id":"user-fixed"').replace('"many"', '"7"')
        rejects.write_text(fixed)
        second = run_once(tmp_path, sandbox, rejects)
        assert second.tally.rows == first.tally.rejected
        assert second.tally.rejected == 0
        assert law_holds(second)
        assert rejects.read_bytes() == b""
        assert "user-fixed" in sandbox.profiles.users


def test_too_many_rejects_stop_the_run(tmp_path: Path, users: Path) -> None:
    heard: list[Event] = []
    with running_sandbox(RECORD) as sandbox:
        with pytest.raises(TooManyRejectsError, match="the limit is 20"):
            run_once(tmp_path, sandbox, users, max_rejects=RejectLimit(count=20), listener=heard.append)
        assert isinstance(heard[-1], Ended)
        assert heard[-1].summary.status == "stopped"
        assert law_holds(heard[-1].summary)
        summary = run_once(tmp_path, sandbox, users, max_rejects=RejectLimit(percent=50))
        assert summary.tally.rows == ROWS


def test_an_empty_source_is_finished_at_once(tmp_path: Path) -> None:
    source = tmp_path / "users.csv"
    source.touch()
    with running_sandbox(RECORD) as sandbox:
        summary = run_once(tmp_path, sandbox, source)
        assert summary.status == "finished"
        assert summary.tally.rows == 0
        assert sandbox.stats.requests == 0


def test_an_unknown_column_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    source = tmp_path / "users.csv"
    source.write_text("idd,platform,os,plan,score\nuser-1,,,,1\n")
    with running_sandbox(RECORD) as sandbox:
        with pytest.raises(JobError, match="idd"):
            run_once(tmp_path, sandbox, source)
        assert sandbox.stats.requests == 0


def test_tables_frames_and_streams_are_sources(tmp_path: Path) -> None:
    rows = [row for row in rows_of(300, users=100) if row["id"]]
    table = pa.Table.from_pylist(rows)
    profiles = []
    for number, source in enumerate([table, pd.DataFrame(rows), table.to_reader(max_chunksize=70)]):
        with running_sandbox(RECORD) as sandbox:
            state = tmp_path / str(number)
            summary = run(
                job_in(tmp_path),
                source,
                key=KEY,
                endpoint=sandbox.url,
                state_dir=state,
                rate=None,
                backoff=QUICK,
            )
            assert summary.tally.rows == 300
            profiles.append(sandbox.profiles.as_json())
    assert profiles[0] == profiles[1] == profiles[2]


def test_it_runs_where_a_loop_runs_already(tmp_path: Path, users: Path) -> None:
    async def notebook(url: str) -> Summary:
        return run(job_in(tmp_path), users, key=KEY, endpoint=url, rate=None, backoff=QUICK)

    with running_sandbox(RECORD) as sandbox:
        assert asyncio.run(notebook(sandbox.url)).tally.rows == ROWS


def test_the_plan_says_what_the_run_does(tmp_path: Path, users: Path, calm_run: Undisturbed) -> None:
    found = plan(job_in(tmp_path), users, batch_size=50)
    _, summary, _ = calm_run
    assert replace(found.tally, bytes=0) == replace(summary.tally, bytes=0)
    assert found.rejects_by_code == summary.rejects_by_code
    assert abs(found.tally.bytes - summary.tally.bytes) <= 16 * found.tally.requests
    assert found.seconds == pytest.approx(max(found.tally.accepted / 1000, found.tally.requests / 100))


def test_settled_stretches_tile_the_file(tmp_path: Path, users: Path) -> None:
    with running_sandbox(RECORD) as sandbox:
        run_once(tmp_path, sandbox, users)
    checkpoint = Checkpoint.load(StateDir(tmp_path / ".propsync" / "job").checkpoint)
    assert checkpoint is not None
    with checkpoint:
        stop = 1
        for row_range in checkpoint.committed():
            assert row_range == RowRange(0, stop, row_range.stop)
            stop = row_range.stop or 0
        assert stop == ROWS + 1
        assert checkpoint.progress().finished


def test_interrupting_a_notebook_s_run_leaves_nothing_running(tmp_path: Path, users: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Progressed) and event.tally.rows:
            os.kill(os.getpid(), signal.SIGINT)

    async def notebook(url: str) -> None:
        settings: dict[str, Any] = {
            "endpoint": url,
            "batch_size": 10,
            "progress_every": 0.0,
            "backoff": QUICK,
        }
        run(job_in(tmp_path), users, key=KEY, rate=200.0, listener=interrupt, **settings)

    with running_sandbox(RECORD) as sandbox:
        others = set(threading.enumerate())
        # Without a Runner, which would keep the first Ctrl-C to itself: as in a notebook.
        loop = asyncio.new_event_loop()
        with pytest.raises((InterruptedRunError, KeyboardInterrupt)):
            loop.run_until_complete(notebook(sandbox.url))
        loop.close()
        assert set(threading.enumerate()) <= others
        assert 0 < _settled_rows(tmp_path) < ROWS
        assert run_once(tmp_path, sandbox, users, batch_size=10).tally.rows == ROWS


@pytest.mark.parametrize("processes", [1, 2])
def test_progress_tells_about_how_many_rows_a_text_file_has(
    tmp_path: Path, sandbox: Sandbox, processes: int
) -> None:
    path, rows = tmp_path / "x.csv", 3_000
    lines = (f"user-{number},pro,1,,{number},{'x' * 760}\n" for number in range(rows))
    path.write_text("".join(["id,plan,score,platform,os,note\n", *lines]))
    told: list[Progressed] = []

    def listen(event: Event) -> None:
        if isinstance(event, Progressed):
            told.append(event)

    run_once(tmp_path, sandbox, path, listener=listen, processes=processes, batch_size=250)
    assert told[0].tally.rows < told[-1].tally.rows == rows
    assert [event.expected_rows for event in told] == [pytest.approx(rows, rel=0.1)] * len(told)
