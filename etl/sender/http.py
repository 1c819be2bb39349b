"""One request over the network, and its answer or its error. The only user of aiohttp as a client."""

from __future__ import annotations

import os
import re
import socket
import ssl
import sys
import time
import urllib.request
import zlib
from collections.abc import Mapping, Sequence
from typing import Final, Self, TypeAlias
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from ..amplitude.answers import quote_answer
from ..amplitude.responses import Response, Stop, TryAgain
from ..errors import DestinationError, UsageError
from ..model import Body
from .proxy import proxy_for

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_TIMEOUT: Final = aiohttp.ClientTimeout(total=120, sock_connect=15, sock_read=60)
_GZIP_MAGIC: Final = b"\x1f\x8b"
_UNREADABLE: Final = b"with a body that is not what its Content-Encoding says"

# The result of a request; `TryAgain` if there is no answer, in doubt unless it was never sent.
Answer: TypeAlias = Response | TryAgain | Stop


class HttpSession:
    """Requests to paths of `endpoint`, over a pool of at most `connections` connections.

    Use it as an asynchronous context manager. Every request has `headers`. `secrets` and the proxy's password
    never show in messages. At most `most_answer_bytes` of an answer are read. Raises UsageError for an
    endpoint or a proxy that can't be used.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        connections: int,
        headers: Mapping[str, str] | None = None,
        secrets: tuple[str, ...] = (),
        most_answer_bytes: int = 64 * 1024,
        allow_http: bool = False,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> None:
        self._endpoint = endpoint.rstrip("/")
        parts = urlsplit(endpoint)
        self._host = host = parts.hostname or ""
        if parts.scheme not in {"http", "https"} or not host:
            raise UsageError(f"{endpoint} is not a base URL", hint="give one like https://api2.amplitude.com")
        if parts.scheme == "http" and host not in _LOOPBACK and not allow_http:
            raise UsageError(
                f"{endpoint} would carry the API key in the clear",
                hint="use https, or give --allow-http if the way to that host is safe",
            )
        of_system: Mapping[str, str] = {}  # on macOS and Windows, if the environment has no proxy
        is_local = host in _LOOPBACK
        if not is_local and sys.platform in {"darwin", "win32"} and not urllib.request.proxy_bypass(host):
            of_system = urllib.request.getproxies()
        self._proxy = None if is_local else proxy_for(endpoint, os.environ, of_system)
        self._headers = headers or {}
        self._secrets = (*secrets, *(self._proxy.secrets if self._proxy else ()))
        self._most_answer_bytes = most_answer_bytes
        self._connections = connections
        self._timeout = timeout or _TIMEOUT

    async def __aenter__(self) -> Self:
        proxy = self._proxy
        login = {"Proxy-Authorization": proxy.login} if proxy and proxy.login else {}
        tunnelled = self._endpoint.startswith("https:")
        self._tunnel_login = login if tunnelled else None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=30),
            timeout=self._timeout,
            headers={
                **self._headers,
                "User-Agent": "propsync",
                "Accept-Encoding": "identity",
                # A proxy that tunnels reads it before; any other one reads it here and takes it out.
                **({} if tunnelled else login),
            },
            # The proxy was read above, and ~/.netrc must not be used.
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def request(
        self, method: str, path: str, body: Body = (), headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request once. Raises DestinationError for a wrong certificate: trying again can't help."""
        pieces = _Pieces(body)
        try:
            async with self._session.request(
                method,
                self._endpoint + path,
                data=pieces if body else None,
                headers=headers,
                allow_redirects=False,
                proxy=self._proxy.url if self._proxy else None,
                proxy_headers=self._tunnel_login,
            ) as answer:
                text = bytearray()
                while piece := await answer.content.readany():
                    text += piece
                    if len(text) > self._most_answer_bytes:  # cut off, and the connection with it
                        break
                return self._answer(answer, bytes(text))
        except aiohttp.ClientHttpProxyError as error:
            return self._refused_by_proxy(error.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if (fault := _certificate_fault(error)) is not None:
                quoted = quote_answer(fault.encode(), *self._secrets)
                raise DestinationError(
                    f"no safe connection to {self._host}: its certificate is not valid: {quoted}",
                    hint="waiting doesn't help: check the URL, the clock and the proxy; "
                    "in a company, set SSL_CERT_FILE to a file with its certificates",
                ) from error
            # Before the first byte of the body was written, nothing can have been applied.
            if pieces.began or not body:
                return TryAgain(True, f"no answer from {self._host}: {_describe_error(error)}")
            to = self._host
            if self._proxy and isinstance(error, aiohttp.ClientProxyConnectionError):
                to = f"the proxy {urlsplit(self._proxy.url).netloc} of {self._proxy.variable}"
            return TryAgain(False, f"no connection to {to}: {_describe_error(error)}", unsent=True)

    def _answer(self, answer: aiohttp.ClientResponse, body: bytes) -> Answer:
        if answer.status == 407:
            return self._refused_by_proxy(407)
        encodings = answer.headers.getall("Content-Encoding", [])
        if answer.status != 200 and not encodings and body.startswith(_GZIP_MAGIC):
            encodings = ["gzip"]
        text = decompressed(body, encodings, self._most_answer_bytes)
        if text is None:
            text = _UNREADABLE if answer.status == 200 else body
        return Response(answer.status, answer.headers, text, self._secrets, time.time())

    def _refused_by_proxy(self, status: int) -> Answer:
        proxy = f"the proxy of {self._proxy.variable}" if self._proxy else "a proxy on the way"
        if status == 407:
            place = self._proxy.variable if self._proxy else "the proxy's settings"
            return Stop(
                f"{proxy} answered 407: it asks for a user and password, or refuses those it got",
                f"put them into {place}: http://user:password@host:port",
            )
        return TryAgain(False, f"no connection to {self._host}: {proxy} answered {status}", unsent=True)


class _Pieces(aiohttp.Payload):
    """A request's body, written piece by piece: a long piece is not copied to be joined to a short one.

    `began`: there was a connection, and writing to it began.
    """

    _autoclose = True  # nothing is open

    def __init__(self, request: Body) -> None:
        super().__init__(request)
        self._size = sum(map(len, request))
        self.began = False

    async def write(self, writer: AbstractStreamWriter) -> None:
        self.began = True
        for piece in self._value:
            await writer.write(piece)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value).decode(encoding, errors)


