"""A file that lacks a column which others have: named before anything is sent, or null if the job says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.errors import ExitCode, JobError, SourceError
from etl.job.spec import Job
from etl.pipeline.plan import plan_job
from etl.pipeline.preview import preview_rows
from etl.pipeline.settings import Settings
from etl.reader import open_source
from etl.sandbox import Sandbox
from tests.examples import each_row
from tests.pipeline.nights import Row, held, job_in, send, write

IDENTIFICATION = {
    "user_id": "id",
    "user_properties": {"plan": "plan", "left": {"column": "left_on", "type": "date"}},
}
FULL: list[Row] = [{"id": "user-1", "plan": "pro", "left_on": "2024-02-01"}]
LESS: list[Row] = [{"id": "user-2", "plan": "free"}]


def job_of(folder: Path, **others: Any) -> Job:
    return job_in(folder, IDENTIFICATION, **others)


def files(folder: Path, ending: str, less: list[Row] = LESS) -> list[Path]:
    paths = [folder / f"day-1{ending}", folder / f"day-2{ending}"]
    for path, rows in zip(paths, (FULL, less), strict=True):
        if ending == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            write(path, rows)
    return paths


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize("turned", [False, True])
def test_the_file_is_named_and_nothing_is_sent(
    tmp_path: Path, sandbox: Sandbox, ending: str, turned: bool
) -> None:
    paths = files(tmp_path, ending)[:: -1 if turned else 1]
    with pytest.raises(SourceError, match=rf"day-2\{ending} has no column `left_on`") as caught:
        send(job_of(tmp_path), sandbox, paths)
    assert caught.value.exit_code == ExitCode.SOURCE
    assert "missing: null" in str(caught.value.hint)
    assert sandbox.stats.requests == 0


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_check_and_preview_name_it_too(tmp_path: Path, ending: str) -> None:
    job, source = job_of(tmp_path), open_source(files(tmp_path, ending))
    for look in (lambda: plan_job(job, source, settings=Settings()), lambda: list(preview_rows(job, source))):
        with pytest.raises(SourceError, match="left_on"):
            look()


def test_a_name_that_is_nearly_the_same_is_suggested(tmp_path: Path) -> None:
    paths = files(tmp_path, ".csv", [{"id": "user-2", "plan": "free", "Left_on": ""}])
    with pytest.raises(SourceError, match="did you mean `Left_on`"):
        plan_job(job_of(tmp_path), open_source(paths), settings=Settings())


@pytest.mark.parametrize(("ending", "missing"), [(".csv", "null"), (".parquet", "null"), (".ndjson", "fail")])
def test_where_it_may_be_missing_it_is_null(
    tmp_path: Path, sandbox: Sandbox, ending: str, missing: str
) -> None:
    job = job_of(tmp_path, missing=missing)
    summary = send(job, sandbox, files(tmp_path, ending))
    assert (summary.tally.accepted, summary.tally.rejected) == (2, 0)
    assert held(sandbox) == {"user-1": {"plan": "pro", "left": "2024-02-01"}, "user-2": {"plan": "free"}}


def test_a_null_that_unsets_does_so_in_that_file(tmp_path: Path, sandbox: Sandbox) -> None:
    identification = {"user_id": "id", "user_properties": {"plan": {"column": "plan", "null": "unset"}}}
    job = job_in(tmp_path, identification, missing="null")
    send(job, sandbox, [write(tmp_path / "a.csv", [{"id": "user-1", "plan": "pro"}])])
    paths = [
        write(tmp_path / "b.csv", [{"id": "user-1", "x": ""}]),
        write(tmp_path / "c.csv", [{"id": "user-2", "plan": "free"}]),
    ]
    send(job, sandbox, paths)
    assert held(sandbox) == {"user-1": {}, "user-2": {"plan": "free"}}


@each_row("ending", [".csv", ".parquet", ".ndjson"])
@each_row("missing", ["fail", "null"])
def test_a_column_that_no_file_has_is_a_fault_of_the_job(tmp_path: Path, ending: str, missing: str) -> None:
    identification = {"user_id": "id", "user_properties": {"plan": "plam"}}
    with pytest.raises(JobError, match="the source has no column `plam`"):
        plan_job(
            job_in(tmp_path, identification, missing=missing),
            open_source(files(tmp_path, ending)),
            settings=Settings(),
        )


def test_a_missing_id_is_a_reject_of_each_row(tmp_path: Path, sandbox: Sandbox) -> None:
    paths = [write(tmp_path / "a.ndjson", FULL), write(tmp_path / "b.ndjson", [{"plan": "pro"}])]
    summary = send(job_of(tmp_path), sandbox, paths)
    assert summary.rejects_by_code == {"missing_id": 1}


def test_a_file_of_nothing_lacks_nothing(tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "b.csv").write_text("\n\n")
    summary = send(job_of(tmp_path), sandbox, [write(tmp_path / "a.csv", FULL), tmp_path / "b.csv"])
    assert summary.tally.accepted == 1
