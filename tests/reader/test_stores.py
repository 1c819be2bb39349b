"""Stores: the same names, rows and laws as with files here, in few requests, and one version of an object."""

from __future__ import annotations

import gzip
import io
import threading
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from etl.errors import ExitCode, SourceError
from etl.reader import open_source
from etl.reader.file_reader import ReadOptions, RowSpans
from etl.reader.parquet_reader import ParquetReader, merge_ranges
from etl.reader.store_file import StoreFile
from etl.reader.stores import Store, list_google_folder, open_store, store_error
from etl.tally import RowRange
from tests.examples import each_row
from tests.reader.memory_store import MemoryStore, store
from tests.reader.reading import batches, rows_of

__all__ = ["store"]

SILENT = OSError("AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 28, Timeout was reached")
LOST = OSError("AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 7, Could not connect")
DENIED = OSError("AWS Error ACCESS_DENIED during GetObject operation: No response body.")
CSV = b"id,name\n" + b"".join(b"%d,%s\n" % (row, b"x" * 90) for row in range(200_000))


def parquet(rows: int, group: int, columns: int = 3) -> bytes:
    found = io.BytesIO()
    table = pa.table(
        {"id": list(range(rows))} | {f"c{n}": [f"{n}-{i}" for i in range(rows)] for n in range(columns)}
    )
    pq.write_table(table, found, row_group_size=group, compression="none", use_dictionary=False)
    return found.getvalue()


def file_of(memory: MemoryStore, path: str) -> StoreFile:
    client = Store("s3", "", lambda: memory, waits=(0, 0, 0))
    info = memory.get_file_info(path)
    assert isinstance(info, fs.FileInfo)
    return StoreFile(client, info)


# --- names -----------------------------------------------------------------------------------------------


def test_folders_and_patterns_are_those_of_files_here(store: MemoryStore, tmp_path: Path) -> None:
    for name in (
        "b.csv",
        "a.csv",
        "sub/c.csv",
        "sub/deeper/d.tsv",
        ".h.csv",
        "_SUCCESS",
        "n.md",
        "k=1/x.csv",
    ):
        store.put(f"in/{name}", b"id\n1\n")
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"id\n1\n")
    for location in ("in", "in/", "in/*.csv", "in/**/*.csv", "in/[ab].*", "in/sub*", "in/.h*", "in/a.csv"):
        here = open_source([location], folder=tmp_path)
        there = open_source([f"s3://{location}"])
        assert [file.name for file in there.files] == [f"s3://{file.name}" for file in here.files]
        assert [there.schema(n) for n in range(len(there.files))] == [
            here.schema(n) for n in range(len(here.files))
        ]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        (
            "s3://in/none.csv",
            "s3://in/none.csv can't be read: the bucket in has no key none.csv at store.example",
        ),
        ("s3://other/a.csv", "s3://other/a.csv can't be read: there is no bucket other at store.example"),
        ("s3://other", "s3://other can't be read: there is no bucket other at store.example"),
        ("s3://in/*.parquet", "s3://in/*.parquet matches no file"),
    ],
)
def test_what_is_not_there_is_named(store: MemoryStore, location: str, message: str) -> None:
    store.put("in/a.csv", b"id\n1\n")
    with pytest.raises(SourceError) as caught:
        open_source([location])
    assert caught.value.message == message
    assert caught.value.hint
    assert caught.value.exit_code == ExitCode.SOURCE


