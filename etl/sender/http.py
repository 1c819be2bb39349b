"""One request over the network, and the verdict of its answer. The only home of aiohttp as a client."""

from __future__ import annotations

import os
import sys
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from etl.amplitude import TransportRules
from etl.answer_text import quote_answer
from etl.errors import DestinationError, UsageError
from etl.model import Body
from etl.responses import Stop, TryAgain, Verdict
from etl.sender.content_encoding import looks_packed, unpacked
from etl.sender.http_errors import certificate_fault, in_words
from etl.sender.proxy import Proxy, proxy_for

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
TIMEOUT: Final = aiohttp.ClientTimeout(total=120, sock_connect=15, sock_read=60)


class Http(ABC):
    """Posts requests to one path of `endpoint` over a pool of at most `connections` connections.

    Use it as an asynchronous context manager. The key stands in request bodies and nowhere else. With
    `trust_status` any 2xx is an acceptance. Raises UsageError for an endpoint or a proxy that can't be used.
    """

    def __init__(
        self,
        endpoint: str,
        key: str,
        *,
        connections: int,
        allow_http: bool = False,
        trust_status: bool = False,
        timeout: aiohttp.ClientTimeout = TIMEOUT,
    ) -> None:
        self._url = endpoint.rstrip("/") + self.rules.path
        self._host = _checked_host(endpoint, allow_http=allow_http)
        self._proxy = None if self._host in _LOOPBACK else _proxy(endpoint, self._host)
        self._key = key
        self._secrets = self._proxy.secrets if self._proxy else ()
        self._trust_status = trust_status
        self._connections = connections
        self._timeout = timeout

    @property
    @abstractmethod
    def rules(self) -> TransportRules:
        """What this way into Amplitude takes."""

    @property
    @abstractmethod
    def headers(self) -> Mapping[str, str]:
        """What every request says of its body."""

    @property
    @abstractmethod
    def most_answer_bytes(self) -> int:
        """So much of an answer is read."""

    @abstractmethod
    async def pack(self, body: Body) -> Body:
        """The request, as it goes over the wire, that carries a chunk's body; the same for the same body."""

    @abstractmethod
    def judge(self, status: int, headers: Mapping[str, str], text: bytes) -> Verdict:
        """Say what an answer means."""

    @property
    def throttle_seconds(self) -> float:
        """How long to wait after a 429 that doesn't say."""
        return self.rules.throttle_seconds

    async def __aenter__(self) -> Self:
        proxy = self._proxy
        login = {"Proxy-Authorization": proxy.login} if proxy and proxy.login else {}
        tunnelled = self._url.startswith("https:")
        self._tunnel_login = login if tunnelled else None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=30),
            timeout=self._timeout,
            headers={
                **self.headers,
                "User-Agent": "propsync",
                "Accept-Encoding": "identity",
                # A proxy that tunnels reads it before; any other one reads it here and takes it out.
                **({} if tunnelled else login),
            },
            # The environment's proxy was read already, and its ~/.netrc has no business here.
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def post(self, request: Body) -> Verdict:
        """Send a request once. Raises DestinationError for a wrong certificate: trying again can't help."""
        body = _Pieces(request)
        try:
            async with self._session.post(
                self._url,
                data=body,
                allow_redirects=False,
                proxy=self._proxy.url if self._proxy else None,
                proxy_headers=self._tunnel_login,
            ) as answer:
                text = await _beginning(answer.content, self.most_answer_bytes)
                return self._judged(answer, text)
        except aiohttp.ClientHttpProxyError as error:
            return self._refused_by_proxy(error.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if (fault := certificate_fault(error)) is not None:
                raise self._unsafe(fault) from error
            return self._lost(error, began=body.began)

    def _judged(self, answer: aiohttp.ClientResponse, body: bytes) -> Verdict:
        if answer.status == 407:
            return self._refused_by_proxy(407)
        encodings = answer.headers.getall("Content-Encoding", [])
        if answer.status != 200 and not encodings and looks_packed(body):
            encodings = ["gzip"]
        text = unpacked(body, encodings, self.most_answer_bytes)
        if text is None and answer.status == 200 and not self._trust_status:
            words = "no usable answer: 200 with a body that is not what its Content-Encoding says"
            return TryAgain(not self.rules.counts_once, words, status=200, applied=True)
        return self.judge(answer.status, answer.headers, body if text is None else text)

    def _lost(self, error: BaseException, *, began: bool) -> TryAgain:
        """No answer. Before the first byte of the body was written, nothing can have been applied."""
        if began:
            words = f"no answer from {self._host}: {in_words(error)}"
            return TryAgain(not self.rules.counts_once, words, applied=True)
        to = self._host
        if self._proxy and isinstance(error, aiohttp.ClientProxyConnectionError):
            to = f"the proxy {urlsplit(self._proxy.url).netloc} of {self._proxy.variable}"
        return TryAgain(False, f"no connection to {to}: {in_words(error)}", unsent=True)

    def _refused_by_proxy(self, status: int) -> Verdict:
        named = f"the proxy of {self._proxy.variable}" if self._proxy else "a proxy on the way"
        if status == 407:
            place = self._proxy.variable if self._proxy else "the proxy's settings"
            return Stop(
                f"{named} answered 407: it asks for a user and password, or refuses those it got",
                f"put them into {place}: http://user:password@host:port",
            )
        return TryAgain(False, f"no connection to {self._host}: {named} answered {status}", unsent=True)

    def _unsafe(self, fault: str) -> DestinationError:
        return DestinationError(
            f"no safe connection to {self._host}: its certificate is not valid: "
            f"{quote_answer(fault.encode(), self._key, *self._secrets)}",
            hint="a wrong certificate doesn't heal by waiting: check the URL, the clock and the proxy",
        )


class _Pieces(aiohttp.Payload):
    """A request's body, written piece by piece: nothing long is copied to stand behind something short.

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


async def _beginning(content: aiohttp.StreamReader, most: int) -> bytes:
    """The answer up to a bound; a longer one is cut off, and its connection with it."""
    text = bytearray()
    async for piece in content.iter_any():
        text += piece
        if len(text) > most:
            break
    return bytes(text)


def _checked_host(endpoint: str, *, allow_http: bool) -> str:
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not host:
        raise UsageError(f"{endpoint} is no base URL", hint="give one like https://api2.amplitude.com")
    if parts.scheme == "http" and host not in _LOOPBACK and not allow_http:
        raise UsageError(
            f"{endpoint} would carry the API key in the clear",
            hint="use https, or say --allow-http if the way to that host is safe",
        )
    return host


def _proxy(endpoint: str, host: str) -> Proxy | None:
    """The proxy of the environment; on macOS and Windows else that of the system."""
    of_system: Mapping[str, str] = {}
    if sys.platform in {"darwin", "win32"} and not urllib.request.proxy_bypass(host):
        of_system = urllib.request.getproxies()
    return proxy_for(endpoint, os.environ, of_system)
