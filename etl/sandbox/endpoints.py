"""The Identify API and the User Profile API, and what all endpoints share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import orjson

from etl.sandbox.answers import Answer, RequestRefusedError
from etl.sandbox.api_rules import IDENTIFICATION_KEYS, SHORTEST_ID
from etl.sandbox.checks import check, parse_identifications
from etl.sandbox.request_bodies import read_form

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Set

    from aiohttp import web

    from etl.sandbox.checks import Identification
    from etl.sandbox.event_endpoint import InsertIdMemory
    from etl.sandbox.limiter import Limiter
    from etl.sandbox.profiles import Profiles, UserKey
    from etl.sandbox.sandbox_options import SandboxOptions
    from etl.sandbox.stats import Stats


@dataclass(slots=True)
class SandboxState:
    """What all endpoints read and change; `options` and `limiter` are replaced where options change."""

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
        if not IDENTIFICATION_KEYS.issuperset(identification):
            self.stats.unknown_keys.update(identification.keys() - IDENTIFICATION_KEYS - more_keys)
        self.profiles.apply(identification)


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A parsed request, not checked yet: its JSON text, its identifications or events, and their users.

    `min_id_length` is what an upload of events asks for.
    """

    text: str = ""
    identifications: tuple[Identification, ...] = ()
    users: tuple[UserKey, ...] = ()
    min_id_length: int = SHORTEST_ID


class Endpoint(Protocol):
    """A path that takes updates. `parse` and `take` raise RequestRefusedError."""

    async def parse(self, request: web.Request, body: bytes) -> ParsedRequest:
        """Parse a request whose body is read, and check its key."""

    def take(self, parsed: ParsedRequest) -> Answer:
        """Check everything in a request, then apply it."""

    def refuse(self, error: RequestRefusedError) -> Answer:
        """Word a refusal as the API does."""


class IdentifyEndpoint:
    """`POST /identify`."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state

    async def parse(self, request: web.Request, body: bytes) -> ParsedRequest:
        """Read the form; its bytes count as they came."""
        state = self._state
        if len(body) > state.options.max_bytes:
            raise RequestRefusedError(413, "payload too large")
        if state.options.sink:
            return ParsedRequest()
        form = await read_form(request)
        state.limiter.admit_request()
        state.limiter.check_key(form.get("api_key"))
        if "identification" not in form:
            raise RequestRefusedError(400, "missing_event")
        found = parse_identifications(form["identification"])
        return ParsedRequest(form["identification"], tuple(found), tuple(map(state.profiles.key, found)))

    def take(self, parsed: ParsedRequest) -> Answer:
        """Check all identifications, then apply them."""
        state, identifications = self._state, parsed.identifications
        if state.options.sink:
            return Answer(200, "success")
        names = [user_id or device_id for user_id, device_id in parsed.users]
        self._refuse_poison(parsed, names)
        if len(identifications) > state.options.max_identifications:
            raise RequestRefusedError(413, "too many identifications in one request")
        for identification in identifications:
            check(identification)
        self._throttle(names, parsed.users)
        for name, identification in zip(names, identifications, strict=True):
            state.apply(name, identification)
        state.stats.identifications += len(names)
        return Answer(200, "success")

    def refuse(self, error: RequestRefusedError) -> Answer:
        """Answer with bare text or JSON."""
        return error.as_answer()

    def _refuse_poison(self, parsed: ParsedRequest, names: list[str]) -> None:
        options = self._state.options
        if not options.poison_users.isdisjoint(names) or any(t in parsed.text for t in options.poison_texts):
            raise RequestRefusedError(options.poison_status, "request blocked")

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


class ProfileEndpoint:
    """`GET /v1/userprofile`."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state

    def answer(self, query: Mapping[str, str], authorization: str) -> Answer:
        """Look up a profile by the query and the Authorization header. Raises RequestRefusedError."""
        self._state.limiter.admit_read(authorization)
        user_id, device_id = query.get("user_id"), query.get("device_id")
        if not (user_id or device_id):
            raise RequestRefusedError(400, "user_id or device_id is needed")
        found = self._state.profiles.find(user_id or None, device_id)
        if found is None:
            raise RequestRefusedError(404, "no such user_id or device_id")
        profile = found.as_json()
        if query.get("get_amp_props", "").lower() != "true":
            profile["amp_props"] = None
        return Answer(200, orjson.dumps({"userData": profile}).decode())