@each_row(
    ("address", "settings"),
    [
        ("s3://AKIA:SECRET@bucket/a.csv", ""),
        ("s3://AKIA:SEC/RET@bucket/a.csv", ""),
        ("s3://AKIA%3ASECRET@bucket/a.csv", ""),
        ("gs://user:SECRET@bucket/a.csv", ""),
        ("abfss://c:SECRET@account.dfs.core.windows.net/a.csv", ""),
        ("abfs://:SECRET@account.dfs.core.windows.net/a.csv", ""),
        ("hdfs://user:SECRET@host/a.csv", ""),
        ("s3://bucket/a.csv", "secret_key=SECRET"),
        ("s3://bucket/a.csv", "SECRET"),
        ("abfs://c@account.dfs.core.windows.net/a.csv", "sig=SECRET"),
        ("nosuch://bucket/a.csv", "key=SECRET"),
    ],
)
def test_credentials_in_an_address_are_refused_and_never_shown(address: str, settings: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source([f"{address}?{settings}" if settings else address])
    assert "SECRET" not in str(caught.value)
    assert "AKIA" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "settings", "path", "endpoint"),
    [
        ("s3://bucket/a%20b/c+d.csv", "region=eu-1", "bucket/a b/c+d.csv", ""),
        ("s3://bucket/x", "endpoint_override=http://127.0.0.1:9000/", "bucket/x", "127.0.0.1:9000"),
        ("gs://anonymous@bucket/x", "endpoint_override=host:1&scheme=http", "bucket/x", "host:1"),
        ("abfss://c@acc.dfs.core.windows.net/d/x.csv", "", "c/d/x.csv", "acc.dfs.core.windows.net"),
        ("abfs://c@acc.dfs.core.windows.net/x", "blob_storage_authority=host:1", "c/x", "host:1"),
    ],
)  # fmt: skip
def test_addresses_name_a_path_and_an_endpoint(address: str, settings: str, path: str, endpoint: str) -> None:
    found, inside = open_store(address, settings)
    assert (inside, found.endpoint) == (path, endpoint)


def test_an_endpoint_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    assert open_store("s3://bucket/x", "")[0].endpoint == "127.0.0.1:9000"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://store.example")
    assert open_store("s3://bucket/x", "")[0].endpoint == "store.example"


