"""Which files a location means: one, those of a folder, or what a pattern matches, in a stable order."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import IO, Final
from urllib.parse import unquote, urlsplit

from pyarrow import fs

from etl.errors import SourceError
from etl.reader.faults import translated
from etl.reader.formats import ending, is_data_file
from etl.reader.places import Piped, Place, Stored
from etl.reader.web import Web, web_name
from etl.wording import counted

_MAGIC = re.compile(r"[*?\[]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_NAMED: Final = 5  # endings that a message names
NULL_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"


def find(location: str, folder: Path, left_out: Counter[str] | None = None) -> list[Place]:
    """The places that a location names, at least one; a relative path starts at `folder`.

    `left_out` counts the files in folders that are left out because their endings aren't known, by ending.
    """
    left_out = Counter() if left_out is None else left_out
    if not location:
        raise SourceError("a source is empty", hint="name a file, a folder or a pattern")
    if location == "-":
        return [Piped("stdin", _standard_input)]
    scheme = location.partition("://")[0].lower() if _SCHEME.match(location) else ""
    if scheme in ("http", "https"):
        return [Web(web_name(location), location)]
    if scheme == "file":
        search = _Search(fs.LocalFileSystem(), "", location, left_out)
        return search.find(unquote(urlsplit(location).path))
    if scheme:
        return _find_in_store(location, scheme, left_out)
    path = Path(location).expanduser()
    start = "" if path.is_absolute() or folder == Path() else f"{folder.as_posix()}/"
    return _Search(fs.LocalFileSystem(), start, location, left_out).find(path.as_posix())


def left_out_sentence(location: str, left_out: Counter[str]) -> str:
    """What a user should know of the files that were left out of a folder or pattern."""
    endings = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{ending or 'no ending'} ({count:,})" for ending, count in endings[:_NAMED])
    more = f" and {len(endings) - _NAMED:,} more" if len(endings) > _NAMED else ""
    return (
        f"{web_name(location) if '://' in location else location}: "
        f"{counted(left_out.total(), 'file is', 'files are')} left out, as their endings are not those of "
        f"data files: {named}{more}; a pattern such as `folder/*` takes any ending"
    )


def partitions(name: str) -> dict[str, str | None]:
    """The `key=value` folders above a file, as Hive and Spark write them; their null is None."""
    found: dict[str, str | None] = {}
    for part in name.split("/")[:-1]:
        key, sign, value = part.partition("=")
        if key and sign:
            found[unquote(key)] = None if value == NULL_PARTITION else unquote(value)
    return found


def _find_in_store(location: str, scheme: str, left_out: Counter[str]) -> list[Place]:
    """Files in a store such as S3. A `?` begins the store's settings, so it is no wildcard here."""
    address, _, settings = location.partition("?")
    fixed = _MAGIC.split(address)[0].rpartition("/")[0] if _MAGIC.search(address) else address
    shown = web_name(location)
    with translated(shown):
        system, path = fs.FileSystem.from_uri(f"{fixed}?{settings}" if settings else fixed)
    found = _Search(system, "", shown, left_out).find(path + unquote(address[len(fixed) :]))
    return [replace(place, name=f"{scheme}://{place.path}") for place in found if isinstance(place, Stored)]


@dataclass(frozen=True, slots=True)
class _Search:
    """Finds the files of one `location`; `start` is what a relative path begins at, and no part of a name."""

    system: fs.FileSystem
    start: str
    location: str
    left_out: Counter[str]

    def find(self, path: str) -> list[Place]:
        with translated(self.location):
            info = self.system.get_file_info(self.start + path)
            if info.type == fs.FileType.NotFound and _MAGIC.search(path):
                return self._matched(path)
            return list(self._files(info))

    def _matched(self, pattern: str) -> list[Place]:
        found = sorted(self._expand("/" if pattern.startswith("/") else "", pattern.split("/")))
        infos = self.system.get_file_info([self.start + path for path in found])
        there = [info for info in infos if info.type != fs.FileType.NotFound]
        places = [place for info in there for place in self._files(info, alone=False)]
        if not places:
            hint = "check the pattern; quote it in a shell"
            raise SourceError(f"{self.location} matches no file", hint=hint)
        return places

    def _expand(self, done: str, parts: list[str]) -> Iterator[str]:
        """The paths that begin with `done` and go on as the pattern's `parts` say."""
        if not parts:
            yield done.removesuffix("/")
        elif not _MAGIC.search(parts[0]):
            yield from self._expand(f"{done}{parts[0]}/" if parts[0] else done, parts[1:])
        else:
            for name, is_folder in _listed(self.system, self.start + done):
                if parts[0] == "**" and is_folder and _visible(name):
                    yield from self._expand(f"{done}{name}/", parts)
                elif parts[0] != "**" and _matches(name, parts[0]) and (is_folder or len(parts) == 1):
                    yield from self._expand(f"{done}{name}/", parts[1:])
            if parts[0] == "**":
                yield from self._expand(done, parts[1:] or ["*"])

    def _files(self, info: fs.FileInfo, *, alone: bool = True) -> Iterator[Place]:
        name = info.path.removeprefix(self.start).removeprefix("./")
        if info.type == fs.FileType.NotFound:
            hint = f"check the path; it was looked for at {Path(info.path).absolute()}"
            raise SourceError(f"{self.location} is not there", hint=hint)
        if info.type == fs.FileType.Directory:
            places = list(self._below(info.path))
            if alone and not places:
                raise SourceError(f"the folder {self.location} holds no data files", hint=self._hint())
            yield from places
        elif info.type == fs.FileType.File:
            yield Stored(name, self.system, info.path)
        else:
            yield Piped(name, partial(_open_pipe, info.path))

    def _below(self, path: str) -> Iterator[Place]:
        infos = self.system.get_file_info(fs.FileSelector(path))
        for info in sorted(infos, key=lambda info: info.base_name):
            if not _visible(info.base_name):
                continue
            if info.type == fs.FileType.Directory or is_data_file(info.base_name):
                yield from self._files(info, alone=False)
            else:
                self.left_out[ending(info.base_name)] += 1

    def _hint(self) -> str:
        names = "name its files by a pattern such as folder/* if they have unusual endings"
        if not self.left_out:
            return names
        seen = ", ".join(sorted(one or "no ending" for one in self.left_out)[:_NAMED])
        files = counted(self.left_out.total(), "file is", "files are")
        return f"{files} in it with other endings ({seen}); {names}"


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


def _open_pipe(path: str) -> IO[bytes]:
    return Path(path).open("rb", buffering=0)


def _standard_input() -> IO[bytes]:
    """Without its buffer, in which bytes could wait that the system knows nothing of."""
    if sys.stdin is None:
        raise SourceError("stdin is closed", hint="give the command its input, or name a file")
    raw: IO[bytes] = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    return raw
