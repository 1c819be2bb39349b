"""Generated exports: a numbered user on each row, and the job that sends them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

JOB = """\
identification:
  user_id: id
  user_properties:
    plan: plan
    score: {column: score, type: number}
"""


def rows(count: int) -> list[dict[str, Any]]:
    """`count` rows, one user each."""
    return [
        {"id": f"user-{number:06}", "plan": f"plan {number % 7}", "score": number / 4}
        for number in range(1, count + 1)
    ]


def expected(count: int) -> dict[str, dict[str, Any]]:
    """The properties of each user after all rows."""
    return {row["id"]: {"plan": row["plan"], "score": row["score"]} for row in rows(count)}


def write_job(folder: Path, text: str = JOB, *, name: str = "job.yml", source: str | None = None) -> Path:
    """A job file in the folder."""
    path = folder / name
    path.write_text(text if source is None else f"source: {source}\n{text}")
    return path


def write_csv(path: Path, count: int, *, bad: tuple[int, ...] = ()) -> Path:
    """A CSV file in which the rows with these numbers have a score that is not a number."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "plan", "score"])
        writer.writeheader()
        for number, row in enumerate(rows(count), 1):
            writer.writerow(row | {"score": "much"} if number in bad else row)
    return path


def write_parquet(path: Path, count: int, *, group_rows: int) -> Path:
    """A Parquet file with row groups of this size."""
    pq.write_table(pa.Table.from_pylist(rows(count)), path, row_group_size=group_rows)
    return path
