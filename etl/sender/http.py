"""One request over the network, and the verdict of its answer. The only home of aiohttp as a client."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from etl import amplitude
from etl.amplitude import TransportRules, TryAgain, Verdict
from etl.errors import DestinationError, UsageError
from etl.model import Body

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
TIMEOUT: Final = aiohttp.ClientTimeout(total=120, sock_connect=15, sock_read=60)


class Http(ABC):
    """Posts requests to one path of `endpoint` over a pool of at most `connections` connections.

    Use it as an asynchronous context manager. The key stands in request bodies and nowhere else.
    """

    def __init__(
        self,
        endpoint: str,
        key: str,
        *,
        connections: int,
        allow_http: bool = False,
        timeout: aiohttp.ClientTimeout = TIMEOUT,
    ) -> None:
        self._url = endpoint.rstrip("/") + self.rules.path
        self._loopback = _checked_host(endpoint, allow_http=allow_http) in _LOOPBACK
        self._key = key
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
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=30),
            timeout=self._timeout,
            headers={**self.headers, "User-Agent": "propsync"},
            trust_env=not self._loopback,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def post(self, request: Body) -> Verdict:
        """Send a request once. Raises DestinationError where trying again can't help: a wrong certificate."""
        try:
            async with self._session.post(self._url, data=_Pieces(request), allow_redirects=False) as answer:
                text = await _beginning(answer.content, self.most_answer_bytes)
                return self._judged(answer, text)
        except (
            aiohttp.ClientConnectorCertificateError,
            aiohttp.ClientConnectorSSLError,
            ssl.SSLError,
        ) as error:
            raise _tls_error(self._url, error) from error
        except (
            aiohttp.ConnectionTimeoutError,
            aiohttp.ClientConnectorError,
            aiohttp.ClientProxyConnectionError,
        ) as e:
            return TryAgain(False, f"no connection: {self._say(e)}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return self._lost(f"no answer: {self._say(error)}")

    def _judged(self, answer: aiohttp.ClientResponse, text: bytes) -> Verdict:
        if answer.status == 200 and text.lstrip()[:1] == b"<":
            # A page instead of an answer: some proxy or portal on the way, not Amplitude.
            return self._lost(f"a web page: {amplitude.quote_answer(text, self._key)}")
        return self.judge(answer.status, answer.headers, text)

    def _lost(self, words: str) -> TryAgain:
        return TryAgain(not self.rules.counts_once, words, applied=True)

    def _say(self, error: BaseException) -> str:
        return amplitude.quote_answer((str(error) or type(error).__name__).encode(), self._key)


class _Pieces(aiohttp.Payload):
    """A request's body, written piece by piece: nothing long is copied to stand behind something short."""

    _autoclose = True  # nothing is open

    def __init__(self, request: Body) -> None:
        super().__init__(request)
        self._size = sum(map(len, request))

    async def write(self, writer: AbstractStreamWriter) -> None:
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


def _tls_error(url: str, error: BaseException) -> DestinationError:
    return DestinationError(
        f"no safe connection to {urlsplit(url).hostname}: {error}",
        hint="a wrong certificate doesn't heal by waiting: check the URL, the clock and the proxy",
    )
