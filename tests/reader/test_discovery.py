"""What a location means, and what each of its files holds.

It names the same files in the same order, none twice. What a file holds is seen from its name and its first
bytes, packed or not, also through a pipe.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import sqlite3
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather, orc

from etl.errors import SourceError
from etl.reader import open_source
from etl.reader.discovery import find_files, partitions
from tests.examples import each_row
from tests.reader.reading import batches, opened, read, rows_of, written


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.csv", "a.csv", "sub/c.csv", "sub/deeper/d.tsv", "e.csv.gz", "z[1].csv"):
        written(tmp_path, f"in/{name}", "id\n1\n")
    for name in (
        "in/.hidden.csv",
        "in/_SUCCESS",
        "in/_metadata",
        "in/notes.md",
        "in/.git/x.csv",
        "in/_tmp/y.csv",
    ):
        written(tmp_path, name, "id\n1\n")
    return tmp_path


def names(folder: Path, *given: object) -> list[str]:
    return [file.name for file in open_source(list(given), folder=folder).files]


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("in/a.csv", ["in/a.csv"]),
        ("./in/../in/a.csv", ["in/../in/a.csv"]),
        ("in", ["in/a.csv", "in/b.csv", "in/e.csv.gz", "in/sub/c.csv", "in/sub/deeper/d.tsv", "in/z[1].csv"]),
        (
            "in/",
            ["in/a.csv", "in/b.csv", "in/e.csv.gz", "in/sub/c.csv", "in/sub/deeper/d.tsv", "in/z[1].csv"],
        ),
        ("in/*.csv", ["in/a.csv", "in/b.csv", "in/z[1].csv"]),
        ("in/[ab].*", ["in/a.csv", "in/b.csv"]),
        ("*/?.csv", ["in/a.csv", "in/b.csv"]),
        ("in/**/*.csv", ["in/a.csv", "in/b.csv", "in/sub/c.csv", "in/z[1].csv"]),
        ("in/sub*", ["in/sub/c.csv", "in/sub/deeper/d.tsv"]),
        ("in/*/deeper/d.tsv", ["in/sub/deeper/d.tsv"]),
        ("in/z[1].csv", ["in/z[1].csv"]),
        ("in/.h*", ["in/.hidden.csv"]),
        ("in/_SUCCESS", ["in/_SUCCESS"]),
    ],
)
def test_names_are_relative_and_sorted(folder: Path, location: str, expected: list[str]) -> None:
    assert names(folder, location) == expected


def test_relative_to_where_the_program_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "in" / "sub")
    assert names(Path(), ".") == ["c.csv", "deeper/d.tsv"]
    assert names(Path(), "*.csv", "../a.csv") == ["c.csv", "../a.csv"]


def test_locations_keep_their_order_and_no_file_comes_twice(folder: Path) -> None:
    (folder / "link.csv").symlink_to(folder / "in" / "a.csv")
    given = ["in/b.csv", "in/[ab].csv", "in/../in/b.csv", folder / "in" / "a.csv", "link.csv"]
    assert names(folder, *given) == ["in/b.csv", "in/a.csv"]


def test_absolute_paths_and_file_addresses_name_the_same(folder: Path) -> None:
    path = folder / "in" / "a.csv"
    assert names(Path("elsewhere"), path) == names(Path(), path.as_uri()) == [str(path)]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("in/none.csv", "in/none.csv is not there"),
        ("none/*.csv", "matches no file"),
        ("in/*.xml", "matches no file"),
        ("empty", "holds no data files"),
        ("", "a source is empty"),
        ("nosuch://x/y.csv", "can't be read"),
    ],
)
def test_what_is_not_there_is_named_with_a_remedy(folder: Path, location: str, message: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(SourceError, match=message) as caught:
        open_source([location], folder=folder)
    assert caught.value.hint


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything, so be nobody for a while if the tests are run by root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_that_may_not_be_read_is_named(folder: Path) -> None:
    path = folder / "in" / "a.csv"
    path.chmod(0)
    with (
        unprivileged(),
        pytest.raises(SourceError, match=r"in/a\.csv may not be read by this user") as caught,
    ):
        open_source(["in/a.csv"], folder=folder)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x/dt=2024-01-01/part.csv", {"dt": "2024-01-01"}),
        ("a=1/b=2%2F3/c=%20/f.csv", {"a": "1", "b": "2/3", "c": " "}),
        ("k=__HIVE_DEFAULT_PARTITION__/f.csv", {"k": None}),
        ("k=/f.csv", {"k": ""}),
        ("=1/plain/f=1.csv", {}),
    ],
)
def test_folders_named_key_and_value_are_columns(name: str, expected: dict[str, str | None]) -> None:
    assert partitions(name) == expected


def test_partitions_of_csv_files_are_columns_and_null_is_null(tmp_path: Path) -> None:
    written(tmp_path, "d/k=1/x.csv", "id\n7\n")
    written(tmp_path, "d/k=__HIVE_DEFAULT_PARTITION__/x.csv", "id\n8\n")
    source = open_source(["d"], folder=tmp_path)
    assert [rows_of(batches(source, file)) for file in (0, 1)] == [
        {1: {"id": "7", "k": "1"}},
        {1: {"id": "8", "k": None}},
    ]


def test_a_column_of_the_file_wins_over_its_folder(tmp_path: Path) -> None:
    written(tmp_path, "k=folder/x.csv", "id,k\n7,file\n")
    assert rows_of(batches(open_source(["k=folder"], folder=tmp_path))) == {1: {"id": "7", "k": "file"}}


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    text = "id,name\n" + "".join(f"{i},{'x' * 100}\n" for i in range(30_000))
    writer = threading.Thread(target=(tmp_path / "pipe.csv").write_text, args=(text,), daemon=True)
    writer.start()
    source = open_source(["pipe.csv"], folder=tmp_path)
    assert not source.repeatable
    assert sum(batch.rows.num_rows for batch in batches(source)) == 30_000
    writer.join(10)
    with pytest.raises(SourceError, match="was read already"):
        batches(source)


def test_a_web_address_is_one_place_named_without_its_secrets() -> None:
    (place,) = find_files("https://user:word@host.example/a/b.csv?token=abc#x", Path())
    assert place.name == "https://host.example/a/b.csv"


def test_a_folder_says_what_it_leaves_out(tmp_path: Path) -> None:
    for name in (
        "a.csv",
        "b.csv.xz",
        "sub/c.docx",
        "sub/d.docx",
        "sub/README",
        "_SUCCESS",
        ".e.csv.crc",
        "f.csv.gz.bak",
    ):
        written(tmp_path, name, "id\n")
    (warning,) = open_source([tmp_path]).warnings
    assert warning.code == "left_out"
    assert "5 files are left out" in warning.message
    assert ".docx (2), .bak (1), .xz (1)" in warning.message.replace("no ending (1), ", "")
    assert "no ending (1)" in warning.message
    assert open_source([tmp_path / "*.csv"]).warnings == ()
    assert open_source([tmp_path / "a.csv"]).warnings == ()


def test_a_folder_of_other_files_says_what_they_are(tmp_path: Path) -> None:
    written(tmp_path, "a.docx", "x")
    with pytest.raises(SourceError, match="holds no data files") as caught:
        open_source([tmp_path])
    assert ".docx" in str(caught.value.hint)


# --- what a file holds -----------------------------------------------------------------------------------

CSV = b"id,plan\n1,pro\n2,free\n"
NDJSON = b'{"id":"1","plan":"pro"}\n{"id":"2","plan":"free"}\n'
EXPECTED = {1: {"id": "1", "plan": "pro"}, 2: {"id": "2", "plan": "free"}}


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(EXPECTED.values())), sink)
    return sink.getvalue()


def packed(codec: str) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(data)
        return bytes(sink.getvalue())

    return pack


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": packed("zstd"),
    ".lz4": packed("lz4"),
    ".br": packed("brotli"),
}


@each_row("ending", PACKERS)
@each_row(("name", "data"), [("x.csv", CSV), ("x.jsonl", NDJSON), ("x.pq", parquet())])
def test_names_tell_format_and_packing(tmp_path: Path, name: str, data: bytes, ending: str) -> None:
    rows, _ = read(tmp_path, PACKERS[ending](data), name + ending)
    assert rows == EXPECTED


@each_row("ending", [ending for ending in PACKERS if ending != ".br"])
@each_row(("format_", "data"), [("csv", CSV), ("ndjson", NDJSON), ("parquet", parquet())])
def test_bytes_tell_what_the_name_does_not(tmp_path: Path, format_: str, data: bytes, ending: str) -> None:
    source = opened(written(tmp_path, "export", PACKERS[ending](data)))
    assert source.files[0].format == format_
    assert rows_of(batches(source)) == EXPECTED


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.csv", gzip.compress(CSV, mtime=0)),
        ("x.csv.gz", CSV),
        ("x.csv", parquet()),
        ("x.csv.zst", gzip.compress(CSV, mtime=0)),
    ],
)
def test_bytes_are_believed_more_than_names(tmp_path: Path, name: str, data: bytes) -> None:
    assert read(tmp_path, data, name)[0] == EXPECTED


def test_files_packed_in_parts_are_read_to_the_end(tmp_path: Path) -> None:
    rows, _ = read(
        tmp_path, gzip.compress(CSV) + gzip.compress(b"3,x\n") + gzip.compress(b"4,y\n"), "x.csv.gz"
    )
    assert list(rows) == [1, 2, 3, 4]


@pytest.mark.parametrize("ending", [ending for ending in PACKERS if ending])
def test_a_packed_file_cut_short_is_no_shorter_file(tmp_path: Path, ending: str) -> None:
    data = PACKERS[ending](b"id\n" + b"".join(b"%d\n" % i for i in range(5000)))
    path = written(tmp_path, "x.csv" + ending, data[: len(data) * 3 // 4])
    with pytest.raises(SourceError, match=r"x\.csv.* ends in the middle of its compressed data"):
        batches(opened(path))


def test_damaged_packing_is_named(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(9000))))
    data[-8:-4] = b"\0\0\0\0"  # the checksum
    with pytest.raises(SourceError, match=r"x\.csv\.gz .*damaged") as caught:
        batches(opened(written(tmp_path, "x.csv.gz", bytes(data))))
    assert caught.value.hint


@pytest.mark.parametrize("begin", ["PAR1", "BZh9", "ORC", "Obj", "ARROW1"])
def test_a_header_that_looks_like_a_mark_is_a_header(tmp_path: Path, begin: str) -> None:
    assert read(tmp_path, f"{begin},x\n1,2\n") == ({1: {begin: "1", "x": "2"}}, [])


def tar(data: bytes) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        member = tarfile.TarInfo("users.csv")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return sink.getvalue()


def zipped(name: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(name, CSV)
    return sink.getvalue()


def sqlite(folder: Path) -> bytes:
    with closing(sqlite3.connect(folder / "made")) as database:
        database.execute("CREATE TABLE users (id)")
        database.commit()
    return (folder / "made").read_bytes()


def arrow(folder: Path) -> bytes:
    feather.write_feather(pa.Table.from_pylist(list(EXPECTED.values())), folder / "made")
    return (folder / "made").read_bytes()


def arrow_stream(folder: Path) -> bytes:
    table = pa.Table.from_pylist(list(EXPECTED.values()))
    with pa.ipc.new_stream(folder / "made", table.schema) as stream:
        stream.write_table(table)
    return (folder / "made").read_bytes()


def orc_file(folder: Path) -> bytes:
    orc.write_table(pa.Table.from_pylist(list(EXPECTED.values())), folder / "made")
    return (folder / "made").read_bytes()


# Made by their own writers where there is one at hand.
OTHERS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "xz": (lambda _: lzma.compress(CSV), "packed with xz"),
    "lzma": (lambda _: lzma.compress(CSV, format=lzma.FORMAT_ALONE), "packed with LZMA"),
    "tar": (lambda _: tar(CSV), "a tar archive"),
    "tar.gz": (lambda _: gzip.compress(tar(CSV)), "a tar archive"),
    "tar.bz2": (lambda _: bz2.compress(tar(CSV)), "a tar archive"),
    "gz.gz": (lambda _: gzip.compress(gzip.compress(CSV)), "packed twice"),
    "zip": (lambda _: zipped("users.csv"), "a zip archive"),
    "7z": (lambda _: b"7z\xbc\xaf\x27\x1c" + bytes(100), "a 7z archive"),
    "rar": (lambda _: b"Rar!\x1a\x07\x01\x00" + bytes(100), "a RAR archive"),
    "orc": (orc_file, "an ORC file"),
    "feather": (arrow, "an Arrow"),
    "arrows": (arrow_stream, "an Arrow stream"),
    "avro": (lambda _: b"Obj\x01" + bytes(100), "an Avro file"),
    "sqlite": (sqlite, "a SQLite database"),
    "duckdb": (lambda _: bytes(8) + b"DUCK" + bytes(100), "a DuckDB database"),
    "html": (lambda _: b"\n<!DOCTYPE html><html><title>Sign in</title>", "an HTML page"),
    "xml": (lambda _: b"\xef\xbb\xbf<?xml version='1.0'?><Error/>", "an XML document"),
    "pdf": (lambda _: b"%PDF-1.7\n", "a PDF document"),
    "sql": (lambda _: b"-- MySQL dump 10.13\n", "an SQL dump"),
    "lfs": (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
}


@each_row("name", ["x.csv", "x.parquet", "x.ndjson", "x", "x.csv.gz"])
@each_row("other", OTHERS)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, other: str, name: str) -> None:
    make, kind = OTHERS[other]
    with pytest.raises(SourceError, match=f"{name} is {kind}") as caught:
        opened(written(tmp_path, name, make(tmp_path)))
    assert caught.value.hint


@each_row("ending", [ending for ending in PACKERS if ending != ".br"])
@each_row("data", [CSV, NDJSON, parquet(), codecs.BOM_UTF8 + CSV])
def test_text_under_the_name_of_parquet_is_read_as_what_it_is(
    tmp_path: Path, data: bytes, ending: str
) -> None:
    assert read(tmp_path, PACKERS[ending](data), "x.parquet" + ending)[0] == EXPECTED


class Trickle(io.RawIOBase):
    """Standard input that hands out a few bytes at a time, as pipes do."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        return self._data.read(min(count, 7) if count >= 0 else 7)


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    stdin = type("Stdin", (), {"buffer": Trickle(data)})()
    monkeypatch.setattr(sys, "stdin", stdin)


@pytest.mark.parametrize("ending", [ending for ending in PACKERS if ending != ".br"])
@pytest.mark.parametrize("data", [CSV, NDJSON, parquet()])
def test_stdin_is_recognised_and_read(monkeypatch: pytest.MonkeyPatch, data: bytes, ending: str) -> None:
    piped(monkeypatch, PACKERS[ending](data))
    source = open_source(["-"])
    assert (source.files[0].name, source.repeatable, source.total_bytes()) == ("stdin", False, None)
    assert source.schema().names == ["id", "plan"]
    assert rows_of(batches(source)) == EXPECTED
    assert source.changed() is None


@pytest.mark.parametrize("data", [b"", b"\n"])
def test_stdin_may_be_empty(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    piped(monkeypatch, data)
    assert batches(open_source(["-"])) == []


def test_long_ndjson_comes_through_stdin_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"".join(b'{"id":%d,"note":"%s"}\n' % (i, b"x" * 200) for i in range(10_000))
    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": io.BufferedReader(io.BytesIO(data))})())
    source = open_source(["-"])
    assert sum(batch.rows.num_rows for batch in batches(source)) == 10_000
    with pytest.raises(SourceError, match="stdin was read already"):
        batches(source)
