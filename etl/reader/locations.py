"""Which files a location means: one, those of a folder, or what a pattern matches, in a stable order."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import IO, Final
from urllib.parse import unquote, urlsplit

from pyarrow import fs

from etl.errors import SourceError
from etl.reader.faults import translated
from etl.reader.formats import is_data_file
from etl.reader.places import Piped, Place, Stored
from etl.reader.web import Web, web_name

_MAGIC = re.compile(r"[*?\[]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
NULL_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"


def find(location: str, folder: Path) -> list[Place]:
    """The places that a location names, at least one; a relative path starts at `folder`."""
    if not location:
        raise SourceError("a source is empty", hint="name a file, a folder or a pattern")
    if location == "-":
        return [Piped("stdin", _standard_input)]
    scheme = location.partition("://")[0].lower() if _SCHEME.match(location) else ""
    if scheme in ("http", "https"):
        return [Web(web_name(location), location)]
    if scheme == "file":
        return _find(fs.LocalFileSystem(), "", unquote(urlsplit(location).path), location)
    if scheme:
        return _find_in_store(location, scheme)
    path = Path(location).expanduser()
    start = "" if path.is_absolute() or folder == Path() else f"{folder.as_posix()}/"
    return _find(fs.LocalFileSystem(), start, path.as_posix(), location)


def partitions(name: str) -> dict[str, str | None]:
    """The `key=value` folders above a file, as Hive and Spark write them; their null is None."""
    found: dict[str, str | None] = {}
    for part in name.split("/")[:-1]:
        key, sign, value = part.partition("=")
        if key and sign:
            found[unquote(key)] = None if value == NULL_PARTITION else unquote(value)
    return found


def _find_in_store(location: str, scheme: str) -> list[Place]:
    """Files in a store such as S3. A `?` begins the store's settings, so it is no wildcard here."""
    address, _, settings = location.partition("?")
    fixed = _MAGIC.split(address)[0].rpartition("/")[0] if _MAGIC.search(address) else address
    shown = web_name(location)
    with translated(shown):
        system, path = fs.FileSystem.from_uri(f"{fixed}?{settings}" if settings else fixed)
    found = _find(system, "", path + unquote(address[len(fixed) :]), shown)
    return [replace(place, name=f"{scheme}://{place.path}") for place in found if isinstance(place, Stored)]


def _find(system: fs.FileSystem, start: str, path: str, location: str) -> list[Place]:
    """`start` is what a relative path begins at; it is no part of a place's name."""
    with translated(location):
        info = system.get_file_info(start + path)
        if info.type == fs.FileType.NotFound and _MAGIC.search(path):
            return _matched(system, start, path, location)
        return list(_files(system, start, info, location))


def _matched(system: fs.FileSystem, start: str, pattern: str, location: str) -> list[Place]:
    found = sorted(_expand(system, start, "/" if pattern.startswith("/") else "", pattern.split("/")))
    infos = system.get_file_info([start + path for path in found])
    places = [
        place
        for info in infos
        if info.type != fs.FileType.NotFound
        for place in _files(system, start, info, location, alone=False)
    ]
    if not places:
        raise SourceError(f"{location} matches no file", hint="check the pattern; quote it in a shell")
    return places


def _expand(system: fs.FileSystem, start: str, done: str, parts: list[str]) -> Iterator[str]:
    """The paths that begin with `done` and go on as the pattern's `parts` say."""
    if not parts:
        yield done.removesuffix("/")
    elif not _MAGIC.search(parts[0]):
        yield from _expand(system, start, f"{done}{parts[0]}/" if parts[0] else done, parts[1:])
    else:
        for name, is_folder in _listed(system, start + done):
            if parts[0] == "**" and is_folder and _visible(name):
                yield from _expand(system, start, f"{done}{name}/", parts)
            elif parts[0] != "**" and _matches(name, parts[0]) and (is_folder or len(parts) == 1):
                yield from _expand(system, start, f"{done}{name}/", parts[1:])
        if parts[0] == "**":
            yield from _expand(system, start, done, parts[1:] or ["*"])


def _listed(system: fs.FileSystem, path: str) -> list[tuple[str, bool]]:
    selector = fs.FileSelector(path.rstrip("/") or ("/" if path else "."), allow_not_found=True)
    if system.get_file_info(selector.base_dir).type != fs.FileType.Directory:
        return []
    infos = system.get_file_info(selector)
    return sorted((info.base_name, info.type == fs.FileType.Directory) for info in infos)


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) and (_visible(name) or name[0] == pattern[0])


def _visible(name: str) -> bool:
    """Hidden files, and the `_SUCCESS` and `_metadata` that writers leave beside their data, hold no rows."""
    return not name.startswith((".", "_"))


def _files(
    system: fs.FileSystem, start: str, info: fs.FileInfo, location: str, *, alone: bool = True
) -> Iterator[Place]:
    name = info.path.removeprefix(start).removeprefix("./")
    if info.type == fs.FileType.NotFound:
        hint = f"check the path; it was looked for at {Path(info.path).absolute()}"
        raise SourceError(f"{location} is not there", hint=hint)
    if info.type == fs.FileType.Directory:
        places = list(_below(system, start, info.path, location))
        if alone and not places:
            hint = "name its files by a pattern such as folder/* if they have unusual endings"
            raise SourceError(f"the folder {location} holds no data files", hint=hint)
        yield from places
    elif info.type == fs.FileType.File:
        yield Stored(name, system, info.path)
    else:
        yield Piped(name, partial(_open_pipe, info.path))


def _below(system: fs.FileSystem, start: str, path: str, location: str) -> Iterator[Place]:
    infos = system.get_file_info(fs.FileSelector(path))
    for info in sorted(infos, key=lambda info: info.base_name):
        is_folder = info.type == fs.FileType.Directory
        if _visible(info.base_name) and (is_folder or is_data_file(info.base_name)):
            yield from _files(system, start, info, location, alone=False)


def _open_pipe(path: str) -> IO[bytes]:
    return Path(path).open("rb", buffering=0)


def _standard_input() -> IO[bytes]:
    """Without its buffer, in which bytes could wait that the system knows nothing of."""
    if sys.stdin is None:
        raise SourceError("stdin is closed", hint="give the command its input, or name a file")
    raw: IO[bytes] = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    return raw
