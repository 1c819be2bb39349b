"""The Identify API and the User Profile API, and what all endpoints share."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import HTTP
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

from .api_rules import (
    IDENTIFICATION_KEYS,
    SHORTEST_ID,
    Answer,
    Identification,
    Json,
    RequestRefusedError,
    check,
    parse_identifications,
    parse_json,
)
from .profiles import Profiles, UserKey
from .sandbox_options import SandboxOptions
from .traffic import InsertIdMemory, Limiter, Stats

# What no page says of `/identify`, and the option that decides about it.
_UNDOCUMENTED: Final = {"insert_id": "identify_insert_id", "time": "identify_time", "$clearAll": "clear_all"}
_URLENCODED: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"
_GZIP: Final = 16 + zlib.MAX_WBITS


@dataclass(slots=True)
class SandboxState:
    """The state that all endpoints share; `options` and `limiter` are replaced where options change."""

    options: SandboxOptions
    limiter: Limiter
    stats: Stats
    profiles: Profiles
    insert_ids: InsertIdMemory

    def apply(self, name: str, identification: Identification, more_keys: Set[str] = frozenset()) -> None:
        """Apply a checked identification of the user or device `name`; `more_keys` are known beside."""
        if not self.limiter.count_update(name):
            self.stats.dropped_updates += 1
            return
        self.stats.unknown_keys.update(identification.keys() - IDENTIFICATION_KEYS - more_keys)
        self.profiles.apply(identification, self.options.clear_all == "obey", self.options.cleared_by)


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A parsed request, not checked yet: its JSON text, its identifications or events, and their users.

    `min_id_length` is what it asks for.
    """

    text: str = ""
    identifications: Sequence[Identification] = ()
    users: tuple[UserKey, ...] = ()
    min_id_length: int = SHORTEST_ID
    api_key: str = ""


class IdentifyEndpoint:
    """`POST /identify`.

    `parse` and `take` raise RequestRefusedError, and `refuse` words that as the API does.
    """

    refuse = staticmethod(RequestRefusedError.as_answer)

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._times: dict[str, int] = {}

    def parse(self, request: web.Request, body: bytes) -> ParsedRequest:
        """Read the form; its bytes count as they came, or unpacked where gzip is taken."""
        state, options = self._state, self._state.options
        if options.identify_gzip and request.headers.get("Content-Encoding") == "gzip":
            body = unzip(body, options.max_bytes)
        if len(body) > options.max_bytes:
            raise RequestRefusedError(413, "payload too large")
        if options.sink:
            return ParsedRequest()
        form = parse_form(request, body)
        state.limiter.admit_request()
        state.limiter.check_key(form.get("api_key"))
        if "identification" not in form:
            raise RequestRefusedError(400, "missing_event")
        found = parse_identifications(form["identification"])
        length = SHORTEST_ID
        if options.identify_min_id_length and "options" in form:
            length = shortest_id(parse_json(form["options"], "options is not JSON"))
        return ParsedRequest(form["identification"], found, tuple(map(state.profiles.key, found)), length)

    def take(self, parsed: ParsedRequest) -> Answer:
        """Check all identifications, then apply them."""
        state, identifications = self._state, parsed.identifications
        if state.options.sink:
            return Answer(200, "success")
        options = state.options
        names = [user_id or device_id for user_id, device_id in parsed.users]
        if not options.poison_users.isdisjoint(names) or any(t in parsed.text for t in options.poison_texts):
            raise RequestRefusedError(options.poison_status, "request blocked")
        if len(identifications) > options.max_identifications:
            raise RequestRefusedError(413, "too many identifications in one request")
        taken = {name: getattr(options, option) for name, option in _UNDOCUMENTED.items()}
        refused, obeyed = (
            frozenset(name for name, how in taken.items() if how == one) for one in ("refuse", "obey")
        )
        refusals: dict[int, RequestRefusedError] = {}
        for number, identification in enumerate(identifications):
            try:
                check(identification, parsed.min_id_length, refused)
            except RequestRefusedError as error:
                if options.bad_item == "refuses_all":
                    raise
                refusals[number] = error
        self._throttle(names, parsed.users)
        for number, (name, identification) in enumerate(zip(names, identifications, strict=True)):
            if number not in refusals and self._counts(name, identification):
                state.apply(name, identification, obeyed)
        state.stats.identifications += len(names) - len(refusals)
        if refusals and (options.bad_item == "refused_alone" or len(refusals) == len(names)):
            raise next(iter(refusals.values()))
        return Answer(200, "success")

    def _counts(self, name: str, identification: Identification) -> bool:
        """Whether an identification is applied: not if it came before, or is older than the last."""
        state, insert_id, time = self._state, identification.get("insert_id"), identification.get("time")
        if isinstance(insert_id, str) and state.options.identify_insert_id == "obey":
            return state.insert_ids.add(("user_id", name, insert_id))
        if isinstance(time, int) and state.options.identify_time == "obey":
            self._times[name], before = max(time, self._times.get(name, 0)), self._times.get(name, 0)
            return time >= before
        return True

    def _throttle(self, names: list[str], users: Collection[UserKey]) -> None:
        """Refuse a repeated, hot or quick user, and too many identifications a second."""
        limiter, repeated = self._state.limiter, len(names) - len(set(users))
        self._state.stats.repeated_users += repeated
        if repeated:
            throttled = [name for name, count in Counter(names).items() if count > 1]
        else:
            throttled = limiter.hot(names) or limiter.quick(names)
        if throttled:
            details = {"throttled_users": sorted(throttled)}
            raise RequestRefusedError(429, "too many updates of some users", details=details)
        limiter.admit_identifications(len(names))


