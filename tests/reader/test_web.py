"""Files at web addresses, from a real server that only sends whole files."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.errors import SourceError
from etl.reader import open_source
from tests.reader.reading import batches, rows_of, written


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test's output clean."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("fsspec")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_reads_csv_again_and_again(tmp_path: Path, address: str) -> None:
    path = written(tmp_path, "d/users.csv", "id,n\n" + "".join(f"{i},{i}\n" for i in range(1, 9001)))
    source = open_source([f"{address}/d/users.csv?token=secret"])
    (file,) = source.files
    assert file.name == f"{address}/d/users.csv"
    assert file.size == path.stat().st_size
    assert file.modified == int(path.stat().st_mtime) * 10**9
    for _ in range(2):
        assert rows_of(batches(source))[9000] == {"id": "9000", "n": "9000"}
    assert source.changed() is None


def test_sees_that_the_file_was_replaced(tmp_path: Path, address: str) -> None:
    written(tmp_path, "users.csv", "id\n1\n")
    source = open_source([f"{address}/users.csv"])
    written(tmp_path, "users.csv", "id\n1\n2\n")
    assert "bytes when it was opened" in str(source.changed())


def test_reads_parquet_from_a_copy(tmp_path: Path, address: str) -> None:
    table = pa.table({"n": list(range(5000))})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=700)
    source = open_source([f"{address}/x.parquet"])
    assert source.total_rows() == 5000
    assert list(rows_of(batches(source, 0, 4001, 4003)).values()) == [{"n": 4000}, {"n": 4001}]
    assert source.changed() is None


@pytest.mark.parametrize("path", ["none.csv", "none.csv?token=secret"])
def test_what_is_not_there_is_named_without_secrets(address: str, path: str) -> None:
    with pytest.raises(SourceError, match=r"none\.csv is not there") as caught:
        open_source([f"{address}/{path}"])
    assert "secret" not in str(caught.value)


def test_a_server_that_is_down_is_an_error() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(SourceError, match=r"http://127\.0\.0\.1:1/x\.csv") as caught:
        open_source(["http://user:secret@127.0.0.1:1/x.csv"])
    assert "secret" not in str(caught.value)


def test_without_the_extra_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(SourceError, match="remote") as caught:
        open_source(["https://127.0.0.1/x.csv"])
    assert caught.value.hint == "install it with: pip install 'propsync[remote]'"
