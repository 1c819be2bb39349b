"""Reads a form body, urlencoded or multipart, with parsers that don't know how this project writes one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from etl.sandbox.checks import RequestRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNBOUNDED: Final = 2**40
_MULTIPART: Final = "multipart/form-data"
_KINDS: Final = frozenset({_MULTIPART, "application/x-www-form-urlencoded"})


@dataclass(frozen=True, slots=True)
class Form:
    """The two fields of an identify request; None where the body has no such field."""

    api_key: str | None
    identification: str | None


async def read_form(request: web.Request) -> Form:
    """Read the form of a request whose body is read. Raises RequestRefusedError where there is none."""
    if request.content_type not in _KINDS:
        raise RequestRefusedError(400, "missing_event")
    try:
        fields = await (_read_parts if request.content_type == _MULTIPART else _read_pairs)(request)
    except (ValueError, LookupError, HttpProcessingError, web.HTTPException) as error:
        raise RequestRefusedError(400, "missing_event") from error
    return Form(fields.get("api_key"), fields.get("identification"))


async def _read_pairs(request: web.Request) -> Mapping[str, str]:
    pairs = await request.post()
    return {name: value for name, value in pairs.items() if isinstance(value, str)}


async def _read_parts(request: web.Request) -> Mapping[str, str]:
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
