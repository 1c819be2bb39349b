"""Which files a location names: one, those of a folder, or those that match a pattern, in a stable order."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Final
from urllib.parse import unquote, urlsplit

from pyarrow import fs

from ..errors import SourceError
from ..text import counted
from .files import InputFile, PipedFile, StoredFile, source_errors
from .formats import reader_by_name
from .store_file import FILES_AHEAD, StoreFile
from .stores import Store, open_store

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
            infos = {info.path: info}
            if pattern:
                infos = dict(self._expand("/" if path.startswith("/") else "", path.split("/")))
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
                reader, ending = reader_by_name(one.base_name)
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
