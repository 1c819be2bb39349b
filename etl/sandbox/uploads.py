"""Reads the body of an upload of events: JSON, perhaps gzipped, and never more of it than is allowed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import orjson

from etl.amplitude import MIN_ID_LENGTH
from etl.sandbox.checks import Identification, RequestRefusedError

_GZIP: Final = 16 + zlib.MAX_WBITS
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Upload:
    """The fields of an upload; `events` and `api_key` are there, and not looked at yet."""

    api_key: str
    events: list[Identification]
    min_id_length: int


def unpack(body: bytes, encoding: str, most: int) -> str:
    """Decode a body's text, of at most `most` bytes unpacked. Raises RequestRefusedError."""
    if encoding.strip().lower() == "gzip":
        body = _unzip(body, most)
    elif encoding.strip().lower() not in {"", "identity"}:
        raise RequestRefusedError(400, "unknown content encoding")
    if len(body) > most:
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
    return Upload(key, events, _min_id_length(parsed.get("options")))


def _min_id_length(options: object) -> int:
    if not isinstance(options, dict | None):
        raise RequestRefusedError(400, "options must be an object")
    length = (options or {}).get("min_id_length", MIN_ID_LENGTH)
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise RequestRefusedError(400, "min_id_length must be a whole number above 0")
    return length


def _unzip(body: bytes, most: int) -> bytes:
    """Unpack all members of a gzip body, but no more than a byte above `most`."""
    unpacked = b""
    try:
        while body and len(unpacked) <= most:
            member = zlib.decompressobj(_GZIP)
            unpacked += member.decompress(body, most + 1 - len(unpacked))
            if not member.eof and len(unpacked) <= most:
                raise RequestRefusedError(400, "the gzipped body ends too early")
            body = member.unused_data
    except zlib.error as error:
        raise RequestRefusedError(400, "the body is not gzipped") from error
    return unpacked
