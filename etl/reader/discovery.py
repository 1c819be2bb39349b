"""The files that a location names, and the reader of each.

A location is one file, a folder or a pattern; its files come in a stable order. The first bytes of a file
decide its reader; if they don't, the end of its name. A new format is a `FileReader` and an entry in
`READERS`.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Final
from urllib.parse import unquote, urlsplit

from pyarrow import fs

from ..arrow.originals import CODEC_ENDINGS
from ..errors import SourceError
from ..text import counted
from .csv_reader import CsvReader
from .excel_reader import ExcelReader
from .file_reader import FileReader
from .files import InputFile, PipedFile, StoredFile, source_errors
from .ndjson_reader import NdjsonReader
from .parquet_reader import ParquetReader
from .store_file import FILES_AHEAD, StoreFile
from .stores import Store, open_store

_READERS: Final = (CsvReader, ParquetReader, NdjsonReader, ExcelReader)
READERS: Final[Mapping[str, type[FileReader]]] = {reader.format: reader for reader in _READERS}

_WILDCARD: Final = re.compile(r"[*?\[]")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_NAMED: Final = 5  # endings that a message names
# Files that hold no rows: hidden ones, and `_SUCCESS` and `_metadata`, which writers leave beside their data.
_HIDDEN: Final = (".", "_")


def find_files(location: str, folder: Path, left_out: Counter[str] | None = None) -> list[InputFile]:
    """Find the files that a location names, at least one; a relative path starts at `folder`.

    `left_out` counts the files in folders that are left out because their endings aren't known, by ending.
    """
    left_out = Counter() if left_out is None else left_out
    if not location:
        raise SourceError("a source is empty", hint="name a file, a folder or a pattern")
    if location == "-":
        return [PipedFile("stdin", _standard_input)]
    scheme = location.partition("://")[0].lower() if _SCHEME.match(location) else ""
    if scheme in ("http", "https"):
        from .download import WebFile  # here, as loading Python's HTTP client takes time

        return [WebFile(public_address(location), location)]
    if scheme == "file":
        return _Search(fs.LocalFileSystem(), "", location, left_out).find(unquote(urlsplit(location).path))
    if scheme:  # a store such as S3; a `?` begins its settings, so it is not a wildcard here
        address, _, settings = location.partition("?")
        fixed = _WILDCARD.split(address)[0].rpartition("/")[0] if _WILDCARD.search(address) else address
        store, inside = open_store(fixed, settings)
        files = _Search(store, "", address, left_out).find(inside + unquote(address[len(fixed) :]))
        stored = [file for file in files if isinstance(file, StoreFile)]
        for number, file in enumerate(stored, start=1):
            file.following = stored[number : number + FILES_AHEAD]
        return files
    path = Path(location).expanduser()
    start = "" if path.is_absolute() or folder == Path() else f"{folder.as_posix()}/"
    return _Search(fs.LocalFileSystem(), start, location, left_out).find(path.as_posix())


def public_address(address: str) -> str:
    """Return the address without its user and query, which may be secrets."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def left_out_message(location: str, left_out: Counter[str]) -> str:
    """Return the warning about files that were left out of a folder or pattern."""
    endings = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{ending or 'no ending'} ({count:,})" for ending, count in endings[:_NAMED])
    more = f" and {len(endings) - _NAMED:,} more" if len(endings) > _NAMED else ""
    return (
        f"{public_address(location) if '://' in location else location}: "
        f"{counted(left_out.total(), 'file is', 'files are')} left out, because data files "
        f"have other endings: {named}{more}; a pattern such as `folder/*` takes any ending"
    )


def partitions(name: str) -> dict[str, str | None]:
    """Return the `key=value` folders above a file, as Hive and Spark write them; their null is None."""
    found: dict[str, str | None] = {}
    for part in name.split("/")[:-1]:
        key, sign, value = part.partition("=")
        if key and sign:
            found[unquote(key)] = None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)
    return found