@pytest.mark.parametrize(
    ("variables", "account_key", "sas_token"),
    [
        ({"AZURE_STORAGE_KEY": "a2V5", "AZURE_STORAGE_SAS_TOKEN": "sig=x"}, "a2V5", ""),
        ({"AZURE_STORAGE_SAS_TOKEN": "sig=x"}, "", "?sig=x"),
        ({"AZURE_STORAGE_SAS_TOKEN": "?sig=x"}, "", "?sig=x"),
        ({"AZURE_STORAGE_KEY": "a2V5", "AZURE_STORAGE_ACCOUNT": "acc"}, "a2V5", ""),
        ({"AZURE_STORAGE_KEY": "a2V5", "AZURE_STORAGE_ACCOUNT": "other"}, "", ""),
        ({}, "", ""),
    ],
)
def test_a_key_or_token_of_azure_is_in_the_environment(
    variables: dict[str, str], account_key: str, sas_token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    store, _ = open_store("abfs://acc@127.0.0.1:1/c/x", "enable_tls=false")
    places = {"blob_storage_authority": "127.0.0.1:1", "dfs_storage_authority": "127.0.0.1:1"}
    schemes = {"blob_storage_scheme": "http", "dfs_storage_scheme": "http"}
    secret = {"account_key": account_key or None, "sas_token": sas_token or None}
    assert store.make() == fs.AzureFileSystem("acc", **places, **schemes, **secret)


def test_a_folder_of_google_has_what_is_right_in_it(tmp_path: Path) -> None:
    """Its client lists all that is below, or leaves folders out; a disk lists what is right in it."""
    for name in ("b/a.csv", "b/c/d/e.csv", "b/c.csv", "b/c/f.csv", "g.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    local = fs.LocalFileSystem()
    for folder in (tmp_path, tmp_path / "b", tmp_path / "b/c"):
        selector = fs.FileSelector(str(folder))
        found = {info.path: info.type for info in list_google_folder(local, selector)}
        assert found == {info.path: info.type for info in local.get_file_info(selector)}
    assert list_google_folder(local, fs.FileSelector(f"{tmp_path}/none", allow_not_found=True)) == []


# --- what goes wrong -------------------------------------------------------------------------------------


@each_row(
    ("said", "message"),
    [
        ("NETWORK_CONNECTION: curlCode: 6, Could not resolve hostname", "host can't be found (DNS) at h"),
        ("NETWORK_CONNECTION: curlCode: 7, Could not connect to server", "refuses connections at h"),
        ("NETWORK_CONNECTION: curlCode: 35, SSL connect error", "no secure connection can be made at h"),
        ("NETWORK_CONNECTION: curlCode: 28, Timeout was reached", "the store doesn't answer at h"),
        ("NETWORK_CONNECTION: curlCode: 18, Transferred a partial file", "the connection broke at h"),
        (
            "AWS Error UNKNOWN (HTTP status 301) during HeadObject operation. Looks like the "
            "configured region is 'us-east-1' while the bucket is located in 'eu-west-1'.",
            "the bucket b is in the region eu-west-1",
        ),
        ("AWS Error UNKNOWN (HTTP status 301)", "the bucket b is in another region, or at another endpoint"),
        ("When resolving region for bucket 'b': Bucket 'b' not found", "there is no bucket b at h"),
        ("AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation", "there is no bucket b at h"),
        ("AWS Error RESOURCE_NOT_FOUND during HeadObject operation", "the bucket b has no key d/k.csv at h"),
        ("AWS Error ACCESS_DENIED during HeadObject: No response", "access denied; no credentials"),
        ("Unable to parse ExceptionName: ExpiredToken", "the credentials have expired; no credentials found"),
        ("AWS Error UNKNOWN (HTTP status 400) during", "doesn't accept the request; no credentials"),
        ("AWS Error UNKNOWN (HTTP status 405) at HeadObject", "the endpoint is not a store of this kind"),
        ("AWS Error SLOW_DOWN during GetObject operation", "the store is overloaded or down at h"),
        ("UNAVAILABLE: Could not create a OAuth2 access token: Could not resolve hostname", "access denied"),
        ("failed: AuthenticationException: Bearer token is not permitted", "access denied; no credentials"),
        ("failed: Unexpected end of Base64 encoded string", "access denied; no credentials"),
        ("google::cloud::Status(PERMISSION_DENIED: no)", "access denied; no credentials found: environment"),
        ("Something else\nin two lines", "the store's client reports: Something else"),
    ],
)  # fmt: skip
def test_each_error_of_a_client_has_its_message(
    said: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    error = store_error("s3://b/d/k.csv", "h", OSError(said))
    assert error.message.startswith("s3://b/d/k.csv can't be read: ")
    assert message in error.message
    assert error.hint
    assert "{" not in str(error)


def test_whose_certificates_are_trusted_is_named() -> None:
    hint = store_error("s3://b/k.csv", "h", OSError("curlCode: 60, SSL peer certificate")).hint
    assert "SSL_CERT_FILE" in (hint or "")


def test_the_credentials_that_were_tried_are_named_without_their_values(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("[prod]\naws_secret_access_key=SECRET\n")
    for name, value in {
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "mine"),
        "AWS_PROFILE": "prod",
        "AWS_ACCESS_KEY_ID": "SECRET",
    }.items():
        monkeypatch.setenv(name, value)
    found = store_error("s3://b/k", "", DENIED)
    assert "credentials tried: environment (AWS_ACCESS_KEY_ID), profile prod (" in found.message
    assert str(tmp_path / "mine") in found.message
    assert "SECRET" not in str(found)
    assert (
        "AZURE_CLIENT_ID is not set"
        in store_error("abfss://c/k", "", OSError("AuthorizationFailure")).message
    )
    assert (
        "GOOGLE_APPLICATION_CREDENTIALS" in store_error("gs://b/k", "", OSError("PERMISSION_DENIED")).message
    )


def test_a_read_goes_on_where_it_broke_in_smaller_parts(store: MemoryStore) -> None:
    store.put("b/x", bytes(1 << 22))
    store.errors = [SILENT, SILENT, None, LOST, SILENT]
    assert len(file_of(store, "b/x").read(0, 1 << 22)) == 1 << 22
    starts, counts = zip(*store.reads, strict=True)
    assert counts[:3] == (1 << 22, 1 << 20, 1 << 18)
    assert starts[3:5] == (1 << 18, 1 << 18), "what was read is not read again"


@pytest.mark.parametrize(("error", "tries"), [(SILENT, 4), (DENIED, 1), (LOST, 4)])
def test_a_store_that_stays_away_ends_the_read(store: MemoryStore, error: Exception, tries: int) -> None:
    store.put("b/x", b"id\n1\n")
    store.errors = [error] * 9
    with pytest.raises(SourceError, match="s3://b/x can't be read") as caught:
        file_of(store, "b/x").read(0, 5)
    assert len(store.reads) == tries
    assert ("4 times in a row" in caught.value.message) is (tries == 4)


def test_a_store_that_never_answered_is_not_tried_again() -> None:
    tries = []

    def make() -> fs.FileSystem:
        tries.append(1)
        raise LOST

    with pytest.raises(SourceError, match="refuses connections"):
        Store("s3", "h", make, waits=(0, 0)).attempt("b/x", lambda system: system)
    assert len(tries) == 1


# --- reading ---------------------------------------------------------------------------------------------


@given(
    reads=st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 300_000)), max_size=12),
    on=st.lists(st.integers(1, 300_000), max_size=12),
    failing=st.lists(st.booleans(), max_size=8),
)
def test_a_stream_has_the_bytes_of_the_object(
    reads: list[tuple[int, int]], on: list[int], failing: list[bool]
) -> None:
    memory = MemoryStore()
    data = CSV[:350_000]
    memory.put("b/x", data)
    memory.errors = [SILENT if fails and not before else None for before, fails in pairwise([True, *failing])]
    with closing(file_of(memory, "b/x").open()) as stream:
        for start, count in reads:
            stream.seek(start)
            assert stream.read(count) == data[start : start + count]
        at = stream.tell()
        for count in on:
            assert stream.read(count) == data[at : at + count]
            at += len(data[at : at + count])


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_text_is_read_in_few_large_pieces(store: MemoryStore, name: str) -> None:
    data = gzip.compress(CSV, 0) if name.endswith("gz") else CSV
    store.put(f"b/{name}", data)
    source = open_source([f"s3://b/{name}"])
    assert sum(batch.rows.num_rows for batch in source.read(RowRange(0))) == 200_000
    assert len(store.reads) <= 6
    assert sum(count for _, count in store.reads) < len(data) + (8 << 20)
    assert threading.active_count() == 1 or not [
        t for t in threading.enumerate() if t.name.startswith("store")
    ]