# --- errors in plain words, as the texts of libraries name their internals --------------------------------

_BY_TYPE: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (aiohttp.ClientConnectorDNSError, "the name was not found"),
    (aiohttp.ConnectionTimeoutError, "timed out"),
    (TimeoutError, "no answer in time"),
    (aiohttp.ServerDisconnectedError, "the connection was closed before an answer came"),
    (aiohttp.ClientPayloadError, "the answer broke off"),
    (aiohttp.ClientResponseError, "what came back is not HTTP"),
)


def _describe_error(error: BaseException) -> str:
    """What an error of the network means."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, socket.gaierror):
        return "the name was not found"
    for kind, meaning in _BY_TYPE:
        if isinstance(error, kind):
            return meaning
    # Also where it came as the reason of a TLS connection that failed.
    for one in (cause, error, error.__cause__):
        if isinstance(one, ssl.SSLError):
            reason = getattr(one, "reason", None) or ""
            known = reason.lower().replace("_", " ") if re.fullmatch(r"[A-Z0-9_]{1,80}", reason) else ""
            return f"the TLS handshake failed: {known}".removesuffix(": ")
    error = cause if isinstance(cause, OSError) else error
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    if isinstance(error, ConnectionError):
        return "the connection was lost"
    return f"the connection failed ({type(error).__name__})"


def _certificate_fault(error: BaseException) -> str | None:
    """What is wrong with the other end's certificate; None where something else failed."""
    # aiohttp's error is one of Python's, too; only the one inside says what is wrong.
    inside = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    faults = [one for one in (inside, error) if isinstance(one, ssl.SSLCertVerificationError)]
    said = (getattr(one, "verify_message", "") for one in faults)
    return next(filter(None, said), "it could not be verified") if faults else None


# --- answers that a proxy or relay compressed, though nothing asked for it ----------------------------------

# gzip or zlib, by the header of the data; and deflate without a header.
_WITH_HEADER: Final = 32 + zlib.MAX_WBITS
_BARE: Final = -zlib.MAX_WBITS
_FORMS: Final = {"gzip": (_WITH_HEADER,), "x-gzip": (_WITH_HEADER,), "deflate": (_WITH_HEADER, _BARE)}
_MOST_LAYERS: Final = 4


def decompressed(body: bytes, encodings: Sequence[str], most: int) -> bytes | None:
    """Decompress a body, up to `most` bytes of it; None if it isn't what its Content-Encodings say.

    `encodings` are the values of all such headers, in order. With the bound a small answer can't fill the
    memory.
    """
    names = [name for value in encodings for name in re.split(r"[\s,]+", value.lower()) if name]
    layers = [name for name in reversed(names) if name != "identity"]
    if len(layers) > _MOST_LAYERS:
        return None
    for name in layers:
        texts = (_inflated(body, form, most) for form in _FORMS.get(name, ()))
        text = next((text for text in texts if text is not None), None)
        if text is None:
            return None
        body = text
    return body


def _inflated(body: bytes, form: int, most: int) -> bytes | None:
    """All members of a compressed body, up to a bound; None for corrupt data, or data that breaks off."""
    found = bytearray()
    while body:
        member = zlib.decompressobj(form)
        try:
            found += member.decompress(body, most - len(found))
        except zlib.error:
            return None
        if len(found) >= most:
            break
        if not member.eof:
            return None
        body = member.unused_data.lstrip(b"\x00")  # padding
    return bytes(found)
