"""A file at a web address on its way into a temporary file, over as many connections as that takes.

Sending may take hours, and a connection seldom lasts so long. So who reads on gets all of a file copied at
once, and a connection that breaks is followed by another, which goes on where that one stood.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, Final, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from etl.errors import SourceError, StateError

_AT_ONCE: Final = 1 << 18
_HEAD: Final = 1 << 24  # enough for a look at a file
_PARTIAL: Final = 206
_NOT_THAT_PART: Final = 416
_GONE: Final = frozenset({404, 410})
_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "propsync"}
_WRITTEN_AS_IT_IS: Final = "%/:?#[]@!$&'()*+,;=~"
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a server may be silent, and to wait after each failure in a row before the next try."""

    silence: float = 60.0
    waits: tuple[float, ...] = (1.0, 2.0, 5.0, 15.0, 30.0)
    sleep: Callable[[float], None] = time.sleep


_USUAL: Final = Patience()


class Download:
    """The bytes of an address in a file without a name, which is gone with this process.

    `have` bytes from the beginning are there, and `told` is what the server said of the file.
    """

    def __init__(self, name: str, address: str, patience: Patience | None = None) -> None:
        self._name, self._address, self._patience = name, address, patience or _USUAL
        self._lock = threading.Lock()
        self._file = _temporary_file(name)
        self._answer: HTTPResponse | None = None
        self._size: int | None = None
        self._validator: str | None = None
        self.told: tuple[int | None, int | None] = (None, None)
        self.have = 0
        self.whole = False

    @property
    def begun(self) -> bool:
        """Whether anything was copied."""
        return self.whole or self.have > 0

    def read_at(self, start: int, count: int) -> bytes:
        """At most `count` bytes from position `start`; b"" at the end."""
        self.need(start + count)
        return os.pread(self._file.fileno(), count, start)

    def need(self, until: int | None) -> None:
        """Copy at least so many bytes, or all; beyond the head always all. Raises SourceError, StateError."""
        everything = until is None or until > _HEAD
        with self._lock:
            while not self.whole and (everything or self.have < (until or 0)):
                self._copy_more()

    def _copy_more(self) -> None:
        """Append some bytes, over a new connection where the last one failed."""
        for wait in (*self._patience.waits, None):
            try:
                return self._append(self._next())
            except (OSError, HTTPException) as error:
                if isinstance(error, HTTPError):
                    error.close()
                self._drop()
                if self.have == 0 or wait is None or not _passing(error):
                    raise self._failure(error, tried=self.have > 0 and wait is None) from error
                self._patience.sleep(wait)
        return None

    def _next(self) -> bytes:
        """The next bytes of the connection; b"" where the file ends."""
        if self._answer is None:
            self._answer = self._connected()
        chunk = self._answer.read1(_AT_ONCE)
        if not chunk and self._size is not None and self.have < self._size:
            raise ConnectionResetError(f"it ended after {self.have:,} of {self._size:,} bytes")
        return chunk

    def _append(self, chunk: bytes) -> None:
        with _writing(self._name):
            at = 0
            while at < len(chunk):
                at += os.pwrite(self._file.fileno(), chunk[at:], self.have + at)
        self.have += len(chunk)
        if not chunk:
            self.whole = True
            self._drop()

    def _connected(self) -> HTTPResponse:
        """An answer whose next byte is the one after those that are there."""
        if self.have == 0:
            answer = ask(self._name, self._address, self._patience)
            self._note(answer.headers)
            return answer
        headers = {"Range": f"bytes={self.have}-"}
        if self._validator is not None:
            headers["If-Range"] = self._validator
        answer = _opened(self._address, self._patience, headers)
        if answer.status == _PARTIAL:
            self._check_range(answer.headers.get("Content-Range", ""))
        elif told_by(answer.headers)[0] == self._size:
            self._skip(answer)
        else:
            raise self._changed()
        return answer

    def _note(self, headers: HTTPMessage) -> None:
        self.told = told_by(headers)
        self._size = self.told[0]
        tag = headers.get("ETag", "")
        self._validator = tag if tag.startswith('"') else headers.get("Last-Modified")
        folder = tempfile.gettempdir()
        if self._size is not None and self._size > shutil.disk_usage(folder).free:
            raise _no_room(self._name)

    def _check_range(self, told: str) -> None:
        """Whether the answer begins where it should, and is of a file as long as before."""
        span, _, size = told.removeprefix("bytes ").partition("/")
        if span.partition("-")[0].strip() != str(self.have):
            raise SourceError(
                f"{self._name} can't be read on: the server sent another part than was asked for",
                hint="download it first",
            )
        if self._size is not None and size.strip() not in {"*", str(self._size)}:
            raise self._changed()

    def _skip(self, answer: HTTPResponse) -> None:
        """From a server that sends whole files only: pass over what is there, if it is still the same."""
        at = 0
        while at < self.have:
            chunk = answer.read1(min(_AT_ONCE, self.have - at))
            if not chunk:
                raise ConnectionResetError(f"it ended after {at:,} bytes")
            if chunk != os.pread(self._file.fileno(), len(chunk), at):
                raise self._changed()
            at += len(chunk)

    def _changed(self) -> SourceError:
        return SourceError(f"{self._name} changed while it was being read", hint="run again once it is whole")

    def _failure(self, error: Exception, *, tried: bool) -> SourceError:
        if isinstance(error, HTTPError) and error.code == _NOT_THAT_PART:
            return self._changed()
        failure = _as_source_error(self._name, error)
        if tried:
            where = f"after {self.have:,} bytes, {len(self._patience.waits) + 1} times in a row"
            hint = "download it first, or have it served by a server that sends parts of files (Range)"
            return SourceError(f"{failure.message} ({where})", hint=hint)
        return failure

    def _drop(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None


def ask(name: str, address: str, patience: Patience | None = None) -> HTTPResponse:
    """The answer to the first question; SourceError if it is none."""
    try:
        return _opened(address, patience or _USUAL, {})
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise _as_source_error(name, error) from error


def _opened(address: str, patience: Patience, headers: dict[str, str]) -> HTTPResponse:
    parts = urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    path, query = (quote(part, safe=_WRITTEN_AS_IT_IS) for part in (parts.path, parts.query))
    url = urlunsplit((parts.scheme, host.encode("idna").decode(), path, query, ""))
    request = Request(url, headers=headers | _HEADERS)  # noqa: S310 - http and https
    if user:  # for this server alone, wherever it sends us
        request.add_unredirected_header(
            "Authorization", f"Basic {b64encode(unquote(user).encode()).decode()}"
        )
    return cast("HTTPResponse", urlopen(request, timeout=patience.silence))  # noqa: S310


def told_by(headers: HTTPMessage) -> tuple[int | None, int | None]:
    """Size and time of change, as headers tell them."""
    size, changed = headers.get("Content-Length", ""), headers.get("Last-Modified")
    try:
        modified = int(parsedate_to_datetime(changed).timestamp()) * 10**9 if changed else None
    except ValueError:
        modified = None
    return int(size) if size.isdecimal() else None, modified


def _passing(error: Exception) -> bool:
    """Whether another try may help."""
    return not isinstance(error, HTTPError) or error.code in _PASSING


def _as_source_error(name: str, error: Exception) -> SourceError:
    if type(error) is URLError and isinstance(error.reason, Exception):
        error = error.reason
    if isinstance(error, HTTPError) and error.code in _GONE:
        return SourceError(f"{name} is not there", hint="check the address, and that its server is up")
    what = type(error).__name__
    if isinstance(error, HTTPError):
        what = f"the server answered {error.code} {error.reason}"
    elif isinstance(error, TimeoutError):
        what = "the server is silent"
    elif isinstance(error, ConnectionResetError) and len(error.args) == 1:
        what = str(error)
    return SourceError(f"{name} can't be read: {what}", hint="try again, or download it first")


def _temporary_file(name: str) -> IO[bytes]:
    with _writing(name):
        return tempfile.TemporaryFile(prefix="propsync-")


@contextmanager
def _writing(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _no_room(name) from error
        raise StateError(
            f"{name} can't be copied to a temporary file: {error.strerror or error}",
            hint="set TMPDIR to a folder that can be written",
        ) from error


def _no_room(name: str) -> StateError:
    folder = tempfile.gettempdir()
    return StateError(
        f"{name} can't be copied: there is no room in {folder}",
        hint="set TMPDIR to a folder with more room, or download the file first",
    )
