"""A row that no request can hold is remembered: a resumed run sends what an undisturbed one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl import Job, run
from etl.errors import TooManyRejectsError
from etl.pipeline.settings import RejectLimit
from etl.sandbox import SandboxOptions, running_sandbox

WIDE = [10**17] * 60_000
DOCUMENT = {
    "name": "t",
    "identification": {
        "user_id": "id",
        "user_properties": {"plan": "plan", "wide": {"column": "wide", "type": "list"}},
    },
}


def rows(*users: tuple[str, str, list[int] | None]) -> pa.Table:
    """Of each user a plan, and a list that is too big for a request or none."""
    ids, plans, lists = zip(*users, strict=True)
    return pa.table({"id": ids, "plan": plans, "wide": pa.array(lists, pa.list_(pa.int64()))})


@pytest.mark.parametrize(
    ("stopped", "processes"),
    [(stopped, processes) for stopped in (False, True) for processes in (1, 2)],
)
def test_a_later_row_of_its_user_goes_also_after_a_resume(
    stopped: bool, processes: Literal[1, 2], tmp_path: Path
) -> None:
    job = Job.of(DOCUMENT, folder=tmp_path)
    second = tmp_path / "second.parquet"
    later = (("ada-1", "wide", WIDE), ("bob-1", "new", None), ("ada-1", "old", None), ("cid-1", "new", None))
    pq.write_table(rows(*later), second)
    with running_sandbox(SandboxOptions()) as sandbox:
        how: dict[str, Any] = {"key": "k" * 10, "endpoint": sandbox.url, "rate": None, "batch_size": 1}
        first = rows(*((user, "old", None) for user in ("ada-1", "bob-1", "cid-1")))
        run(job, first, **how, processes=1)
        if stopped:
            limit = RejectLimit(count=0)
            with pytest.raises(TooManyRejectsError):
                run(job, str(second), **how, processes=processes, max_rejects=limit, concurrency=1)
        tally = run(job, str(second), **how, processes=processes).tally
    assert (tally.accepted, tally.unchanged, tally.rejected) == (3, 0, 1)
