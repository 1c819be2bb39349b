"""The Batch API: `$identify` events as gzipped JSON, answered by JSON that names who is at fault."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Final

from etl import amplitude
from etl.amplitude import TransportRules
from etl.model import Body
from etl.responses import Verdict, judge_batch
from etl.sender.http import Http

try:
    # Three times as fast as zlib at its fastest, and a little smaller.
    from isal import isal_zlib as deflate
except ImportError:  # there is none for this kind of processor
    import zlib as deflate  # type: ignore[no-redef]

_LEVEL: Final = 1
_GZIP: Final = 16 + deflate.MAX_WBITS  # its header has no time, so the same bytes give the same bytes


class Batch(Http):
    """Posts events to `/batch`."""

    rules: Final[TransportRules] = amplitude.TRANSPORTS["batch"]
    headers: Final[Mapping[str, str]] = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    # Room to name all events of a request, with ids of usual length.
    most_answer_bytes: Final[int] = 1024 * 1024

    async def pack(self, body: Body) -> Body:
        """The JSON object with key and events, compressed, while the event loop goes on."""
        prefix = b'{"api_key":' + json.dumps(self._key).encode() + b',"events":'
        loop = asyncio.get_running_loop()
        return (await loop.run_in_executor(None, gzip, (prefix, *body, b"}")),)

    def judge(self, status: int, headers: Mapping[str, str], text: bytes) -> Verdict:
        """Say what an answer means."""
        return judge_batch(
            status,
            headers,
            text,
            key=self._key,
            trust_status=self._trust_status,
            now=time.time(),
            secrets=self._secrets,
        )


def gzip(pieces: Body) -> bytes:
    """The pieces as one gzip file."""
    packer = deflate.compressobj(_LEVEL, deflate.DEFLATED, _GZIP)
    return b"".join([*(packer.compress(piece) for piece in pieces), packer.flush()])
