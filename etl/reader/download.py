"""Files at http and https addresses: copied to a temporary file, and read from the copy as often as needed.

Sending may take hours, and a connection seldom lasts so long. So a read beyond the file's head copies all of
it at once, and a connection that breaks is followed by another, which continues where that one stopped.
"""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from collections.abc import Sequence
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage, HTTPResponse
from ssl import SSLCertVerificationError
from typing import Final, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from ..errors import SourceError
from .files import TemporaryCopy

_CHUNK: Final = 1 << 18
_HEAD: Final = 1 << 24  # enough to recognize a file
_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "propsync"}
_SAFE_IN_URL: Final = "%/:?#[]@!$&'()*+,;=~"
_CERTIFICATE: Final = (
    "check the address and the clock; in a company, set SSL_CERT_FILE to a file with its certificates"
)
_WAITS: Final = (1.0, 2.0, 5.0, 15.0, 30.0)
_TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class WebFile(TemporaryCopy):
    """A file at a web address, as far as it is copied.

    `name` is the address without its user and query, which may be secrets. `timeout` is how many seconds the
    server may send nothing; `waits` are those after each failure in a row before the next try.
    """

    def __init__(self, name: str, address: str, timeout: float = 60, waits: Sequence[float] = _WAITS) -> None:
        super().__init__(name)
        self._address, self._timeout, self._waits = address, timeout, waits
        self._lock = threading.Lock()
        self._answer: HTTPResponse | None = None
        self._validator: str | None = None
        self._state: tuple[int | None, int | None] = (None, None)
        self._whole = False

    def fetch(self) -> int:
        """Copy all of it, and return its size."""
        self._need(_HEAD + 1)
        return self.size

    def state(self) -> tuple[int | None, int | None]:
        """Ask the server for the size and the time of change.

        If it doesn't answer any more, since addresses may be signed for an hour, those of the whole copy.
        """
        if not self._whole and self.size == 0:
            self._need(1)
            return self._state
        try:
            with closing(self._request({})) as answer:
                return _state_in(answer.headers)
        except (OSError, HTTPException, ValueError) as error:
            if not self._whole:
                raise _request_error(self.name, error) from error
            return self._state

    def read_at(self, start: int, count: int) -> bytes:
        """Copy these bytes, and return them."""
        self._need(start + count)
        return super().read_at(start, count)

    def _need(self, until: int) -> None:
        """Copy at least so many bytes; beyond the head always all. Raises SourceError, StateError."""
        with self._lock:
            while not self._whole and (until > _HEAD or self.size < until):
                chunk = self._next_chunk()
                self.append(chunk)
                if not chunk:
                    self._whole = True
                    self._drop()

    def _next_chunk(self) -> bytes:
        """The next bytes, over a new connection if the last one failed; b"" at the end."""
        failures = 0
        while True:
            try:
                if self._answer is None:
                    self._answer = self._connected()
                chunk, size = self._answer.read1(_CHUNK), self._state[0]
                if not chunk and size is not None and self.size < size:
                    raise ConnectionResetError(f"it ended after {self.size:,} of {size:,} bytes")
            except (OSError, HTTPException, ValueError) as error:  # ValueError: it is not an address
                self._drop()
                code = error.code if isinstance(error, HTTPError) else None
                if code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    raise self._changed() from error
                failure, last = _request_error(self.name, error), failures == len(self._waits)
                if self.size and last:
                    where = f"after {self.size:,} bytes, {failures + 1} times in a row"
                    hint = "download it first, or have it served by one that sends parts of files (Range)"
                    raise SourceError(f"{failure.message} ({where})", hint=hint) from error
                if self.size == 0 or (code is not None and code not in _TEMPORARY):
                    raise failure from error
                time.sleep(self._waits[failures])
                failures += 1
            else:
                return chunk

    def _connected(self) -> HTTPResponse:
        """Open an answer that continues behind the bytes that are copied."""
        if self.size == 0:
            answer = self._request({})
            self._state = _state_in(answer.headers)
            tag = answer.headers.get("ETag", "")
            self._validator = tag if tag.startswith('"') else answer.headers.get("Last-Modified")
            self.append(b"", expected=self._state[0] or 0)
            return answer
        same = {} if self._validator is None else {"If-Range": self._validator}
        answer = self._request({"Range": f"bytes={self.size}-", **same})
        if answer.status == HTTPStatus.PARTIAL_CONTENT:
            span, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
            if span.partition("-")[0].strip() != str(self.size):
                what = ": the download can't be resumed: the server sent another part of it"
                raise self.error(what, "download it first")
            if self._state[0] is not None and total.strip() not in {"*", str(self._state[0])}:
                raise self._changed()
            return answer
        if _state_in(answer.headers)[0] != self._state[0]:
            raise self._changed()
        at = 0  # skip what is there, if it is still the same
        while at < self.size:
            chunk = answer.read1(min(_CHUNK, self.size - at))
            if not chunk:
                raise ConnectionResetError(f"it ended after {at:,} bytes")
            if chunk != super().read_at(at, len(chunk)):
                raise self._changed()
            at += len(chunk)
        return answer

    def _changed(self) -> SourceError:
        return self.error("changed while it was being read", "run again once it is whole")

    def _drop(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def _request(self, headers: dict[str, str]) -> HTTPResponse:
        parts = urlsplit(self._address)
        user, _, host = parts.netloc.rpartition("@")
        path, query = (quote(part, safe=_SAFE_IN_URL) for part in (parts.path, parts.query))
        url = urlunsplit((parts.scheme, host.encode("idna").decode(), path, query, ""))
        request = Request(url, headers=headers | _HEADERS)  # noqa: S310 - http and https
        if user:  # for this server alone, not for one that it redirects to
            credentials = b64encode(unquote(user).encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {credentials}")
        try:
            return cast("HTTPResponse", urlopen(request, timeout=self._timeout))  # noqa: S310
        except HTTPError as error:
            error.close()
            raise


def _state_in(headers: HTTPMessage) -> tuple[int | None, int | None]:
    """Size and time of change in an answer's headers."""
    size, modified = headers.get("Content-Length", ""), None
    with suppress(ValueError, TypeError):  # there is none, or it is not a date
        modified = int(parsedate_to_datetime(headers["Last-Modified"]).timestamp()) * 10**9
    return int(size) if size.isdecimal() else None, modified


def _request_error(name: str, error: Exception) -> SourceError:
    if type(error) is URLError and isinstance(error.reason, Exception):
        error = error.reason
    if isinstance(error, HTTPError) and error.code in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return SourceError(f"{name} is not there", hint="check the address, and that its server is up")
    hint = "try again, or download it first"
    match error:
        case HTTPError():
            what = f"the server answered {error.code} {error.reason}"
        case TimeoutError():
            what = "the server doesn't answer"
        case ConnectionResetError(args=(said,)):
            what = str(said)
        case SSLCertVerificationError():
            what, hint = f"its certificate is not valid: {error.verify_message}", _CERTIFICATE
        case _:
            what = type(error).__name__
    return SourceError(f"{name} can't be read: {what}", hint=hint)
