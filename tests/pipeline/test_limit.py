"""`limit`: only the first rows are sent; the next run sends the rest, and nothing of it twice."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl import Job
from etl.errors import RepeatedSourceError, UsageError
from etl.job.known_job import KnownJob
from etl.pipeline.run import run_job
from etl.pipeline.settings import RowMinimum, Settings
from etl.pipeline.status import status_of
from etl.reader import open_source
from etl.run_events import Summary
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.examples import examples
from tests.pipeline.making import KEY, counting_job_in
from tests.pipeline.nights import KilledError, Row, arrived, held, job_in, killed, quiet, send, users, write

ROWS = 160


def files(folder: Path, number: int = ROWS) -> list[Path]:
    """Rows in two files; every user has four: two side by side, and two others far behind."""
    ids = (f"user-{n // 2 % (number // 4):05}" for n in range(number))
    rows = [{"id": user, "plan": f"plan {n % 3}", "score": n} for n, user in enumerate(ids)]
    return [
        write(folder / "a.csv", rows[: number // 2 - 7]),
        write(folder / "b.csv", rows[number // 2 - 7 :]),
    ]


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    """What undisturbed runs leave of each user."""
    folder = tmp_path_factory.mktemp("calm")
    with running_sandbox(SandboxOptions()) as sandbox:
        send(counting_job_in(folder), sandbox, files(folder))
        return held(sandbox)


@pytest.mark.parametrize("limit", [1, 72, 73, 74, 120, ROWS - 1])
def test_the_first_rows_arrive_and_then_the_rest(limit: int, tmp_path: Path, counts: dict[str, Row]) -> None:
    with running_sandbox(SandboxOptions()) as sandbox:
        job, paths = counting_job_in(tmp_path), files(tmp_path)
        for _ in range(2):  # the same command again sends nothing
            summary = send(job, sandbox, paths, limit=limit)
            assert (summary.status, summary.exit_code, summary.tally.rows) == ("limited", 0, limit)
            came = [int(score) for found in held(sandbox).values() for score in found["scores"]]
            assert sorted(came) == list(range(limit))
        assert status_of(KnownJob.of(job))["status"] == "unfinished"
        assert send(job, sandbox, paths).status == "finished"
        assert held(sandbox) == counts


@pytest.mark.parametrize("limit", [ROWS, ROWS + 1])
def test_a_limit_that_leaves_no_row_ends_the_run(limit: int, tmp_path: Path) -> None:
    with running_sandbox(SandboxOptions()) as sandbox:
        assert send(counting_job_in(tmp_path), sandbox, files(tmp_path), limit=limit).status == "finished"


ENDS = (KilledError, UsageError, RepeatedSourceError)
STEPS = st.lists(
    st.tuples(
        st.sampled_from([31, 101, None]),
        st.sampled_from(["committing", "committed", "told"]),
        st.integers(1, 6),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=examples(6, 3), deadline=None)
@example(steps=[(101, "committing", 1)])  # the last chunk, which another limit would merge with the next row
@given(steps=STEPS)
def test_kills_count_nothing_twice(
    steps: list[tuple[Any, str, int]], tmp_path_factory: Any, counts: dict[str, Row]
) -> None:
    """Whether a limited run is killed or the one after it, and whichever comes next."""
    folder = tmp_path_factory.mktemp("night")
    with running_sandbox(SandboxOptions()) as sandbox:
        job, paths = counting_job_in(folder), files(folder)
        for limit, point, number in steps:
            with killed(point, number) as listener, suppress(*ENDS):
                send(job, sandbox, paths, limit=limit, listener=listener, batch_size=20, concurrency=3)
            quiet(sandbox)
        if status_of(KnownJob.of(job))["status"] != "finished":
            send(job, sandbox, paths, batch_size=20)
        assert held(sandbox) == counts


def test_another_limit_is_refused_while_requests_are_in_flight(tmp_path: Path) -> None:
    with running_sandbox(SandboxOptions()) as sandbox:
        job, paths = counting_job_in(tmp_path), files(tmp_path)
        with killed("committing", 2) as listener, pytest.raises(KilledError):
            send(job, sandbox, paths, listener=listener)
        quiet(sandbox)
        with pytest.raises(UsageError, match="--limit"):
            send(job, sandbox, paths, limit=70)
        assert send(job, sandbox, paths).status == "finished"


def test_a_stream_can_t_be_limited(tmp_path: Path) -> None:
    job, stream = job_in(tmp_path), pa.table({"id": ["user-1"], "plan": ["a"], "score": [1]}).to_reader()
    with pytest.raises(UsageError, match="stream"):
        run_job(job, open_source([stream]), KEY, settings=Settings(endpoint="http://127.0.0.1:9", limit=1))


# --- guards and the snapshot -----------------------------------------------------------------------------


def second_night(folder: Path, sandbox: Sandbox, **others: object) -> Job:
    """A job that sent 100 users."""
    job = job_in(folder, **others)
    send(job, sandbox, [write(folder / "users.ndjson", users(range(100)))])
    sandbox.reset()
    return job


def limited(job: Job, sandbox: Sandbox, rows: list[Row], limit: int = 10, **settings: Any) -> Summary:
    return send(job, sandbox, [write(job.folder / "users.ndjson", rows)], limit=limit, **settings)


def test_no_guard_minds_the_rows_beyond_the_limit(tmp_path: Path) -> None:
    with running_sandbox(SandboxOptions()) as sandbox:
        job = second_night(tmp_path, sandbox, absent="unset")
        rows = users(range(95), country="DE")
        rows[3]["plan"] = "new"
        summary = limited(job, sandbox, rows, min_rows=RowMinimum(percent=95))
        assert (summary.status, summary.tally.rows, summary.tally.unchanged) == ("limited", 10, 9)
        assert held(sandbox) == {"user-00003": {"plan": "new"}}
        rest = send(job, sandbox, [job.folder / "users.ndjson"], min_rows=RowMinimum(percent=95))
        assert (rest.status, rest.tally.rows) == ("finished", 100)  # with five users who left
        found = arrived(sandbox)
        assert set(found) == {"user-00003", *(f"user-{n:05}" for n in range(95, 100))}
        # The next night compares with all of them, and with the rows of a whole run.
        assert send(job, sandbox, [job.folder / "users.ndjson"], again=True).tally.accepted == 0


def test_what_was_sent_is_known_though_the_next_export_is_another(tmp_path: Path) -> None:
    with running_sandbox(SandboxOptions()) as sandbox:
        job = second_night(tmp_path, sandbox)
        limited(job, sandbox, [row | {"plan": "new"} for row in users(range(100))])
        assert set(arrived(sandbox)) == {f"user-{n:05}" for n in range(10)}
        summary = send(
            job, sandbox, [write(tmp_path / "next.ndjson", [r | {"plan": "new"} for r in users(range(101))])],
            max_changes=100,
        )  # fmt: skip
        assert (summary.status, summary.tally.accepted) == ("finished", 91)
        assert set(arrived(sandbox)) == {f"user-{n:05}" for n in range(10, 101)}


def test_its_rejects_are_published(tmp_path: Path) -> None:
    with running_sandbox(SandboxOptions()) as sandbox:
        job, rows = job_in(tmp_path), users(range(20))
        for number in (3, 15):
            rows[number]["score"] = "much"
        assert limited(job, sandbox, rows).exit_code == 3
        lines = (job.state_dir / "rejects.ndjson").read_text().splitlines()
        assert [json.loads(line)["row"] for line in lines] == [4]
