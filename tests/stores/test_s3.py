"""Sources in S3, from two servers: the rows of files here, few requests, bounded waits, one version."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from etl.errors import SourceError
from etl.reader import open_source
from etl.reader.stores import Store
from etl.sandbox import Sandbox
from etl.tally import RowRange
from tests.commands import QUICK, Propsync
from tests.reader.reading import batches, rows_of
from tests.stores.conftest import Bucket
from tests.stores.servers import SECRET

pytestmark = pytest.mark.stores

JOB = """\
source: none.csv
identification:
  user_id: id
  user_properties: {name: name}
"""


def table(rows: int) -> pa.Table:
    return pa.table(
        {"id": [f"user-{i:08d}" for i in range(rows)], "name": [f"name {i * 7919}" for i in range(rows)]}
    )


def parquet(rows: int, group: int) -> bytes:
    found = io.BytesIO()
    pq.write_table(table(rows), found, row_group_size=group, compression="none", use_dictionary=False)
    return found.getvalue()


def csv(rows: int, word: str = "name") -> bytes:
    return b"id,name\n" + b"".join(b"user-%08d,%s %d\n" % (i, word.encode(), i) for i in range(rows))


def ndjson(rows: int) -> bytes:
    return b"".join(b"%b\n" % json.dumps(row).encode() for row in table(rows).to_pylist())


FILES = {
    "users.csv": csv(60_000),
    "users.csv.gz": gzip.compress(csv(60_000), 1),
    "users.csv.bz2": bz2.compress(csv(5_000)),
    "users.ndjson": ndjson(60_000),
    "users.parquet": parquet(60_000, 20_000),
    "users.parquet.gz": gzip.compress(parquet(5_000, 2_000), 1),
    "a=1/b c/ü+%20.csv": csv(3),
    "empty.csv": b"",
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is silent for a second is tried again at once."""
    monkeypatch.setattr("etl.reader.stores._TIMEOUT", 1.0)
    monkeypatch.setattr(
        Store.__init__, "__defaults__", ((0.0, 0.0, 0.0), *(Store.__init__.__defaults__ or ())[1:])
    )


def count(location: str) -> int:
    source = open_source([location])
    return sum(batch.rows.num_rows for file in range(len(source.files)) for batch in batches(source, file))


def test_rows_are_those_of_the_same_files_here(bucket: Bucket, tmp_path: Path) -> None:
    for name, data in FILES.items():
        bucket.put(name, data)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    here, there = open_source([tmp_path]), open_source([bucket.address()])
    assert [file.name for file in there.files] == [
        file.name.replace(str(tmp_path), "s3://exports") for file in here.files
    ]
    for file in range(len(FILES)):
        assert there.schema(file) == here.schema(file)
        assert rows_of(batches(there, file)) == rows_of(batches(here, file))
    found = [file.name for file in open_source([bucket.address("**/*.csv")]).files]
    assert found == ["s3://exports/a=1/b c/ü+%20.csv", "s3://exports/empty.csv", "s3://exports/users.csv"]


def test_an_object_that_marks_a_folder_is_a_folder(amazon: Bucket) -> None:
    amazon.put("in/users.csv", csv(3))
    system = fs.S3FileSystem(endpoint_override=amazon.proxy.address, scheme="http")
    with system.open_output_stream("exports/in", metadata={"Content-Type": "application/x-directory"}):
        pass
    assert count(amazon.address("in")) == 3


def test_a_parquet_file_needs_few_requests(rclone: Bucket) -> None:
    """Its version and its footer, its bytes and its version again, and the version in the end."""
    rclone.put("users.parquet", parquet(600_000, 50_000))
    source = open_source([rclone.address("users.parquet")])
    assert sum(batch.rows.num_rows for batch in batches(source)) == 600_000
    assert source.changed() is None
    assert [method for method, _, _ in rclone.proxy.requests] == ["HEAD", "GET", "GET", "HEAD", "HEAD"]


def test_a_folder_is_opened_and_read_some_files_ahead(rclone: Bucket) -> None:
    data = parquet(3_000, 1_000)
    for number in range(24):
        rclone.put(f"in/{number:02d}.parquet", data)
    rclone.proxy.delay = 0.2
    began = time.monotonic()
    assert count(rclone.address("in")) == 72_000
    assert len(rclone.proxy.requests) <= 1 + 24 * 4
    assert time.monotonic() - began < 0.2 * len(rclone.proxy.requests) / 2, "they wait beside each other"


def test_text_needs_few_requests(rclone: Bucket) -> None:
    data = csv(600_000)
    rclone.put("users.csv", data)
    assert count(rclone.address("users.csv")) == 600_000
    assert rclone.proxy.count("GET") <= 3
    assert rclone.proxy.count("HEAD") <= 4
    assert rclone.proxy.sent < len(data) * 1.1


# --- a bad network ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["users.csv", "users.csv.gz", "users.parquet"])
def test_a_cut_connection_goes_on(bucket: Bucket, name: str) -> None:
    data = FILES[name]
    bucket.put(name, data)
    bucket.proxy.cuts = [None, 100_000, 200_000, None, 50_000, 50_000, 70_000]
    assert count(bucket.address(name)) == 60_000


@pytest.mark.usefixtures("quick")
def test_a_read_that_stalls_goes_on(rclone: Bucket) -> None:
    rclone.put("users.csv", FILES["users.csv"])
    rclone.proxy.cuts, rclone.proxy.stalls = [None, 200_000], True
    assert count(rclone.address("users.csv")) == 60_000


