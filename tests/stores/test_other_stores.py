"""Sources in Google Cloud Storage and Azure, from the emulators of both: rows, versions, and what is said."""

from __future__ import annotations

import base64
import gzip
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyarrow import fs

from etl.errors import SourceError
from etl.reader import open_source
from etl.sandbox import Sandbox
from etl.tally import RowRange
from tests.commands import QUICK, Propsync
from tests.reader.reading import batches, rows_of
from tests.stores.servers import started
from tests.stores.test_s3 import JOB, csv, parquet

pytestmark = pytest.mark.stores

OBJECTS = {
    "in/a.csv": csv(2_000),
    "in/b/c.csv.gz": gzip.compress(csv(2_000)),
    "in/b/d.parquet": parquet(2_000, 500),
    "late/ü +%.csv": csv(3),
}
ACCOUNT, KEY = "exampleaccount", base64.b64encode(b"no key of anybody").decode()


@dataclass
class Emulated:
    """The bucket or container `exports`; `begin` and `settings` stand around its name in an address."""

    scheme: str
    begin: str
    settings: str
    server: str
    system: fs.FileSystem

    def address(self, path: str, bucket: str = "exports") -> str:
        return f"{self.scheme}://{self.begin}{bucket}/{path}?{self.settings}"

    def put(self, path: str, data: bytes) -> None:
        with self.system.open_output_stream(f"exports/{path}", compression=None) as stream:
            stream.write(data)


@pytest.fixture(scope="module")
def google() -> Iterator[Emulated]:
    words = ["start", "--host={host}", "--port={port}", "--in-memory", "--default-bucket=exports"]
    with started("gcp-storage-emulator", *words) as server:
        system = fs.GcsFileSystem(anonymous=True, endpoint_override=server, scheme="http")
        settings = f"endpoint_override={server}&scheme=http&retry_limit_seconds=3"
        yield Emulated("gs", "anonymous@", settings, server, system)


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    if shutil.which("azurite-blob") is None:
        pytest.skip("azurite-blob is not installed; npm install --global azurite")
    words = ["--blobHost", "{host}", "--blobPort", "{port}", "--skipApiVersionCheck", "--disableTelemetry"]
    words += ["--silent", "--location", str(tmp_path_factory.mktemp("azurite"))]
    with started("azurite-blob", *words, AZURITE_ACCOUNTS=f"{ACCOUNT}:{KEY}") as server:
        places = {f"{kind}_storage_{what}": {"authority": server, "scheme": "http"}[what]
                  for kind in ("blob", "dfs") for what in ("authority", "scheme")}  # fmt: skip
        system = fs.AzureFileSystem(ACCOUNT, account_key=KEY, **places)
        system.create_dir("exports")
        yield Emulated("abfs", f"{ACCOUNT}@{server}/", "enable_tls=false", server, system)


@pytest.fixture(params=["google", "azure"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Emulated:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Emulated)
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    return found


def test_rows_are_those_of_the_same_files_here(bucket: Emulated, tmp_path: Path) -> None:
    for name, data in OBJECTS.items():
        bucket.put(name, data)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    here, there = open_source([tmp_path]), open_source([bucket.address("in"), bucket.address("late/*.csv")])
    names = [file.name.replace(str(tmp_path), f"{bucket.scheme}://exports") for file in here.files]
    assert [file.name for file in there.files] == names
    for file in range(len(OBJECTS)):
        assert there.schema(file) == here.schema(file)
        assert rows_of(batches(there, file)) == rows_of(batches(here, file))
    assert there.changed() is None


@pytest.mark.parametrize("name", ["users.csv", "users.parquet"])
def test_a_run_that_is_resumed_sends_every_row_once(
    bucket: Emulated, propsync: Propsync, sandbox: Sandbox, name: str
) -> None:
    (propsync.folder / "job.yml").write_text(JOB)
    command = ("run", "job.yml", bucket.address(name), "--endpoint", sandbox.url, *QUICK, "--json")
    bucket.put(name, csv(3_000) if name == "users.csv" else parquet(3_000, 1_000))
    assert propsync(*command, "--limit", "100").summary["accepted"] == 100
    assert propsync(*command).summary["accepted"] == 3_000
    assert sandbox.stats.identifications == 3_000
    written = [path.read_bytes() for path in propsync.folder.rglob("*") if path.is_file()]
    assert not [data for data in written if KEY.encode() in data]


@pytest.mark.parametrize("name", ["changes.csv", "changes.parquet"])
def test_an_object_that_is_replaced_ends_the_read(bucket: Emulated, name: str) -> None:
    is_csv = name == "changes.csv"
    bucket.put(name, csv(60_000) if is_csv else parquet(60_000, 9_000))
    source = open_source([bucket.address(name)])
    bucket.put(name, csv(60_001, "neue") if is_csv else parquet(60_001, 9_000))
    with pytest.raises(SourceError, match="was replaced after it was opened"):
        next(source.read(RowRange(0)))
    assert "was replaced after it was opened" in (source.changed() or "")


def test_what_is_wrong_is_said(bucket: Emulated, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(address: str) -> str:
        with pytest.raises(SourceError) as caught:
            open_source([address])
        return caught.value.message

    bucket.put("there.csv", csv(3))
    name = bucket.scheme
    assert said(bucket.address("none.csv")) == (
        f"{name}://exports/none.csv can't be read: the bucket exports has no key none.csv at {bucket.server}"
    )
    assert f"there is no bucket other at {bucket.server}" in said(bucket.address("none.csv", "other"))
    if name == "abfs":
        for wrong in ("bm90IHRoZSBrZXk=", "no base 64"):
            monkeypatch.setenv("AZURE_STORAGE_KEY", wrong)
            assert "access denied; credentials tried: environment (AZURE_STORAGE_KEY)" in said(
                bucket.address("there.csv")
            )
        monkeypatch.delenv("AZURE_STORAGE_KEY")
    without = bucket.address("there.csv").replace("anonymous@", "")
    assert "access denied; no credentials found: environment" in said(without)
