"""Which reader reads a file: by the end of its name if that is known, otherwise by its first bytes.

A new format is a `FileReader` and an entry in `READERS`.
"""

from __future__ import annotations

import re
from typing import Final

from ..arrow.originals import CODEC_ENDINGS
from .csv_reader import CsvReader
from .excel_reader import ExcelReader
from .file_reader import FileReader
from .files import InputFile
from .ndjson_reader import NdjsonReader
from .parquet_reader import ParquetReader

_READERS: Final[tuple[type[FileReader], ...]] = (CsvReader, ParquetReader, NdjsonReader, ExcelReader)
READERS: Final = {reader.format: reader for reader in _READERS}

_CODECS: Final = (
    (re.compile(rb"\x1f\x8b"), "gzip"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "zstd"),
    (re.compile(rb"\x04\x22\x4d\x18"), "lz4"),
    (re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), "bz2"),
)

_UNPACK: Final = "unpack it first, for example with: {}"
_UNZIP: Final = _UNPACK.format("unzip FILE, or save it as CSV")
_EXPORT: Final = "write its rows as CSV or Parquet, for example with {}"
_SAVE: Final = "save the sheet as CSV, or write its rows as Parquet"
_AGAIN: Final = "look at its first lines, and export or download it again"
_ARROW: Final = _EXPORT.format("pyarrow.parquet.write_table")
_DUCKDB: Final = _EXPORT.format("DuckDB: COPY (SELECT ...) TO 'users.parquet'")
_QUERY: Final = _EXPORT.format("a query of that database")
_PAGE: Final = "an HTML page, perhaps a sign-in page or an error"
_START: Final = rb"(?:\xef\xbb\xbf)?\s*"
_OBJECT: Final = re.compile(_START + rb"\{")
_DECRYPT: Final = "decrypt it first, for example with: {} -d FILE"

# Files that can't be read here: how they begin, what they are, and what to do. The first that fits counts.
_FOREIGN: Final = tuple(
    (re.compile(begin, re.DOTALL), what, remedy)
    for begin, what, remedy in (
        (rb"PK\x03\x04.{26}mimetype", "an OpenDocument file, but no sheet", _SAVE),
        (rb"PK\x03\x04", "a zip archive or an Excel workbook", _UNZIP),
        (rb".{257}ustar[\0 ]", "a tar archive", _UNPACK.format("tar -xf FILE, and name the files in it")),
        (rb"ORC.*\0", "an ORC file", _EXPORT.format("pyarrow.orc")),
        (rb"FEA1.*\0", "an old Feather file", _ARROW),
        (rb"(?=.*\0).{8}DUCK", "a DuckDB database", _DUCKDB),
        (rb"\xfd7zXZ\0", "packed with xz", _UNPACK.format("xz -d FILE")),
        (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK.format("7z x FILE")),
        (rb"Rar!\x1a\x07", "a RAR archive", _UNPACK.format("unrar x FILE")),
        (rb"LZIP\x01", "packed with lzip", _UNPACK.format("lzip -d FILE")),
        (rb"\x1f\x9d", "packed with compress", _UNPACK.format("uncompress FILE")),
        (rb"\xff\x06\0\0sNaPpY", "packed with Snappy", _UNPACK.format("snzip -d FILE")),
        (rb"\x5d\0\0\x80\0", "packed with LZMA", _UNPACK.format("xz -d FILE")),
        (rb"\x1f\x8b", "packed twice", _UNPACK.format("gzip -d FILE")),
        (rb"\x28\xb5\x2f\xfd", "packed twice", _UNPACK.format("zstd -d FILE")),
        (rb"PK\x05\x06", "an empty zip archive", _AGAIN),
        (rb"ARROW1\0\0", "an Arrow (Feather) file", _ARROW),
        (rb"\xff\xff\xff\xff", "an Arrow stream", _ARROW),
        (rb"Obj\x01", "an Avro file", _DUCKDB),
        (rb"SQLite format 3\0", "a SQLite database", _EXPORT.format("sqlite3 -header -csv FILE 'SELECT'")),
        (rb"\x89HDF\r\n\x1a\n", "an HDF5 file", _EXPORT.format("pandas.read_hdf")),
        (rb"\x93NUMPY", "a NumPy array", _EXPORT.format("pandas")),
        (rb"\$FL2@", "an SPSS file", _EXPORT.format("pandas.read_spss")),
        (rb"PGDMP\x01", "a PostgreSQL dump", _EXPORT.format("pg_restore, and psql's \\copy")),
        (rb"%PDF-", "a PDF document", _AGAIN),
        (rb"-----BEGIN PGP MESSAGE", "encrypted by PGP", _DECRYPT.format("gpg")),
        (rb"age-encryption\.org/v1", "encrypted by age", _DECRYPT.format("age")),
        (rb"version https://git-lfs\.github\.com/", "a Git LFS pointer", "fetch the file with: git lfs pull"),
        (_START + rb"(?i:<!doctype html|<html|<head|<body)", _PAGE, _AGAIN),
        (_START + rb"(?i:<\?xml|<Error>)", "an XML document", _AGAIN),
        (_START + rb"-- (MySQL|MariaDB|PostgreSQL|phpMyAdmin)", "an SQL dump", _QUERY),
        (_START + rb"(INSERT INTO|CREATE TABLE|DROP TABLE)\s", "an SQL dump", _QUERY),
    )
)  # fmt: skip


def reader_by_name(name: str) -> tuple[type[FileReader] | None, str]:
    """Return the reader that the end of a file's name means, or None; and that end, `.csv` or `.csv.gz`."""
    ending, *packed = name.lower().rpartition("/")[2].split(".")[:0:-1] or [""]
    whole = f".{ending}" if ending else ""
    if ending in CODEC_ENDINGS and packed:
        ending, whole = packed[0], f".{packed[0]}{whole}"
    return next((reader for reader in READERS.values() if ending in reader.endings), None), whole


def recognize(file: InputFile) -> type[FileReader]:
    """Look at a file's name and first bytes, and set its codec; SourceError if it can't hold rows."""
    named, ending = reader_by_name(file.name)
    if named is ParquetReader and ending.count(".") == 1 and file.tail().endswith(b"PAR1"):
        return named
    head = file.sniff()
    # Servers unpack what they send, and names lie: the bytes decide. Only Brotli has no magic bytes.
    file.codec = next((codec for begin, codec in _CODECS if begin.match(head)), None)
    if file.codec is None and ending.endswith(".br") and head:
        file.codec = CODEC_ENDINGS["br"]
    head = file.sniff()
    claimed = next((reader for reader in READERS.values() if reader.claims.match(head)), None)
    if claimed is not None:
        return claimed
    for pattern, what, remedy in _FOREIGN:
        if pattern.match(head):
            raise file.error(f"is {what}", remedy)
    if named is not None and named.may_be.match(head):
        return named
    return NdjsonReader if _OBJECT.match(head) else CsvReader