def find_profile(state: SandboxState, query: Mapping[str, str], authorization: str) -> Answer:
    """`GET /v1/userprofile` with this Authorization header. Raises RequestRefusedError."""
    state.limiter.admit_read(authorization)
    user_id, device_id = query.get("user_id"), query.get("device_id")
    if not (user_id or device_id):
        raise RequestRefusedError(400, "user_id or device_id is needed")
    found = state.profiles.find(user_id or None, device_id)
    if found is None:
        raise RequestRefusedError(404, "User id and device id not seen before")
    profile = found.as_json()
    if query.get("get_amp_props", "").lower() != "true":
        profile["amp_props"] = None
    return Answer(200, orjson.dumps({"userData": profile}).decode())


# --- what a request holds --------------------------------------------------------------------------------


def parse_form(request: web.Request, body: bytes) -> dict[str, str]:
    """Read the fields of a form, urlencoded or multipart. Raises RequestRefusedError where there is none."""
    with suppress(ValueError, LookupError):
        if request.content_type == _URLENCODED:
            charset = request.charset or "utf-8"
            return dict(parse_qsl(body.rstrip().decode(charset), keep_blank_values=True, encoding=charset))
        if request.content_type == _MULTIPART:
            head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
            form = message_from_bytes(head + body, policy=HTTP)
            parts = form.iter_parts() if not form.defects else ()
            fields: dict[Any, Any] = {
                part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
                for part in parts
            }
            if fields:
                return {name: content.decode() for name, content in fields.items() if name}
    raise RequestRefusedError(400, "missing_event")


def shortest_id(options: Json) -> int:
    """Return the `min_id_length` that the `options` of an upload ask for. Raises RequestRefusedError."""
    if not isinstance(options, dict | None):
        raise RequestRefusedError(400, "options must be an object")
    length = (options or {}).get("min_id_length", SHORTEST_ID)
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise RequestRefusedError(400, "min_id_length must be a whole number above 0")
    return length


def unpack(body: bytes, encoding: str, max_bytes: int) -> str:
    """Decode the text of a body of at most `max_bytes` unpacked bytes. Raises RequestRefusedError."""
    encoding = encoding.strip().lower()
    if encoding == "gzip":
        body = unzip(body, max_bytes)
    elif encoding not in {"", "identity"}:
        raise RequestRefusedError(400, "unknown content encoding")
    if len(body) > max_bytes:
        raise RequestRefusedError(413, "payload too large")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise RequestRefusedError(400, "the body is not UTF-8") from error


def unzip(body: bytes, max_bytes: int) -> bytes:
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
