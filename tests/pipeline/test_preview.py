"""Preview: the first identifications, those of a user, and a sample that is the same for one seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from etl import Job
from etl.pipeline.preview import PreviewedRow, first_rows, sampled_rows
from etl.reader import Source, open_source
from tests.pipeline.nights import Row, job_in, users, write

BOTH = {"user_id": "id", "device_id": "device", "user_properties": {"plan": "plan"}}


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    rows = users(range(60))
    rows[10] |= {"id": "x"}  # a reject
    return [str(write(tmp_path / f"{n}.ndjson", part)) for n, part in enumerate((rows[:25], rows[25:]))]


def source_of(paths: list[str], batch_rows: int = 7) -> Source:
    return open_source(paths, batch_rows=batch_rows)


def places(rows: list[PreviewedRow]) -> list[tuple[int, int]]:
    """File and row of each, which its identification must be of."""
    found = [(int(Path(row.source).stem), row.row) for row in rows]
    ids = [int(json.loads(row.json)["user_id"].removeprefix("user-")) for row in rows]
    assert ids == [file * 25 + row - 1 for file, row in found]
    return found


@pytest.mark.parametrize("count", [1, 7, 8, 24, 26, 59, 100])
def test_the_first_rows_come_with_their_places(paths: list[str], count: int, tmp_path: Path) -> None:
    every = [(n // 25, n % 25 + 1) if n < 25 else (1, n - 24) for n in range(60) if n != 10]
    assert places(list(first_rows(job_in(tmp_path), source_of(paths), count=count))) == every[:count]


def test_a_user_is_looked_for_in_all_of_the_source(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"id": f"user-{n % 9}", "device": f"device-{n % 5}", "plan": str(n)} for n in range(90)
    ]
    rows[4]["id"] = None
    job, path = job_in(tmp_path, BOTH), write(tmp_path / "0.ndjson", rows)

    def rows_of(user: str, count: int | None = None) -> list[int]:
        return [row.row - 1 for row in first_rows(job, source_of([str(path)]), count=count, user=user)]

    assert rows_of("user-4") == [n for n in range(90) if n % 9 == 4 and n != 4]
    assert rows_of("device-4") == [n for n in range(90) if n % 5 == 4]
    assert rows_of("user-1", 3) == [1, 10, 19]
    assert rows_of("nobody") == []


@pytest.mark.parametrize("count", [1, 10, 59, 70])
def test_a_sample_depends_on_its_seed_alone(paths: list[str], count: int, tmp_path: Path) -> None:
    def sample(seed: int, batch_rows: int) -> list[tuple[int, int]]:
        job: Job = job_in(tmp_path)
        return places(list(sampled_rows(job, source_of(paths, batch_rows), count=count, seed=seed)))

    assert sample(1, 7) == sample(1, 60) == sorted(sample(1, 3))
    assert len(set(sample(1, 7))) == min(count, 59)
    assert count >= 59 or sample(1, 7) != sample(2, 7)


def test_every_row_has_the_same_chance(paths: list[str], tmp_path: Path) -> None:
    job, source = job_in(tmp_path), source_of(paths)
    drawn = [row.row + 25 * int(Path(row.source).stem == "1") for seed in range(40)
             for row in sampled_rows(job, source, count=12, seed=seed)]  # fmt: skip
    counts = [drawn.count(number) for number in range(1, 61) if number != 11]
    assert min(counts) > 1  # 8 on average
    assert max(counts) < 20
