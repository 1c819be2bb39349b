"""The tables of other libraries, as docs/library.md writes them: `make integrations` installs these."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from etl import Job, plan, run
from etl.sandbox import Sandbox
from tests.docs.pages import ROOT, table

pytestmark = pytest.mark.integrations

USERS = pa.table({"id": [f"user-{number}" for number in range(2000)], "plan": ["pro", "free"] * 1000})
ROWS = table(ROOT / "docs" / "library.md", "library")


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the expressions of the table use, in a folder with the same users in each format."""
    monkeypatch.chdir(tmp_path)
    polars, duckdb, deltalake, catalogs = (
        pytest.importorskip(name) for name in ("polars", "duckdb", "deltalake", "pyiceberg.catalog.sql")
    )
    deltalake.write_deltalake("delta", USERS)
    pq.write_to_dataset(USERS, "parquet", partition_cols=["plan"])
    catalog = catalogs.SqlCatalog("c", uri=f"sqlite:///{tmp_path}/c.db", warehouse=f"file://{tmp_path}/w")
    catalog.create_namespace("ns")
    iceberg = catalog.create_table("ns.users", schema=USERS.schema)
    iceberg.append(USERS)
    connection = duckdb.connect()
    connection.register("users", USERS)
    return {
        "frame": polars.from_arrow(USERS),
        "connection": connection,
        "DeltaTable": deltalake.DeltaTable,
        "iceberg": iceberg,
        "dataset": ds.dataset,
    }


@pytest.mark.parametrize(("expression", "again"), [(row[1], row[2]) for row in ROWS])
def test_every_table_arrives_whole(
    expression: str, again: str, names: dict[str, Any], tmp_path: Path, sandbox: Sandbox
) -> None:
    chosen = {"user_id": "id", "user_properties": {"plan": "plan"}}
    job = Job.of({"name": "tables", "identification": chosen}, folder=tmp_path)
    source = eval(expression, names)
    if again == "yes":
        assert plan(job, source).tally.accepted == 2000
    summary = run(job, source, key="any-key", endpoint=sandbox.url, rate=None)
    assert (summary.tally.rows, summary.tally.accepted, summary.status) == (2000, 2000, "finished")
    users: Any = sandbox.profiles.as_json()["users"]
    assert {user: profile["amp_props"]["plan"] for user, profile in users.items()} == dict(
        zip(USERS["id"].to_pylist(), USERS["plan"].to_pylist(), strict=True)
    )
    if again == "yes":
        assert run(job, source, key="any-key", endpoint=sandbox.url, again=True).tally.accepted == 0


def test_all_libraries_of_the_table_are_tried() -> None:
    assert {row[0].split(",")[0] for row in ROWS} >= {"Polars", "DuckDB", "Delta Lake", "Iceberg"}


def test_a_delta_table_itself_is_refused_with_what_to_give(names: dict[str, Any], tmp_path: Path) -> None:
    errors = import_module("etl.errors")
    job = Job.of({"name": "x", "identification": {"user_id": "id"}}, folder=tmp_path)
    with pytest.raises(errors.SourceError, match="DeltaTable"):
        plan(job, names["DeltaTable"]("delta"))
