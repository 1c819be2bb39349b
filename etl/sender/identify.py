"""The Identify API: identifications as the field of a form, answered by a word."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from etl import amplitude
from etl.amplitude import TransportRules
from etl.model import Body
from etl.responses import Verdict, judge
from etl.sender.http import Http


class Identify(Http):
    """Posts identifications, form-escaped by the encoder, to `/identify`."""

    rules: Final[TransportRules] = amplitude.TRANSPORTS["identify"]
    headers: Final[Mapping[str, str]] = {"Content-Type": "application/x-www-form-urlencoded"}
    # An answer is a word or a short JSON; whatever goes on for longer isn't worth the memory.
    most_answer_bytes: Final[int] = 64 * 1024

    async def pack(self, body: Body) -> Body:
        """The form. A body that stands somewhere as a whole is sent from there; others are put together."""
        prefix = b"api_key=" + quote(self._key, safe="").encode() + b"&identification="
        return (prefix, *body) if len(body) == 1 else (b"".join((prefix, *body)),)

    def judge(self, status: int, headers: Mapping[str, str], text: bytes) -> Verdict:
        """Say what an answer means."""
        return judge(
            status,
            headers,
            text,
            key=self._key,
            trust_status=self._trust_status,
            now=time.time(),
            secrets=self._secrets,
        )
