"""All contenders get the same users, on any machine and in any number."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from bench.data import COUNTS, FIELDS, NUMBERS, PROPERTIES, groups, job, write
from bench.recorder import FIELDS as RECORDED_FIELDS
from bench.stages import FIELDS as STAGE_FIELDS
from etl.job import parse_job


def test_a_shorter_file_is_the_beginning_of_a_longer_one() -> None:
    (short,), (long, more) = groups(2_000), groups(100_003)
    assert long.slice(0, 2_000).equals(short)
    assert (len(long), len(more)) == (100_000, 3)


def test_ids_never_come_twice() -> None:
    ids = [user for table in groups(200_000) for user in table["id"].to_pylist()]
    assert len(set(ids)) == 200_000


def test_all_formats_hold_the_same_users(tmp_path: Path) -> None:
    for ending in ("parquet", "csv", "expected"):
        write(tmp_path / f"users.{ending}", 1_000)
    parquet = pq.read_table(tmp_path / "users.parquet").to_pylist()
    expected = [json.loads(line) for line in (tmp_path / "users.expected").read_text().splitlines()]
    csv = pa_csv.read_csv(tmp_path / "users.csv").to_pylist()
    assert len(parquet) == 1_000
    assert parquet == expected == csv


def test_one_file_has_texts_outside_ascii_and_the_others_none(tmp_path: Path) -> None:
    for name in ("users.parquet", "users.world.parquet"):
        write(tmp_path / name, 1_000)
    plain, world = (pq.read_table(tmp_path / name) for name in ("users.parquet", "users.world.parquet"))
    assert all(text.isascii() for text in plain["language"].to_pylist())
    assert {"Português", "日本語"} < set(world["language"].to_pylist())
    assert plain.drop_columns("language").equals(world.drop_columns("language"))


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_the_job_sends_every_column(kind: str) -> None:
    (table,) = groups(1)
    parsed = parse_job(json.dumps(job(kind)), name="job.yml", folder=Path())
    assert {"id", *FIELDS, *PROPERTIES} == set(table.schema.names)
    assert parsed.name == f"bench-{kind}"
    assert len(table.schema) == 14
    assert {*NUMBERS, *COUNTS} < set(PROPERTIES)


def test_everyone_means_the_same_fields() -> None:
    assert FIELDS == RECORDED_FIELDS == STAGE_FIELDS
