"""A stream comes only once: read a second time it is an error, and never one without rows."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl import Job, plan, preview, run
from etl.errors import SourceError
from etl.model import RowRange
from etl.reader import open_source
from etl.sandbox import Sandbox

TABLE = pa.table({"id": ["user-1", "user-2"], "plan": ["a", "b"]})
IDENTIFICATION = {"user_id": "id", "user_properties": {"plan": "plan"}}


class Once:
    """Another library's stream, which lets itself be asked again and then has nothing."""

    def __init__(self, table: pa.Table) -> None:
        self._reader = table.to_reader()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._reader.__arrow_c_stream__(requested_schema)


class Again:
    """One that hands out a new stream each time."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return TABLE.to_reader().__arrow_c_stream__(requested_schema)


def job_in(folder: Path) -> Job:
    return Job.of({"name": "job", "identification": IDENTIFICATION}, folder=folder)


@pytest.mark.parametrize("make", [lambda: TABLE.to_reader(), lambda: Once(TABLE)], ids=["reader", "other"])
@pytest.mark.parametrize("first", ["plan", "run", "preview"])
def test_a_stream_that_was_read_is_no_source(tmp_path: Path, sandbox: Sandbox, make: Any, first: str) -> None:
    job, stream = job_in(tmp_path), make()
    sending: dict[str, Any] = {"key": "any-key", "endpoint": sandbox.url, "rate": None}
    if first == "plan":
        assert plan(job, stream).tally.rows == 2
    elif first == "preview":
        assert list(preview(job, stream, count=1))
    else:
        assert run(job, stream, **sending).tally.rows == 2
    requests = sandbox.stats.requests
    for _ in range(2):
        with pytest.raises(SourceError, match="read already") as caught:
            run(job, stream, **sending)
        assert "read_all" in str(caught.value.hint)
    assert caught.value.exit_code == 7
    assert sandbox.stats.requests == requests


def test_looking_at_its_columns_is_not_reading_it(tmp_path: Path) -> None:
    reader = TABLE.to_reader()
    assert open_source([reader]).schema().names == ["id", "plan"]
    assert plan(job_in(tmp_path), reader).tally.rows == 2


def test_what_hands_out_a_new_stream_each_time_may_be_read_again(tmp_path: Path) -> None:
    given = Again()
    assert [plan(job_in(tmp_path), given).tally.rows for _ in range(3)] == [2, 2, 2]


def test_a_fresh_stream_without_rows_is_one(tmp_path: Path) -> None:
    assert plan(job_in(tmp_path), TABLE.schema.empty_table().to_reader()).tally.rows == 0


def test_nothing_is_remembered_of_streams_that_are_gone() -> None:
    from etl.reader import memory

    before = len(memory._spent._found)
    for _ in range(20):
        list(open_source([TABLE.to_reader()]).read(RowRange(0)))
    gc.collect()
    assert len(memory._spent._found) <= before + 1
