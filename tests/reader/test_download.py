"""Files at web addresses, from real servers, on good days and bad ones."""

from __future__ import annotations

import ssl
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trustme

from etl.errors import SourceError, StateError
from etl.reader import open_source
from etl.reader.discovery import public_address
from etl.reader.download import WebFile
from etl.tally import RowRange
from tests.reader.reading import batches, rows_of, written
from tests.reader.web_server import Behaviour, serving


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test's output clean."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
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
    with pytest.raises(SourceError, match=r"http://127\.0\.0\.1:1/x\.csv") as caught:
        open_source(["http://user:secret@127.0.0.1:1/x.csv"])
    assert "secret" not in str(caught.value)


DATA = b"id,n\n" + b"".join(b"user-%06d,%d\n" % (n, n) for n in range(20_000))
SILENCE, WAITS = 0.3, (0.0, 0.0, 0.0)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are made: nothing may be left there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def fetched(address: str) -> bytes:
    with closing(WebFile(public_address(address), address, SILENCE, WAITS).open()) as stream:
        return bytes(stream.read())


BAD_DAYS = {
    "good": Behaviour(DATA),
    "slow, but never silent": Behaviour(DATA[:20_480], pause=0.03),
    "broken off": Behaviour(DATA, breaks=[5_000, 100_000, 1]),
    "broken off, whole files only": Behaviour(DATA, breaks=[5_000, 100_000], parts=False),
    "broken off, without a tag": Behaviour(DATA, breaks=[5_000, 100_000], tag=None),
    "broken off, with a weak tag": Behaviour(DATA, breaks=[5_000], tag='W/"one"'),
    "broken off in chunks": Behaviour(DATA, breaks=[5_000, 100_000], chunked=True),
    "silent": Behaviour(DATA, breaks=[5_000, 100_000], stalls=True),
    "empty": Behaviour(b""),
}


@pytest.mark.parametrize("day", BAD_DAYS)
def test_all_of_it_comes_on_a_bad_day(day: str, temporary: Path) -> None:
    how = BAD_DAYS[day]
    with serving(how) as address:
        begun = time.monotonic()
        assert fetched(address) == how.data
        if how.pause:
            assert time.monotonic() - begun > 1.5 * SILENCE  # no total time is too long
    assert list(temporary.iterdir()) == []


def test_what_was_read_is_not_fetched_again_and_needs_no_server() -> None:
    how = Behaviour(DATA)
    with serving(how) as address:
        source = open_source([address])
        source.fetch()
        assert source.changed() is None
        assert len(how.asked) == 2
        how.status = 403  # as of an address that was signed for an hour
        assert source.changed() is None
    for _ in range(2):
        assert len(rows_of(batches(source))) == 20_000


def test_a_look_does_not_fetch_everything() -> None:
    how = Behaviour(b"id,n\n" + b"user-000001,1\n" * 1_600_000)
    with serving(how) as address:
        source = open_source([address])
        first = next(iter(source.read(RowRange(0))))
        assert first.rows.num_rows == 16_384
        (entry,) = source._entries
        assert isinstance(entry.reader.input_file, WebFile)
        assert entry.reader.input_file.size < len(how.data)


OTHERS = {
    "of another content": DATA.replace(b"user-000003", b"user-000004"),
    "longer": DATA + b"x",
    "shorter": DATA[:-1],
}
# Of a part without a tag or a time, of a file as long as before, nothing tells that it is another's.
TOLD = [
    (parts, tag, other)
    for parts in (True, False)
    for tag in ('"one"', None)
    for other in OTHERS
    if not parts or tag or other != "of another content"
]


@pytest.mark.parametrize(("parts", "tag", "other"), TOLD)
def test_another_file_is_never_taken_for_the_rest(parts: bool, tag: str | None, other: str) -> None:
    how = Behaviour(DATA, breaks=[100_000], parts=parts, tag=tag)
    with serving(how) as address:
        web = WebFile(public_address(address), address, SILENCE, WAITS)
        web.state()
        how.data, how.tag = OTHERS[other], tag and '"two"'
        with pytest.raises(SourceError, match="changed while it was being read"):
            web.fetch()


ENDLESS = {
    "whole files only": (Behaviour(DATA, breaks=[50_000] * 9, parts=False), "4 times in a row"),
    "another part": (Behaviour(DATA, breaks=[5_000], shift=7), "the server sent another part of it"),
    "too big": (Behaviour(DATA, told_size=1 << 60), "there is no room in"),
    "forbidden": (Behaviour(DATA, status=403), "the server answered 403 Forbidden"),
    "overloaded": (Behaviour(DATA, status=503), "the server answered 503"),
    "gone": (Behaviour(DATA, status=410), "is not there"),
    "silent from the start": (Behaviour(DATA, breaks=[0], stalls=True), "the server doesn't answer"),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_what_can_not_be_fetched_says_why(case: str) -> None:
    how, words = ENDLESS[case]
    with serving(how) as address, pytest.raises((SourceError, StateError), match=words) as caught:
        fetched(f"{address}?token=secret")
    assert "users.csv" in caught.value.message
    assert "secret" not in str(caught.value)
    assert caught.value.hint


def test_a_company_s_certificates_are_trusted_where_ssl_cert_file_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "company.pem"))
    written(tmp_path, "users.csv", "id\n1\n")
    monkeypatch.setattr(ThreadingHTTPServer, "handle_error", lambda *_: None)  # when the client leaves
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"https://127.0.0.1:{server.server_port}/users.csv"
        with pytest.raises(SourceError, match="certificate is not valid: unable to get local") as caught:
            open_source([address])
        assert "SSL_CERT_FILE" in (caught.value.hint or "")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "company.pem"))
        assert rows_of(batches(open_source([address])))[1] == {"id": "1"}
        server.shutdown()


def test_credentials_of_the_address_are_for_its_server_alone() -> None:
    how, other = Behaviour(b"id\nuser-1\n"), Behaviour(b"")
    with serving(how) as address, serving(other) as elsewhere:
        secret = address.replace("http://", "http://bob:p%40ss@")
        assert fetched(secret) == how.data
        assert how.asked[0]["Authorization"] == f"Basic {b64encode(b'bob:p@ss').decode()}"
        how.redirect = elsewhere
        fetched(secret)
    assert "Authorization" not in other.asked[0]


def test_an_address_may_have_spaces_and_letters_outside_ascii(tmp_path: Path, address: str) -> None:
    written(tmp_path, "größer als x.csv", "id\nuser-1\n")
    assert fetched(f"{address}/größer als x.csv") == fetched(f"{address}/gr%C3%B6%C3%9Fer%20als%20x.csv")


def test_without_room_for_a_copy_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with serving(Behaviour(DATA)) as address, pytest.raises(StateError, match="temporary file") as caught:
        open_source([address])
    assert "TMPDIR" in str(caught.value.hint)
