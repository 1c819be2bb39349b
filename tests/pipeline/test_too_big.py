"""A row that no request can hold is remembered: a resumed run sends what an undisturbed one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl import Job, run
from etl.errors import TooManyRejectsError
from etl.pipeline import RejectLimit
from etl.sandbox import SandboxOptions, running_sandbox

PARTS = [f"part_{number:03d}" for number in range(940)]
DOCUMENT = {
    "name": "t",
    "identification": {"user_id": "id", "user_properties": {part: part for part in PARTS}},
}


def rows(*users: tuple[str, str | None, str]) -> pa.Table:
    """Of each user a text that stands in all parts, or None for one that stands only in the first."""
    columns = {"id": pa.array([user for user, _, _ in users])}
    for place, part in enumerate(PARTS):
        texts = [wide if wide is not None else narrow if place == 0 else None for _, wide, narrow in users]
        columns[part] = pa.array(texts, pa.string())
    return pa.table(columns)


@pytest.mark.parametrize(
    ("stopped", "processes"),
    [
        (False, 1),
        (True, 2),
        pytest.param(False, 2, marks=pytest.mark.soak),
        pytest.param(True, 1, marks=pytest.mark.soak),
    ],
)
def test_a_later_row_of_its_user_goes_also_after_a_resume(
    stopped: bool, processes: Literal[1, 2], tmp_path: Path
) -> None:
    job = Job.of(DOCUMENT, folder=tmp_path)
    second = tmp_path / "second.parquet"
    pq.write_table(
        rows(
            ("ada-1", "w" * 1000, ""), ("bob-1", None, "new"), ("ada-1", None, "old"), ("cid-1", None, "new")
        ),
        second,
    )
    with running_sandbox(SandboxOptions()) as sandbox:
        how: dict[str, Any] = {"key": "k" * 10, "endpoint": sandbox.url, "rate": None, "batch_size": 1}
        first = rows(("ada-1", None, "old"), ("bob-1", None, "old"), ("cid-1", None, "old"))
        run(job, first, **how, processes=1)
        if stopped:
            limit = RejectLimit(count=0)
            with pytest.raises(TooManyRejectsError):
                run(job, str(second), **how, processes=processes, max_rejects=limit, concurrency=1)
        tally = run(job, str(second), **how, processes=processes).tally
    assert (tally.accepted, tally.unchanged, tally.rejected) == (3, 0, 1)
