"""A source of thousands of columns takes as much longer as it has more of them, in every first look."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from etl.init import propose_job
from etl.job.spec import parse_job
from etl.pipeline.plan import plan_job
from etl.pipeline.preview import first_rows
from etl.pipeline.settings import Settings
from etl.reader import open_source

JOB = "identification: {user_id: id, user_properties: {one: c1, two: c2}}\nsource: x\n"
FEW, MANY = 1_000, 6_000


def seconds(action: Callable[[], object]) -> float:
    begin = time.process_time()
    action()
    return time.process_time() - begin


@pytest.mark.soak  # it is timed
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_time_grows_no_faster_than_columns(tmp_path: Path, ending: str) -> None:
    job = parse_job(JOB, name="job.yml", folder=tmp_path)
    took: dict[str, list[float]] = {}
    for count in (FEW, MANY):
        columns: dict[str, Any] = {"id": [f"user-{row}" for row in range(20)]}
        dates = pa.array([date(2026, 1, 1 + row) for row in range(20)])
        columns |= {f"c{n}": dates if n % 2 else [f"{n} {row}" for row in range(20)] for n in range(count)}
        path = tmp_path / f"{count}.{ending}"
        {"csv": pc.write_csv, "parquet": pq.write_table}[ending](pa.table(columns), path)
        for name, look in {
            "check": lambda path=path: plan_job(job, open_source([str(path)]), settings=Settings()),
            "preview": lambda path=path: list(first_rows(job, open_source([str(path)]), count=5)),
            "init": lambda path=path: propose_job([str(path)], None),
        }.items():
            took.setdefault(name, []).append(seconds(look))
    # A step of which each column's share grows with the columns would take 36 times as long.
    assert [name for name, (few, many) in took.items() if many / few > 1.6 * MANY / FEW] == [], took