@pytest.mark.usefixtures("quick")
def test_a_slow_store_is_waited_for(rclone: Bucket) -> None:
    rclone.put("users.csv", FILES["users.csv"])
    rclone.proxy.rate = 1_000_000.0
    assert count(rclone.address("users.csv")) == 60_000


@pytest.mark.usefixtures("quick")
def test_a_busy_store_is_asked_again(bucket: Bucket) -> None:
    bucket.put("users.csv", csv(10))
    bucket.proxy.statuses = [503, 0, 503, 500, 0, 503]
    assert count(bucket.address("users.csv")) == 10


@pytest.mark.usefixtures("quick")
def test_a_store_that_falls_silent_ends_the_read(rclone: Bucket) -> None:
    rclone.put("users.csv", csv(200_000))
    source = open_source([rclone.address("users.csv")])
    rclone.proxy.dead = True
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"the store doesn't answer at .*, 4 times in a row"):
        batches(source)
    assert time.monotonic() - began < 30


# --- one version -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["users.csv", "users.parquet"])
def test_an_object_that_is_replaced_ends_the_read(bucket: Bucket, name: str) -> None:
    is_csv = name == "users.csv"
    new = csv(900_000, "neue") if is_csv else parquet(700_000, 98_000)
    bucket.put(name, csv(900_000) if is_csv else parquet(700_000, 99_000))
    source = open_source([bucket.address(name)])

    def replace(method: str, path: str) -> None:
        if bucket.proxy.count("GET") == gets + (2 if is_csv else 1):
            bucket.proxy.before = None
            bucket.put(name, new)

    gets, bucket.proxy.before = bucket.proxy.count("GET"), replace
    seen: list[str] = []
    rows = (name for batch in source.read(RowRange(0)) for name in batch.rows["name"].to_pylist())
    with pytest.raises(SourceError, match="was replaced after it was opened"):
        seen.extend(rows)
    assert not [name for name in seen if name.startswith("neue")]


def test_a_run_resumes_the_same_object_only(bucket: Bucket, propsync: Propsync, sandbox: Sandbox) -> None:
    (propsync.folder / "job.yml").write_text(JOB)
    command = ("run", "job.yml", bucket.address("users.csv"), "--endpoint", sandbox.url, *QUICK, "--json")
    bucket.put("users.csv", csv(400))
    assert propsync(*command, "--limit", "100").summary["accepted"] == 100
    bucket.put("users.csv", csv(400))  # written again, with the same content
    assert propsync(*command).summary["rows"] == 400
    assert sandbox.stats.identifications == 400
    bucket.put("users.csv", csv(400, "other"))
    assert propsync(*command, "--limit", "100").code == 0
    bucket.put("users.csv", csv(400, "third"))
    finished = propsync(*command)
    assert finished.code == 0
    assert "was given up" in finished.err + finished.out or finished.summary["accepted"] == 400
    names = [profile.properties["name"] for profile in sandbox.profiles.users.values()]
    assert {str(name).partition(" ")[0] for name in names} == {"third"}
    written = [path.read_bytes() for path in propsync.folder.rglob("*") if path.is_file()]
    assert not [data for data in written if SECRET.encode() in data]


def test_a_process_of_its_own_reads_a_store(rclone: Bucket, propsync: Propsync, sandbox: Sandbox) -> None:
    """From 16 MB on, a forked process reads: it has a client of its own."""
    wide = pa.table({"id": table(20_000)["id"], "name": table(20_000)["name"], "bulk": ["x" * 900] * 20_000})
    found = io.BytesIO()
    pq.write_table(wide, found, row_group_size=3_000, compression="none", use_dictionary=False)
    rclone.put("wide.parquet", found.getvalue())
    (propsync.folder / "job.yml").write_text(JOB)
    command = ("run", "job.yml", rclone.address("wide.parquet"), "--endpoint", sandbox.url, *QUICK, "--json")
    assert propsync.process(*command).summary["accepted"] == 20_000
    assert len(rclone.proxy.requests) <= 6


# --- what is said ----------------------------------------------------------------------------------------


def test_what_is_wrong_is_said_with_exit_code_7(
    rclone: Bucket, propsync: Propsync, monkeypatch: pytest.MonkeyPatch
) -> None:
    rclone.put("users.csv", csv(3))
    (propsync.folder / "job.yml").write_text(JOB)
    at = rclone.proxy.address

    def said(location: str) -> str:
        finished = propsync("run", "job.yml", location, "--json")
        assert finished.code == 7
        return f"{finished.summary['reason']}\n{finished.summary['hint']}"

    assert f"has no key none.csv at {at}" in said(rclone.address("none.csv"))
    assert f"there is no bucket none at {at}" in said(f"s3://none/x.csv?scheme=http&endpoint_override={at}")
    assert "refuses connections" in said("s3://exports/x.csv?scheme=http&endpoint_override=127.0.0.1:1")
    assert "add scheme=http" in said(f"s3://exports/x.csv?endpoint_override={at}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    denied = said(rclone.address("users.csv"))
    assert "s3://exports/users.csv can't be read: access denied; credentials tried: environment" in denied
    assert "s3:GetObject" in denied
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no credentials found: environment (AWS_ACCESS_KEY_ID is not set)" in said(
        rclone.address("users.csv")
    )
    rclone.proxy.statuses = [301]
    assert "in another region" in said(rclone.address("users.csv"))