@dataclass(frozen=True, slots=True)
class _Search:
    """Finds the files of one `location`; a relative path starts at `start`, which is not a part of a name."""

    system: fs.FileSystem | Store
    start: str
    location: str
    left_out: Counter[str]

    def find(self, path: str) -> list[InputFile]:
        with source_errors(self.location):
            info = self.system.get_file_info(self.start + path)
            there = info.type != fs.FileType.NotFound
            pattern = not there and _WILDCARD.search(path) is not None
            root = "/" if path.startswith("/") else ""
            infos = dict(self._expand(root, path.split("/"))) if pattern else {info.path: info}
            found = [file for _, one in sorted(infos.items()) for file in self._files(one)]
        if found:
            return found
        if pattern:
            hint = "check the pattern; quote it in a shell"
            raise SourceError(f"{self.location} matches no file", hint=hint)
        if not there and isinstance(self.system, Store):
            raise self.system.missing(info.path)
        if not there:
            hint = f"check the path; it was looked for at {Path(info.path).absolute()}"
            raise SourceError(f"{self.location} is not there", hint=hint)
        hint = "name its files by a pattern such as folder/* if they have unusual endings"
        if self.left_out:
            seen = ", ".join(sorted(one or "no ending" for one in self.left_out)[:_NAMED])
            count = counted(self.left_out.total(), "file is", "files are")
            hint = f"{count} in it with other endings ({seen}); {hint}"
        raise SourceError(f"the folder {self.location} holds no data files", hint=hint)

    def _expand(
        self, done: str, parts: list[str], known: fs.FileInfo | None = None
    ) -> Iterator[tuple[str, fs.FileInfo]]:
        """Paths that begin with `done` and go on as the `parts` require, and what is there."""
        if not parts:
            path = done.removesuffix("/")
            yield path, known or self.system.get_file_info(self.start + path)
        elif not _WILDCARD.search(parts[0]):
            yield from self._expand(f"{done}{parts[0]}/" if parts[0] else done, parts[1:])
        else:
            path = self.start + done
            selector = fs.FileSelector(path.rstrip("/") or ("/" if path else "."), allow_not_found=True)
            listed = self.system.get_file_info(selector.base_dir).type == fs.FileType.Directory
            for info in self.system.get_file_info(selector) if listed else ():
                name, is_folder = info.base_name, info.type == fs.FileType.Directory
                shown = not name.startswith(_HIDDEN)
                if parts[0] == "**":
                    if is_folder and shown:
                        yield from self._expand(f"{done}{name}/", parts)
                elif (
                    (is_folder or len(parts) == 1)
                    and fnmatchcase(name, parts[0])
                    and (shown or name[0] == parts[0][0])
                ):
                    yield from self._expand(f"{done}{name}/", parts[1:], info)
            if parts[0] == "**":
                yield from self._expand(done, parts[1:] or ["*"])

    def _files(self, info: fs.FileInfo) -> Iterator[InputFile]:
        name = info.path.removeprefix(self.start).removeprefix("./")
        if info.type == fs.FileType.Directory:
            inside = self.system.get_file_info(fs.FileSelector(info.path))
            for one in sorted(inside, key=lambda one: one.base_name):
                reader, ending = _reader_by_name(one.base_name)
                if one.base_name.startswith(_HIDDEN):
                    continue
                if one.type == fs.FileType.Directory or reader is not None:
                    yield from self._files(one)
                else:
                    self.left_out[ending] += 1
        elif info.type == fs.FileType.File:
            stored = isinstance(self.system, Store)
            yield StoreFile(self.system, info) if stored else StoredFile(name, info.path)
        elif info.type != fs.FileType.NotFound:
            yield PipedFile(name, lambda: Path(info.path).open("rb", buffering=0))  # noqa: SIM115


def _standard_input() -> IO[bytes]:
    """Standard input without its buffer: the system doesn't know of bytes that wait there."""
    if sys.stdin is None:
        raise SourceError("stdin is closed", hint="give the command its input, or name a file")
    raw: IO[bytes] = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    return raw


# --- which reader reads a file ---------------------------------------------------------------------------

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


def _reader_by_name(name: str) -> tuple[type[FileReader] | None, str]:
    """The reader that the end of a file's name means, or None; and that end, `.csv` or `.csv.gz`."""
    ending, *packed = name.lower().rpartition("/")[2].split(".")[:0:-1] or [""]
    whole = f".{ending}" if ending else ""
    if ending in CODEC_ENDINGS and packed:
        ending, whole = packed[0], f".{packed[0]}{whole}"
    return next((reader for reader in READERS.values() if ending in reader.endings), None), whole


def recognize(file: InputFile) -> type[FileReader]:
    """Look at a file's name and first bytes, and set its codec; SourceError if it can't hold rows."""
    named, ending = _reader_by_name(file.name)
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
