"""The event APIs, `/batch` and `/2/httpapi`: what they answer to an upload, and what they keep of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from aiohttp import web

from .api_rules import (
    BATCH,
    BATCH_EVENTS_PER_SECOND,
    DAILY_EVENTS,
    EVENT_KEYS,
    GROUP_IDENTIFY_EVENT,
    HTTP_V2_EVENTS_PER_SECOND,
    ID_KEYS,
    IDENTIFY_EVENT,
    Answer,
    Identification,
    IdLengthError,
    MissingIdError,
    RequestRefusedError,
    broken_rules,
    parse_json,
    trimmed_ids,
)
from .endpoints import ParsedRequest, SandboxState, shortest_id, unpack
from .profiles import UserKey
from .sandbox_options import Offenders
from .traffic import InsertKey, Limiter

# The keys of a 400 (Batch: Response codes, 400).
INVALID: Final = "events_with_invalid_fields"
MISSING: Final = "events_with_missing_fields"
ID_LENGTH: Final = "events_with_invalid_id_lengths"
SILENCED: Final = "silenced_events"

_JSON: Final = "application/json"
# A quote inside a JSON string is escaped, so this is never part of one.
_EVENT_MARK: Final = '"event_type":'


class EventEndpoint:
    """`POST /batch` or `/2/httpapi`; `wall` gives seconds.

    `parse` and `take` raise RequestRefusedError, and `refuse` words that as the API does.
    """

    refuse = staticmethod(RequestRefusedError.as_json_answer)

    def __init__(self, path: str, state: SandboxState, wall: Callable[[], float]) -> None:
        self._is_batch = path == BATCH
        self._state = state
        self._wall = wall

    def parse(self, request: web.Request, body: bytes) -> ParsedRequest:
        """Unpack and read the JSON; its bytes count unpacked."""
        state, options = self._state, self._state.options
        max_bytes = options.max_batch_bytes if self._is_batch else options.max_bytes
        text = unpack(body, request.headers.get("Content-Encoding", ""), max_bytes)
        if options.sink:
            return ParsedRequest(text)
        parsed = parse_upload(text, request.content_type)
        state.limiter.admit_request()
        state.limiter.check_key(parsed.api_key)
        return replace(parsed, users=tuple(map(state.profiles.key, parsed.identifications)))

    def take(self, parsed: ParsedRequest) -> Answer:
        """Check all events, then apply them; a sink only counts them."""
        options, events = self._state.options, parsed.identifications
        if options.sink:
            return self._success(parsed.text.count(_EVENT_MARK), parsed.text)
        if len(events) > options.max_events:
            raise RequestRefusedError(413, "too many events in one request")
        self._refuse_events(events, parsed.min_id_length)
        eps_threshold = BATCH_EVENTS_PER_SECOND if self._is_batch else HTTP_V2_EVENTS_PER_SECOND
        _refuse_throttled(events, options.quota_users, self._state.limiter, eps_threshold)
        self._state.limiter.admit_identifications(len(events))
        new = sum(map(self._apply, events, parsed.users))
        # Other than the Identify API these take a user twice, but a client may promise not to do that.
        users = [u for e, u in zip(events, parsed.users, strict=True) if e["event_type"] == IDENTIFY_EVENT]
        self._state.stats.repeated_users += len(users) - len(set(users))
        return self._success({"all": len(events), "new": new, "none": 0}[options.ingested], parsed.text)

    def _success(self, ingested: int, text: str) -> Answer:
        body = {
            "code": 200,
            "events_ingested": ingested,
            "payload_size_bytes": len(text.encode()),
            "server_upload_time": int(self._wall() * 1000),
        }
        return Answer(200, orjson.dumps(body).decode())

    def _refuse_events(self, events: Sequence[Identification], min_id_length: int) -> None:
        options, errors = self._state.options, find_event_errors(events, min_id_length)
        for index, event in enumerate(events):
            ids = trimmed_ids(event)
            fields = [field for field, given in ids.items() if given in options.poison_users]
            written = orjson.dumps(event).decode() if options.poison_texts else ""
            fields += ["user_properties"] * any(text in written for text in options.poison_texts)
            if fields and options.poison_status == 403:
                # A firewall stands before what knows of events, so it names none.
                raise RequestRefusedError(403, "request blocked")
            errors += [EventError(index, INVALID, field, "request blocked") for field in fields]
            if not options.silenced_users.isdisjoint(ids.values()):
                errors.append(EventError(index, SILENCED, "", "a silenced user"))
        if errors:
            raise refusal_of_events(errors, options.offenders)

    def _apply(self, event: Identification, user: UserKey) -> bool:
        """Apply an event and return True, or False where its insert_id came before."""
        stats, key = self._state.stats, _insert_key(event)
        if key is not None and not self._state.insert_ids.add(key):
            stats.repeated_inserts += 1
            return False
        name = user[0] or user[1]
        if event["event_type"] == IDENTIFY_EVENT:
            stats.identifications += 1
            self._state.apply(name, event, EVENT_KEYS)
        else:
            stats.events += 1
            # An ordinary event changes the properties of its user alone; a group's event is about nobody.
            wanted = (*ID_KEYS, "user_properties")
            change = {key: event[key] for key in wanted if key in event}
            if change.get("user_properties") and trimmed_ids(event):
                self._state.apply(name, change)
        return True


def _insert_key(event: Identification) -> InsertKey | None:
    """Return what an event's insert_id is unique for: its device, or its user where it has no device."""
    insert_id, ids = event.get("insert_id"), trimmed_ids(event)
    if not isinstance(insert_id, str) or not insert_id:
        return None
    field = "device_id" if "device_id" in ids else "user_id"
    return (field, ids[field], insert_id) if ids else None