def test_the_first_rows_need_the_first_bytes_only(store: MemoryStore) -> None:
    store.put("b/x.csv", CSV)
    source = open_source(["s3://b/x.csv"])
    assert source.names() == ["id", "name"]
    assert store.reads == [(0, 1 << 18)]


def test_parquet_is_read_by_row_groups_in_one_range_each(store: MemoryStore) -> None:
    data = parquet(60_000, 10_000)
    store.put("b/x.parquet", data)
    source = open_source(["s3://b/x.parquet"])
    store.reads.clear()
    assert rows_of(batches(source)) == {
        row + 1: {"id": row} | {f"c{n}": f"{n}-{row}" for n in range(3)} for row in range(60_000)
    }
    assert len(store.reads) == 1, "they are one piece"


@pytest.mark.parametrize("piece", [1 << 12, 1 << 14, 1 << 18])
@pytest.mark.parametrize("columns", [["id"], ["c2", "id"], ["id", "c0", "c1", "c2"]])
def test_pieces_of_any_size_have_the_same_rows(store: MemoryStore, piece: int, columns: list[str]) -> None:
    store.put("b/x.parquet", parquet(5_000, 1_000))
    file = file_of(store, "b/x.parquet")
    file.piece_bytes = piece
    reader = ParquetReader(file, ReadOptions())
    found = list(reader.batches(RowSpans([(1, 900), (2_500, None)]), columns))
    rows = pa.Table.from_batches([batch.rows for batch in found])
    wanted = [*range(1000), *range(2000, 5000)]
    assert rows["id"].to_pylist() == wanted
    assert rows.schema.names == columns


def test_ranges_with_small_gaps_are_one() -> None:
    assert merge_ranges([(10, 20), (0, 10), (15, 17), (2 << 20, 3 << 20)]) == [(0, 20), (2 << 20, 3 << 20)]


# --- folders of files ------------------------------------------------------------------------------------


SMALL = {"csv": b"id,name\n1,a\n2,b\n", "parquet": parquet(1_000, 300), "csv.gz": gzip.compress(b"id\n1\n")}


@pytest.mark.parametrize("ending", SMALL)
def test_files_are_opened_and_read_beside_each_other(store: MemoryStore, ending: str) -> None:
    for number in range(20):
        store.put(f"b/in/{number:02d}.{ending}", SMALL[ending])
    store.delay = 0.02
    source = open_source(["s3://b/in"])
    assert store.most_at_once > 3
    opened = store.reads.copy()
    for file in range(20):
        batches(source, file)
    assert store.reads == opened, "so small files are kept"
    assert store.looks <= 1 + 20 * 2
    store.most_at_once = 0
    assert source.changed() is None
    assert store.most_at_once > 3


