"""Two stores, each with a bucket `exports`; `make stores` installs what they need."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyarrow import fs

from tests.stores.proxy import Proxy, proxied
from tests.stores.servers import KEY, SECRET, moto_store, rclone_store

collect_ignore_glob = [] if importlib.util.find_spec("moto") else ["test_*.py"]


@dataclass
class Bucket:
    """The bucket `exports` of a store, behind a proxy."""

    proxy: Proxy
    put: Callable[[str, bytes], None]

    def address(self, path: str = "", *settings: str) -> str:
        more = "&".join(
            (f"endpoint_override={self.proxy.address}", "scheme=http", "region=us-east-1", *settings)
        )
        return f"s3://exports{'/' * bool(path)}{path}?{more}"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    with moto_store() as address:
        yield address


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What rclone serves."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "exports").mkdir()
    return folder


@pytest.fixture
def rclone(folder: Path) -> Iterator[Bucket]:
    def put(path: str, data: bytes) -> None:
        (folder / "exports" / path).parent.mkdir(parents=True, exist_ok=True)
        draft = folder / "draft"
        draft.write_bytes(data)
        draft.rename(folder / "exports" / path)

    with rclone_store(folder) as address, proxied(Proxy(address)) as proxy:
        yield Bucket(proxy, put)


@pytest.fixture
def amazon(moto: str) -> Iterator[Bucket]:
    """Of moto."""
    system = fs.S3FileSystem(
        endpoint_override=moto, scheme="http", allow_bucket_creation=True, allow_bucket_deletion=True
    )
    system.create_dir("exports")

    def put(path: str, data: bytes) -> None:
        with system.open_output_stream(f"exports/{path}", compression=None) as stream:
            stream.write(data)

    with proxied(Proxy(moto)) as proxy:
        yield Bucket(proxy, put)
    system.delete_dir("exports")


@pytest.fixture(params=["amazon", "rclone"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """Of each of the two."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Bucket)
    return found
