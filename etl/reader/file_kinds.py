"""Files that hold no rows which can be read here: their first bytes tell what they are."""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Kind(NamedTuple):
    """What a file is, as the end of a sentence, and what to do about it."""

    name: str
    remedy: str


_UNPACK: Final = "unpack it first, for example with: {}"
_EXPORT: Final = "write its rows as CSV or Parquet, for example with {}"
_SAVE: Final = "save the sheet as CSV, or write its rows as Parquet"
_AGAIN: Final = "look at its first lines, and export or download it again"

_TAR: Final = Kind("a tar archive", _UNPACK.format("tar -xf FILE") + ", and name the files in it")
_WEB_PAGE: Final = Kind("an HTML page, perhaps a sign-in page or an error", _AGAIN)
_DUCKDB: Final = "DuckDB: COPY (SELECT ...) TO 'users.parquet'"

# Begins that no text has; those in letters are followed by a byte that is no letter.
_BEGINS: Final[tuple[tuple[bytes, Kind], ...]] = (
    (b"\xfd7zXZ\x00", Kind("packed with xz", _UNPACK.format("xz -d FILE"))),
    (b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", _UNPACK.format("7z x FILE"))),
    (b"Rar!\x1a\x07", Kind("a RAR archive", _UNPACK.format("unrar x FILE"))),
    (b"LZIP\x01", Kind("packed with lzip", _UNPACK.format("lzip -d FILE"))),
    (b"\x1f\x9d", Kind("packed with compress", _UNPACK.format("uncompress FILE"))),
    (b"\xff\x06\x00\x00sNaPpY", Kind("packed with Snappy", _UNPACK.format("snzip -d FILE"))),
    (b"\x5d\x00\x00\x80\x00", Kind("packed with LZMA", _UNPACK.format("xz -d FILE"))),
    (b"\x1f\x8b", Kind("packed twice", _UNPACK.format("gzip -d FILE"))),
    (b"\x28\xb5\x2f\xfd", Kind("packed twice", _UNPACK.format("zstd -d FILE"))),
    (b"PK\x05\x06", Kind("an empty zip archive", _AGAIN)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind("an old Excel workbook", _SAVE)),
    (b"ARROW1\0\0", Kind("an Arrow (Feather) file", _EXPORT.format("pyarrow.parquet.write_table"))),
    (b"\xff\xff\xff\xff", Kind("an Arrow stream", _EXPORT.format("pyarrow.parquet.write_table"))),
    (b"Obj\x01", Kind("an Avro file", _EXPORT.format(_DUCKDB))),
    (b"SQLite format 3\0", Kind("a SQLite database", _EXPORT.format("sqlite3 -header -csv FILE 'SELECT'"))),
    (b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file", _EXPORT.format("pandas.read_hdf"))),
    (b"\x93NUMPY", Kind("a NumPy array", _EXPORT.format("pandas"))),
    (b"$FL2@", Kind("an SPSS file", _EXPORT.format("pandas.read_spss"))),
    (b"PGDMP\x01", Kind("a PostgreSQL dump", _EXPORT.format("pg_restore, and psql's \\copy"))),
    (b"%PDF-", Kind("a PDF document", _AGAIN)),
    (b"-----BEGIN PGP MESSAGE", Kind("encrypted by PGP", "decrypt it first, for example with: gpg -d FILE")),
    (b"age-encryption.org/v1", Kind("encrypted by age", "decrypt it first, for example with: age -d FILE")),
    (b"version https://git-lfs.github.com/", Kind("a Git LFS pointer", "fetch the file with: git lfs pull")),
)  # fmt: skip
# Texts, after blanks.
_TEXTS: Final[tuple[tuple[re.Pattern[bytes], Kind], ...]] = (
    (re.compile(rb"<!doctype html|<html|<head|<body", re.IGNORECASE), _WEB_PAGE),
    (re.compile(rb"<\?xml|<Error>", re.IGNORECASE), Kind("an XML document", _AGAIN)),
    (
        re.compile(rb"-- (MySQL|MariaDB|PostgreSQL|phpMyAdmin)|(INSERT INTO|CREATE TABLE|DROP TABLE)\s"),
        Kind("an SQL dump", _EXPORT.format("a query of that database")),
    ),
)
_BLANK: Final = b" \t\r\n"
_ZIP: Final = b"PK\x03\x04"
_TAR_AT: Final = 257
_DUCK_AT: Final = 8


def kind_of(head: bytes) -> Kind | None:
    """What a file is that begins so (unpacked, 4 KiB are enough), if it is something that isn't read here."""
    if head.startswith(_ZIP):
        return _zipped(head)
    if head[_TAR_AT:].startswith((b"ustar\0", b"ustar ")):
        return _TAR
    if head.startswith(b"ORC") and b"\0" in head:
        return Kind("an ORC file", _EXPORT.format("pyarrow.orc"))
    if head.startswith(b"FEA1") and b"\0" in head:
        return Kind("an old Feather file", _EXPORT.format("pyarrow.parquet.write_table"))
    if head[_DUCK_AT:].startswith(b"DUCK") and b"\0" in head:
        return Kind("a DuckDB database", _EXPORT.format(_DUCKDB))
    found = next((kind for begin, kind in _BEGINS if head.startswith(begin)), None)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(_BLANK)
    return found or next((kind for pattern, kind in _TEXTS if pattern.match(text)), None)


def _zipped(head: bytes) -> Kind:
    if b"xl/" in head or b"[Content_Types].xml" in head:
        return Kind("an Excel workbook", _SAVE)
    if b"opendocument" in head:
        return Kind("an OpenDocument sheet", _SAVE)
    return Kind("a zip archive or an Excel workbook", _UNPACK.format("unzip FILE") + ", or save it as CSV")
