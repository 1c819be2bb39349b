"""One request over the network, and the verdict of its answer. The only home of aiohttp as a client."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote, urlsplit

import aiohttp

from etl import amplitude
from etl.amplitude import TryAgain, Verdict
from etl.errors import DestinationError, UsageError

# An answer is a word or a short JSON; whatever goes on for longer isn't worth the memory.
_MOST_ANSWER_BYTES: Final = 64 * 1024
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
TIMEOUT: Final = aiohttp.ClientTimeout(total=120, sock_connect=15, sock_read=60)


class Identify:
    """Posts bodies to `endpoint`'s Identify API over a pool of at most `connections` connections.

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
        self._url = endpoint.rstrip("/") + amplitude.IDENTIFY_PATH
        self._loopback = _checked_host(endpoint, allow_http=allow_http) in _LOOPBACK
        self._key = key
        self._prefix = b"api_key=" + quote(key, safe="").encode() + b"&identification="
        self._connections = connections
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=30),
            timeout=self._timeout,
            headers={"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "propsync"},
            trust_env=not self._loopback,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    def size(self, body: bytes) -> int:
        """Bytes of the request body that `post` makes of a chunk's body."""
        return len(self._prefix) + len(body)

    async def post(self, body: bytes) -> Verdict:
        """Send one request. Raises DestinationError where trying again can't help (a wrong certificate)."""
        try:
            async with self._session.post(
                self._url, data=self._prefix + body, allow_redirects=False
            ) as answer:
                text = await _beginning(answer.content)
                return self._judge(answer, text)
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
            return TryAgain(True, f"no answer: {self._say(error)}")

    def _judge(self, answer: aiohttp.ClientResponse, text: bytes) -> Verdict:
        if answer.status == 200 and text.lstrip()[:1] == b"<":
            # A page instead of an answer: some proxy or portal on the way, not Amplitude.
            return TryAgain(True, f"a web page: {amplitude.quote_answer(text, self._key)}")
        return amplitude.judge(answer.status, answer.headers, text, key=self._key)

    def _say(self, error: BaseException) -> str:
        return amplitude.quote_answer((str(error) or type(error).__name__).encode(), self._key)


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    """The answer up to a bound; a longer one is cut off, and its connection with it."""
    text = bytearray()
    async for piece in content.iter_any():
        text += piece
        if len(text) > _MOST_ANSWER_BYTES:
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