# --- the body of an upload -------------------------------------------------------------------------------


def parse_upload(text: str, content_type: str) -> ParsedRequest:
    """Read an upload; its events are objects that are not checked yet. Raises RequestRefusedError."""
    if content_type != _JSON:
        raise RequestRefusedError(400, f"the content type must be {_JSON}")
    parsed = parse_json(text, "the body is not JSON")
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
    return ParsedRequest(text, events, (), shortest_id(parsed.get("options")), key)


# --- events that are refused or throttled ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventError:
    """A fault of the event at `index`: `kind` is the answer's key for it, `field` empty where silenced."""

    index: int
    kind: str
    field: str
    message: str


def find_event_errors(events: Sequence[Identification], min_id_length: int) -> list[EventError]:
    """Find what is wrong with events, in their order."""
    return [error for index, event in enumerate(events) for error in _errors_of(index, event, min_id_length)]


def refusal_of_events(errors: Sequence[EventError], offenders: Offenders) -> RequestRefusedError:
    """Make the 400 that names the events of all errors, only the first of them, or none."""
    first = min(errors, key=lambda error: error.index)
    details: dict[str, Any] = {}
    for error in {"all": errors, "first": [first], "none": []}[offenders]:
        if error.kind == SILENCED:
            details.setdefault(SILENCED, []).append(error.index)
        else:
            details.setdefault(error.kind, {}).setdefault(error.field, []).append(error.index)
    return RequestRefusedError(400, "invalid events", reason=first.message, details=details)


def _refuse_throttled(
    events: Sequence[Identification], quota_users: Set[str], limiter: Limiter, eps_threshold: int
) -> None:
    """Raise the 429 for the users and devices who may not have more events now, if there are any.

    Their rates are given as one above what is allowed. Events of those over their day are throttled as well.
    """
    by_id: dict[str, dict[str, list[int]]] = {name: {} for name in ID_KEYS}
    for index, event in enumerate(events):
        for name, given in trimmed_ids(event).items():
            by_id[name].setdefault(given, []).append(index)
    ids = by_id["user_id"].keys() | by_id["device_id"].keys()
    over = quota_users & ids
    throttled = {*limiter.hot(ids), *limiter.quick(ids)} - over
    if not (over or throttled):
        return
    details: dict[str, Any] = {"eps_threshold": eps_threshold}
    refused: set[int] = set()
    for what, found in (("users", by_id["user_id"]), ("devices", by_id["device_id"])):
        quick, full = sorted(throttled & found.keys()), sorted(over & found.keys())
        details[f"throttled_{what}"] = dict.fromkeys(quick, eps_threshold + 1)
        details[f"exceeded_daily_quota_{what}"] = dict.fromkeys(full, DAILY_EVENTS + 1)
        refused.update(index for name in (*quick, *full) for index in found[name])
    details["throttled_events"] = sorted(refused)
    raise RequestRefusedError(429, "too many events of some users or devices", details=details)


def _errors_of(index: int, event: Identification, min_id_length: int) -> Iterator[EventError]:
    event_type, time = event.get("event_type"), event.get("time")
    if event_type is None or event_type == "":
        yield EventError(index, MISSING, "event_type", "an event without event_type")
    for field in ("event_type", "insert_id"):
        if not isinstance(event.get(field), str | None):
            yield EventError(index, INVALID, field, f"{field} must be a string")
    if time is not None and (isinstance(time, bool) or not isinstance(time, int) or time < 0):
        yield EventError(index, INVALID, "time", "time must be whole milliseconds")
    if not isinstance(event.get("event_properties"), dict | None):
        yield EventError(index, INVALID, "event_properties", "event_properties must be an object")
    for field, error in broken_rules(event, min_id_length):
        if not isinstance(error, MissingIdError):
            kind = ID_LENGTH if isinstance(error, IdLengthError) else INVALID
            yield EventError(index, kind, field, error.message)
        elif event_type != GROUP_IDENTIFY_EVENT:  # which is about a group, and needs no user
            yield from (EventError(index, MISSING, name, "an event without an id") for name in ID_KEYS)
