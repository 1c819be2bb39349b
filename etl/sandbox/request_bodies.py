"""Read the bodies of requests: forms with general-purpose parsers, and JSON that may be gzipped."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from etl.sandbox.answers import RequestRefusedError
from etl.sandbox.api_rules import SHORTEST_ID

if TYPE_CHECKING:
    from etl.sandbox.checks import Identification

_UNBOUNDED: Final = 2**40
_URLENCODED: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"
_JSON: Final = "application/json"
_GZIP: Final = 16 + zlib.MAX_WBITS


async def read_form(request: web.Request) -> dict[str, str]:
    """Read the fields of a form, urlencoded or multipart. Raises RequestRefusedError where there is none."""
    try:
        if request.content_type == _URLENCODED:
            pairs = await request.post()
            return {name: value for name, value in pairs.items() if isinstance(value, str)}
        if request.content_type == _MULTIPART:
            return await _read_parts(request)
    except (ValueError, LookupError, HttpProcessingError, web.HTTPException) as error:
        raise RequestRefusedError(400, "missing_event") from error
    raise RequestRefusedError(400, "missing_event")


async def _read_parts(request: web.Request) -> dict[str, str]:
    loop = asyncio.get_running_loop()
    # The body was read whole before, for its digest and its size, so it is streamed once more.
    stream = StreamReader(BaseProtocol(loop), _UNBOUNDED, loop=loop)
    stream.feed_data(await request.read())
    stream.feed_eof()
    fields: dict[str, str] = {}
    reader = MultipartReader(request.headers, stream)
    while (part := await reader.next()) is not None:
        if isinstance(part, BodyPartReader) and part.name is not None:
            fields[part.name] = (await part.read(decode=True)).decode()
    return fields


@dataclass(frozen=True, slots=True)
class Upload:
    """The fields of an upload of events; the events are objects that are not checked yet."""

    api_key: str
    events: list[Identification]
    min_id_length: int


def unpack(body: bytes, encoding: str, max_bytes: int) -> str:
    """Decode the text of a body of at most `max_bytes` unpacked bytes. Raises RequestRefusedError."""
    encoding = encoding.strip().lower()
    if encoding == "gzip":
        body = _unzip(body, max_bytes)
    elif encoding not in {"", "identity"}:
        raise RequestRefusedError(400, "unknown content encoding")
    if len(body) > max_bytes:
        raise RequestRefusedError(413, "payload too large")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise RequestRefusedError(400, "the body is not UTF-8") from error


def parse_upload(text: str, content_type: str) -> Upload:
    """Read the fields of an upload. Raises RequestRefusedError."""
    if content_type != _JSON:
        raise RequestRefusedError(400, f"the content type must be {_JSON}")
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError as error:  # also for NaN, infinities and lone surrogates
        raise RequestRefusedError(400, "the body is not JSON") from error
    if not isinstance(parsed, dict):
        raise RequestRefusedError(400, "the body is not a JSON object")
    for field in ("api_key", "events"):
        if not parsed.get(field):
            raise RequestRefusedError(400, "a required field is missing", details={"missing_field": field})
    key, events = parsed["api_key"], parsed["events"]
    if not isinstance(key, str):
        raise RequestRefusedError(400, "api_key must be a string")
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise RequestRefusedError(400, "events must be a list of objects")
    return Upload(key, events, _read_min_id_length(parsed.get("options")))


def _read_min_id_length(options: object) -> int:
    if not isinstance(options, dict | None):
        raise RequestRefusedError(400, "options must be an object")
    length = (options or {}).get("min_id_length", SHORTEST_ID)
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise RequestRefusedError(400, "min_id_length must be a whole number above 0")
    return length


def _unzip(body: bytes, max_bytes: int) -> bytes:
    """Unpack all members of a gzip body, but no more than a byte above `max_bytes`."""
    unpacked = b""
    try:
        while body and len(unpacked) <= max_bytes:
            member = zlib.decompressobj(_GZIP)
            unpacked += member.decompress(body, max_bytes + 1 - len(unpacked))
            if not member.eof and len(unpacked) <= max_bytes:
                raise RequestRefusedError(400, "the gzipped body ends too early")
            body = member.unused_data
    except zlib.error as error:
        raise RequestRefusedError(400, "the body is not gzipped") from error
    return unpacked
