"""All contenders get the same users, on any machine and in any number."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from bench.data import FIELDS, groups, job, write
from bench.recorder import FIELDS as RECORDED_FIELDS
from bench.stages import FIELDS as STAGE_FIELDS
from etl.job.spec import parse_job


def test_a_shorter_file_is_the_beginning_of_a_longer_one() -> None:
    (short,), (long, more) = groups(2_000), groups(100_003)
    assert long.slice(0, 2_000).equals(short)
    assert (len(long), len(more)) == (100_000, 3)


def test_ids_never_come_twice() -> None:
    ids = [user for table in groups(200_000) for user in table["id"].to_pylist()]
    assert len(set(ids)) == 200_000


@pytest.mark.parametrize("users", ["", "names."])
def test_all_formats_hold_the_same_users(tmp_path: Path, users: str) -> None:
    for ending in ("parquet", "csv", "expected"):
        write(tmp_path / f"users.{users}{ending}", 1_000)
    parquet = pq.read_table(tmp_path / f"users.{users}parquet").to_pylist()
    expected = [json.loads(line) for line in (tmp_path / f"users.{users}expected").read_text().splitlines()]
    parsing = pa_csv.ParseOptions(newlines_in_values=True)
    csv = pa_csv.read_csv(tmp_path / f"users.{users}csv", parse_options=parsing).to_pylist()
    assert len(parquet) == 1_000
    assert parquet == expected == csv


def test_half_of_the_texts_of_people_are_outside_ascii_and_the_same_in_ascii(tmp_path: Path) -> None:
    (names,), (latin,) = groups(10_000, 0), groups(10_000, 1)
    texts = [name for name in names.schema.names if names[name].type == pa.string() and name != "id"]
    found = [text for name in texts for text in names[name].to_pylist()]
    assert sum(not text.isascii() for text in found) / len(found) == pytest.approx(0.5, abs=0.03)
    assert {*'"&+%\n\r'} <= set("".join(found))
    assert all(text.isascii() for name in texts for text in latin[name].to_pylist())
    assert names.drop_columns(texts).equals(latin.drop_columns(texts))
    for name in texts:  # each text in ASCII has one as people write it, so they repeat in the same places
        assert len(set(zip(names[name].to_pylist(), latin[name].to_pylist(), strict=True))) == len(
            set(names[name].to_pylist())
        )


@pytest.mark.parametrize("users", ["plain", "names"])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_the_job_sends_every_column(kind: str, users: str) -> None:
    (table,) = groups(1, None if users == "plain" else 0)
    parsed = parse_job(json.dumps(job(users, kind)), name="job.yml", folder=Path())
    assert set(parsed.identification.columns()) == set(table.schema.names)
    assert parsed.name == f"bench-{users}-{kind}-off"
    assert len(table.schema) == 14


def test_a_wide_file_has_so_many_columns(tmp_path: Path) -> None:
    write(tmp_path / "users.wide.parquet", 3)
    table = pq.read_table(tmp_path / "users.wide.parquet")
    assert table.shape == (3, 12_001)


def test_everyone_means_the_same_fields() -> None:
    assert FIELDS == RECORDED_FIELDS == STAGE_FIELDS
