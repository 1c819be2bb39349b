"""The ways into Amplitude, one class each: what it takes, how a request is written, what an answer means.

A new one is a class here with an entry in `TRANSPORTS`, and its rules in `amplitude.requests`.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final, Self
from urllib.parse import quote

from ..amplitude.requests import TRANSPORT_RULES, TransportName, TransportRules
from ..amplitude.responses import Accepted, Response, Verdict, classify_batch_response, classify_response
from ..arrow.json_text import Splice
from ..encoder import Encoding, EventEncoding, FormEncoding
from ..model import Body

if TYPE_CHECKING:
    import aiohttp

try:
    # Three times as fast as zlib at its fastest, and a little smaller.
    from isal import isal_zlib as deflate
except ImportError:  # there is none for this kind of processor
    import zlib as deflate  # type: ignore[no-redef]

_LEVEL: Final = 1
_GZIP: Final = 16 + deflate.MAX_WBITS  # its header has no time, so the same bytes give the same bytes


class HttpTransport(ABC):
    """Posts requests to one path of `endpoint` over at most `connections` connections.

    Use it as an asynchronous context manager. The key stands in request bodies and nowhere else. With
    `trust_status` any 2xx is an acceptance. Raises UsageError for an endpoint or a proxy that can't be used.
    """

    rules: ClassVar[TransportRules]
    headers: ClassVar[Mapping[str, str]]
    most_answer_bytes: ClassVar[int]

    def __init__(
        self,
        endpoint: str,
        key: str,
        *,
        connections: int,
        allow_http: bool = False,
        trust_status: bool = False,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> None:
        # Imported here: aiohttp takes 0.14 s, and a plan, which uses the encoding, sends nothing.
        from .http import HttpSession

        self._key = key
        self._trust_status = trust_status
        self._session = HttpSession(
            endpoint,
            connections=connections,
            headers=self.headers,
            secrets=(key,),
            most_answer_bytes=self.most_answer_bytes,
            allow_http=allow_http,
            timeout=timeout,
        )

    @staticmethod
    @abstractmethod
    def encoding(run_id: str, splice: Splice | None = None) -> Encoding:
        """How identifications of the run `run_id` (32 hex digits) are written into request bodies."""

    @abstractmethod
    async def pack(self, body: Body) -> Body:
        """The request, as it goes over the wire, that carries a chunk's body; the same for the same body."""

    @staticmethod
    @abstractmethod
    def classify(response: Response) -> Verdict:
        """The verdict of an answer."""

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.__aexit__(*error)

    async def post(self, request: Body) -> Verdict:
        """Send a request once. Raises DestinationError for a wrong certificate: trying again can't help."""
        answer = await self._session.request("POST", self.rules.path, request)
        if not isinstance(answer, Response):
            return answer
        return Accepted() if self._trust_status and answer.is_2xx else self.classify(answer)


class IdentifyTransport(HttpTransport):
    """The Identify API: identifications as the field of a form, answered by a word."""

    rules = TRANSPORT_RULES["identify"]
    headers: ClassVar = {"Content-Type": "application/x-www-form-urlencoded"}
    # An answer is a word or a short JSON; anything longer isn't worth the memory.
    most_answer_bytes = 64 * 1024
    classify = staticmethod(classify_response)

    @staticmethod
    def encoding(run_id: str, splice: Splice | None = None) -> Encoding:
        """JSON, escaped for a form; the run doesn't show in it."""
        return FormEncoding(splice)

    async def pack(self, body: Body) -> Body:
        """The form. A body in one piece is not copied; others are joined."""
        form = (b"api_key=" + quote(self._key, safe="").encode() + b"&identification=", *body)
        return form if len(body) == 1 else (b"".join(form),)


class BatchTransport(HttpTransport):
    """The Batch API: `$identify` events as gzipped JSON, answered by JSON that names the events at fault."""

    rules = TRANSPORT_RULES["batch"]
    headers: ClassVar = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    # Room to name all events of a request, with ids of usual length.
    most_answer_bytes = 1024 * 1024
    encoding = staticmethod(EventEncoding)
    classify = staticmethod(classify_batch_response)

    async def pack(self, body: Body) -> Body:
        """The JSON object with key and events, compressed, while the event loop goes on."""
        prefix = b'{"api_key":' + json.dumps(self._key).encode() + b',"events":'
        loop = asyncio.get_running_loop()
        return (await loop.run_in_executor(None, gzip, (prefix, *body, b"}")),)


TRANSPORTS: Final[Mapping[TransportName, type[HttpTransport]]] = {
    "identify": IdentifyTransport,
    "batch": BatchTransport,
}


def gzip(pieces: Body) -> bytes:
    """The pieces as one gzip file."""
    packer = deflate.compressobj(_LEVEL, deflate.DEFLATED, _GZIP)
    return b"".join([*(packer.compress(piece) for piece in pieces), packer.flush()])
