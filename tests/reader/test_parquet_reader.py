"""Parquet: types and values stay as they are, and what isn't asked for isn't read."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import struct
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from etl.errors import SourceError
from etl.reader import open_source
from etl.tally import RowRange
from tests.examples import each_row
from tests.reader.reading import batches, opened, rejects_of, rows_of, written

HOMES = [{"city": "Ulm", "geo": [1.5]}, None, {"city": None, "geo": None}]
VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "whole": (pa.int64(), [1, None, -(2**63)]),
    "small": (pa.uint8(), [0, 255, None]),
    "price": (pa.decimal128(30, 4), [Decimal("1.2500"), None, Decimal("-99999999999999999999999999.9999")]),
    "day": (pa.date32(), [dt.date(1971, 3, 8), None, dt.date(9999, 12, 31)]),
    "when": (pa.timestamp("us", "UTC"), [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None, None]),
    "tags": (pa.list_(pa.string()), [["a", None], [], None]),
    "address": (pa.struct([("city", pa.string()), ("geo", pa.list_(pa.float64()))]), HOMES),
    "raw": (pa.binary(), [b"\xff\x00", b"", None]),
    "text": (pa.large_string(), ["Zoë", "", None]),
    "dotted.name": (pa.string(), ["x", "y", "z"]),
    "nothing": (pa.null(), [None, None, None]),
}  # fmt: skip
EVERYTHING = pa.table({name: pa.array(values, kind) for name, (kind, values) in VALUES.items()})


def stored(folder: Path, table: pa.Table, name: str = "x.parquet", **options: Any) -> Path:
    pq.write_table(table, folder / name, **options)
    return folder / name


@each_row("codec", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
def test_keeps_types_and_values_under_every_codec(tmp_path: Path, codec: str) -> None:
    source = opened(stored(tmp_path, EVERYTHING, compression=codec))
    assert source.schema() == EVERYTHING.schema
    assert list(rows_of(batches(source)).values()) == EVERYTHING.to_pylist()


@pytest.mark.parametrize("version", ["1.0", "2.6"])
def test_keeps_values_in_either_page_version(tmp_path: Path, version: str) -> None:
    pages = "1.0" if version == "1.0" else "2.0"
    source = opened(stored(tmp_path, EVERYTHING.drop(["small"]), version=version, data_page_version=pages))
    assert list(rows_of(batches(source)).values()) == EVERYTHING.drop(["small"]).to_pylist()


def test_a_dotted_name_is_a_column_like_any_other(tmp_path: Path) -> None:
    source = opened(stored(tmp_path, EVERYTHING))
    (batch,) = source.read(RowRange(0), columns=["dotted.name", "address"])
    assert batch.rows.to_pydict() == EVERYTHING.select(["dotted.name", "address"]).to_pydict()


def test_old_timestamps_reach_the_year_9999(tmp_path: Path) -> None:
    never = dt.datetime(9999, 12, 31, 23, 59, 59)
    table = pa.table({"until": pa.array([never, None], pa.timestamp("us"))})
    source = opened(stored(tmp_path, table, use_deprecated_int96_timestamps=True))
    assert rows_of(batches(source)) == {1: {"until": never}, 2: {"until": None}}


def test_dictionaries_come_out_as_their_values(tmp_path: Path) -> None:
    table = pa.table({"plan": pa.array(["pro", None, "free", "pro"]).dictionary_encode()})
    source = opened(stored(tmp_path, table, row_group_size=2))
    assert source.schema().field("plan").type == pa.string()
    assert [row["plan"] for row in rows_of(batches(source)).values()] == ["pro", None, "free", "pro"]


def test_row_groups_outside_the_stretch_are_not_read(tmp_path: Path) -> None:
    table = pa.table({"n": pa.array(range(1, 41), pa.int64())})
    path = stored(tmp_path, table, row_group_size=10, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    groups = pq.read_metadata(path)
    for group in (0, 1, 3):
        begin = groups.row_group(group).column(0).data_page_offset
        data[begin : begin + 16] = b"\xff" * 16
    source = opened(written(tmp_path, "spoilt.parquet", bytes(data)))
    assert sorted(rows_of(batches(source, 0, 21, 31))) == list(range(21, 31))
    with pytest.raises(SourceError, match=r"spoilt\.parquet \(in row 11 or after it\)"):
        batches(source, 0, 20, 31)


def test_the_footer_tells_rows_without_reading(tmp_path: Path) -> None:
    for name in ("a.parquet", "b.parquet"):
        stored(tmp_path, pa.table({"n": [1, 2, 3]}), name)
    source = open_source([tmp_path])
    assert source.total_rows() == 6
    assert source.total_bytes() == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_text_that_is_none_costs_its_row_only(tmp_path: Path) -> None:
    good = pa.array([b"a", b"M\xfcller", b"c"], pa.binary()).view(pa.string())
    nested = pa.array([["x"], ["y"], ["z"]], pa.list_(pa.string()))
    path = stored(tmp_path, pa.table({"id": [1, 2, 3], "name": good, "tags": nested}), store_schema=True)
    found = batches(opened(path))
    assert {n: row["name"] for n, row in rows_of(found).items()} == {1: "a", 3: "c"}
    (reject,) = rejects_of(found)
    assert (reject.row, reject.code) == (2, "bad_encoding")
    assert json.loads(reject.values) == {"id": 2, "name": "M\\xfcller", "tags": ["y"]}


def test_names_given_twice_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"])
    with pytest.raises(SourceError, match="column n more than once"):
        opened(stored(tmp_path, table))


@each_row("keep", [0, 3, 8, 200, -1, -9])
def test_a_file_cut_short_is_named(tmp_path: Path, keep: int) -> None:
    data = stored(tmp_path, EVERYTHING).read_bytes()
    with pytest.raises(SourceError, match=r"short\.parquet") as caught:
        opened(written(tmp_path, "short.parquet", data[:keep]))
    assert caught.value.hint


def test_a_footer_that_claims_too_much_is_named(tmp_path: Path) -> None:
    data = stored(tmp_path, EVERYTHING).read_bytes()
    claim = data[:-8] + struct.pack("<I", 2**31) + b"PAR1"
    with pytest.raises(SourceError, match=r"claim\.parquet"):
        opened(written(tmp_path, "claim.parquet", claim))


class _Keys(pe.KmsClient):  # type: ignore[misc]
    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return key_bytes

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return wrapped_key


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_an_encrypted_file_is_named(tmp_path: Path, *, plaintext_footer: bool) -> None:
    setup = pe.EncryptionConfiguration("k", column_keys={"k": ["n"]}, plaintext_footer=plaintext_footer)
    factory = pe.CryptoFactory(lambda _: _Keys())
    secrets = factory.file_encryption_properties(pe.KmsConnectionConfig(), setup)
    path = stored(tmp_path, pa.table({"n": [1]}), encryption_properties=secrets)
    with pytest.raises(SourceError, match=r"x\.parquet.*encrypted"):
        batches(opened(path))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="a file without a name can't be opened again")
def test_the_copy_of_a_packed_file_has_no_name_that_a_kill_would_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    table = pa.table({"id": [f"user-{n}" for n in range(3_000)]})
    pq.write_table(table, tmp_path / "users.parquet", row_group_size=500)
    (tmp_path / "users.parquet.gz").write_bytes(gzip.compress((tmp_path / "users.parquet").read_bytes()))
    source = open_source([tmp_path / "users.parquet.gz"])
    read = source.read(RowRange(0))
    first = next(read)
    assert list((tmp_path / "temporary").iterdir()) == []
    assert first.rows.num_rows + sum(batch.rows.num_rows for batch in read) == 3_000