def test_no_thread_is_left_once_all_is_fetched(store: MemoryStore) -> None:
    """A process that has threads can't be forked."""
    for number in range(6):
        store.put(f"b/in/{number}.csv", CSV[:400_000])
    source = open_source(["s3://b/in"])
    store.delay = 0.2
    stored = source._entries[0].reader.input_file
    assert stored is not None
    stored.read_ahead()
    assert [thread for thread in threading.enumerate() if thread.name == "store"]
    source.fetch()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("store")]


@given(
    sizes=st.lists(st.sampled_from([3, 40_000, 400_000]), min_size=1, max_size=6),
    failing=st.lists(st.booleans(), max_size=12),
    kept=st.sampled_from([1 << 10, 1 << 19, 1 << 24]),
)
def test_rows_do_not_depend_on_what_is_kept_and_what_fails(
    sizes: list[int], failing: list[bool], kept: int
) -> None:
    memory, expected = MemoryStore(), 0
    for number, rows in enumerate(sizes):
        memory.put(f"b/in/{number}.csv", b"id\n" + b"1\n" * rows)
        expected += rows
    memory.errors = [SILENT if fails and not before else None for before, fails in pairwise([True, *failing])]
    with pytest.MonkeyPatch.context() as patch:
        client = Store("s3", "", lambda: memory, waits=(0, 0, 0))
        patch.setattr("etl.reader.stores._CACHED_BYTES", kept)
        patch.setattr(
            "etl.reader.discovery.open_store",
            lambda address, _: (client, address.partition("://")[2]),
        )
        source = open_source(["s3://b/in"])
        count = sum(batch.rows.num_rows for file in range(len(sizes)) for batch in batches(source, file))
    assert count == expected
    assert sum(len(data) for _, data in client.cached.values()) <= kept


@pytest.mark.parametrize(("ending", "data"), [("csv", CSV[:400_000]), ("parquet", parquet(20_000, 5_000))])
def test_a_file_that_is_replaced_before_its_turn_ends_the_read(
    store: MemoryStore, ending: str, data: bytes
) -> None:
    for number in range(9):
        store.put(f"b/in/{number}.{ending}", data)
    source = open_source(["s3://b/in"])
    store.put(f"b/in/4.{ending}", data[::-1])
    for file in range(4):
        batches(source, file)
    for _ in range(2):  # also if it is tried again
        with pytest.raises(SourceError, match=f"s3://b/in/4.{ending} was replaced"):
            batches(source, 4)
    assert f"s3://b/in/4.{ending} was replaced" in (source.changed() or "")


# --- one version -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tags", [True, False])
@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_rows_of_two_versions_are_not_mixed(
    store: MemoryStore, name: str, tags: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StoreFile, "piece_bytes", 1 << 22)
    monkeypatch.setattr("etl.reader.store_file._PIECE", 1 << 22)
    data = CSV if name == "x.csv" else parquet(400_000, 100_000)
    store.tags = tags
    store.put(f"b/{name}", data)
    source = open_source([f"s3://b/{name}"])
    rows = source.read(RowRange(0))
    next(rows)
    store.put(f"b/{name}", data.replace(b"0", b"9"))
    with pytest.raises(SourceError, match=r"was replaced after it was opened") as caught:
        list(rows)
    assert caught.value.hint
    assert "was replaced after it was opened" in (source.changed() or "")


def test_a_version_is_what_identifies_an_object(store: MemoryStore) -> None:
    store.put("b/x.csv", b"id\n1\n")
    source = open_source(["s3://b/x.csv"])
    store.touched = 2  # written again, with the same content
    again = open_source(["s3://b/x.csv"])
    assert source.changed() is None
    assert again.digest(0) == source.digest(0) == source.files[0].sample
    assert again.files[0].modified != source.files[0].modified
    store.put("b/x.csv", b"id\n2\n")
    assert open_source(["s3://b/x.csv"]).digest(0) != source.digest(0)
    assert "was replaced" in (source.changed() or "")
    del store.objects["b/x.csv"]
    assert "has no key x.csv" in (source.changed() or "")


def test_no_more_than_one_piece_is_fetched_ahead(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StoreFile, "piece_bytes", 1 << 20)
    data = parquet(400_000, 20_000)
    store.put("b/x.parquet", data)
    rows = open_source(["s3://b/x.parquet"]).read(RowRange(0))
    next(rows)
    assert sum(count for _, count in store.reads) < len(data) / 4
    assert sum(batch.rows.num_rows for batch in rows) == 400_000 - 16_384
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("store")]
