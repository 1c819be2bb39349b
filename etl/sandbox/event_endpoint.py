"""The event APIs, `/batch` and `/2/httpapi`: what they answer to an upload, and what they keep of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import orjson

from etl.sandbox.answers import Answer, RequestRefusedError
from etl.sandbox.api_rules import (
    BATCH,
    BATCH_EVENTS_PER_SECOND,
    EVENT_KEYS,
    HTTP_V2_EVENTS_PER_SECOND,
    ID_KEYS,
    IDENTIFY_EVENT,
    INSERT_ID_SECONDS,
)
from etl.sandbox.checks import trimmed_id
from etl.sandbox.endpoints import ParsedRequest
from etl.sandbox.event_errors import (
    INVALID,
    SILENCED,
    EventError,
    find_event_errors,
    refusal_of_events,
    throttled_events,
)
from etl.sandbox.request_bodies import parse_upload, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aiohttp import web

    from etl.sandbox.checks import Identification
    from etl.sandbox.endpoints import SandboxState
    from etl.sandbox.profiles import UserKey

# A quote inside a JSON string is escaped, so this is never part of one.
_EVENT_MARK: Final = '"event_type":'
# The kind of id that an insert_id belongs to, that id, and the insert_id.
InsertKey: TypeAlias = tuple[str, str, str]


class EventEndpoint:
    """`POST /batch` or `/2/httpapi`; `wall` gives seconds."""

    def __init__(self, path: str, state: SandboxState, wall: Callable[[], float]) -> None:
        self._is_batch = path == BATCH
        self._state = state
        self._wall = wall

    async def parse(self, request: web.Request, body: bytes) -> ParsedRequest:
        """Unpack and read the JSON; its bytes count unpacked."""
        state, options = self._state, self._state.options
        max_bytes = options.max_batch_bytes if self._is_batch else options.max_bytes
        text = unpack(body, request.headers.get("Content-Encoding", ""), max_bytes)
        if options.sink:
            return ParsedRequest(text)
        upload = parse_upload(text, request.content_type)
        state.limiter.admit_request()
        state.limiter.check_key(upload.api_key)
        users = tuple(map(state.profiles.key, upload.events))
        return ParsedRequest(text, tuple(upload.events), users, upload.min_id_length)

    def take(self, parsed: ParsedRequest) -> Answer:
        """Check all events, then apply them; a sink only counts them."""
        options, events = self._state.options, parsed.identifications
        if options.sink:
            return self._success(parsed.text.count(_EVENT_MARK), parsed.text)
        if len(events) > options.max_events:
            raise RequestRefusedError(413, "too many events in one request")
        self._refuse_events(events, parsed.min_id_length)
        eps_threshold = BATCH_EVENTS_PER_SECOND if self._is_batch else HTTP_V2_EVENTS_PER_SECOND
        refusal = throttled_events(events, options.quota_users, self._state.limiter, eps_threshold)
        if refusal is not None:
            raise refusal
        self._state.limiter.admit_identifications(len(events))
        new = sum(map(self._apply, events, parsed.users))
        # Other than the Identify API these take a user twice, but a client may promise not to do that.
        users = [u for e, u in zip(events, parsed.users, strict=True) if e["event_type"] == IDENTIFY_EVENT]
        self._state.stats.repeated_users += len(users) - len(set(users))
        return self._success({"all": len(events), "new": new, "none": 0}[options.ingested], parsed.text)

    def refuse(self, error: RequestRefusedError) -> Answer:
        """Answer with JSON."""
        return error.as_json_answer()

    def _success(self, ingested: int, text: str) -> Answer:
        body = {
            "code": 200,
            "events_ingested": ingested,
            "payload_size_bytes": len(text.encode()),
            "server_upload_time": int(self._wall() * 1000),
        }
        return Answer(200, orjson.dumps(body).decode())

    def _refuse_events(self, events: Sequence[Identification], min_id_length: int) -> None:
        options, poisoned = self._state.options, list(self._poisoned(events))
        if poisoned and options.poison_status == 403:
            # A firewall stands before what knows of events, so it names none.
            raise RequestRefusedError(403, "request blocked")
        silenced = [
            EventError(index, SILENCED, "", "a silenced user")
            for index, event in enumerate(events)
            if not options.silenced_users.isdisjoint(_ids(event).values())
        ]
        errors = [*find_event_errors(events, min_id_length), *poisoned, *silenced]
        if errors:
            raise refusal_of_events(errors, options.offenders)

    def _poisoned(self, events: Sequence[Identification]) -> Iterator[EventError]:
        users, texts = self._state.options.poison_users, self._state.options.poison_texts
        if not (users or texts):
            return
        for index, event in enumerate(events):
            written = orjson.dumps(event).decode() if texts else ""
            fields = [field for field, given in _ids(event).items() if given in users]
            if any(text in written for text in texts):
                fields.append("user_properties")
            yield from (EventError(index, INVALID, field, "request blocked") for field in fields)

    def _apply(self, event: Identification, user: UserKey) -> bool:
        """Apply an event and return True, or False where its insert_id came before."""
        stats, key = self._state.stats, insert_key(event)
        if key is not None and not self._state.insert_ids.add(key):
            stats.repeated_inserts += 1
            return False
        change: Identification | None = event
        if event["event_type"] == IDENTIFY_EVENT:
            stats.identifications += 1
        else:
            stats.events += 1
            # An ordinary event changes the properties of its user alone; a group's event is about nobody.
            wanted = (*ID_KEYS, "user_properties")
            change = {name: event[name] for name in wanted if name in event}
            if not (change.get("user_properties") and _ids(event)):
                change = None
        if change is not None:
            self._state.apply(user[0] or user[1], change, EVENT_KEYS)
        return True


class InsertIdMemory:
    """Remembers each key for seven days from when it first came; coming again doesn't prolong that."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` is monotonic, in seconds."""
        self._clock = clock
        self._first: dict[InsertKey, float] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._first)

    def add(self, key: InsertKey) -> bool:
        """Remember a key; False where it is remembered already."""
        now = self._clock()
        while self._first:
            oldest = next(iter(self._first))
            if self._first[oldest] > now - INSERT_ID_SECONDS:
                break
            del self._first[oldest]
        if key in self._first:
            return False
        self._first[key] = now
        return True


def insert_key(event: Identification) -> InsertKey | None:
    """Return what an event's insert_id is unique for: its device, or its user where it has no device."""
    insert_id, ids = event.get("insert_id"), _ids(event)
    if not isinstance(insert_id, str) or not insert_id:
        return None
    field = "device_id" if "device_id" in ids else "user_id"
    return (field, ids[field], insert_id) if ids else None


def _ids(event: Identification) -> dict[str, str]:
    return {field: given for field in ID_KEYS if (given := trimmed_id(event, field)) is not None}
