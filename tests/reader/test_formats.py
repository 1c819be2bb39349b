"""What a file holds is seen from its name and its first bytes, packed or not, also through a pipe."""

from __future__ import annotations

import bz2
import gzip
import io
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.errors import SourceError
from etl.reader import open_source
from tests.reader.reading import batches, opened, read, rows_of, written

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


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize(("name", "data"), [("x.csv", CSV), ("x.jsonl", NDJSON), ("x.pq", parquet())])
def test_names_tell_format_and_packing(tmp_path: Path, name: str, data: bytes, ending: str) -> None:
    rows, _ = read(tmp_path, PACKERS[ending](data), name + ending)
    assert rows == EXPECTED


@pytest.mark.parametrize("ending", [ending for ending in PACKERS if ending != ".br"])
@pytest.mark.parametrize(("format_", "data"), [("csv", CSV), ("ndjson", NDJSON), ("parquet", parquet())])
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


@pytest.mark.parametrize(
    ("begin", "kind"), [(b"PK\x03\x04", "Excel"), (b"ARROW1\0\0", "Arrow"), (b"Obj\x01", "Avro")]
)
def test_other_formats_are_named(tmp_path: Path, begin: bytes, kind: str) -> None:
    with pytest.raises(SourceError, match=kind) as caught:
        opened(written(tmp_path, "x.csv", begin + b"\0" * 100))
    assert caught.value.hint


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
