"""What the event APIs, `/batch` and `/2/httpapi`, answer to an upload, and what they keep of it. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from etl.sandbox.answers import Answer, Order
from etl.sandbox.checks import Identification, RequestRefusedError, trimmed_id
from etl.sandbox.offences import IDENTIFY, INVALID, SILENCED, Offence, find_offences, refusal_of
from etl.sandbox.throttling import refusal_of_crowd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from etl.sandbox.applying import Applier
    from etl.sandbox.gate import Gate
    from etl.sandbox.inserts import InsertIds, InsertKey
    from etl.sandbox.options import SandboxOptions
    from etl.sandbox.profiles import Profiles
    from etl.sandbox.stats import Stats
    from etl.sandbox.uploads import Upload

_IDS: Final = ("user_id", "device_id")
# What an event may have beside the keys of an identification.
EVENT_KEYS: Final = frozenset(
    {
        *(
            "event_type",
            "time",
            "insert_id",
            "event_id",
            "session_id",
            "event_properties",
            "group_properties",
        ),
        *("price", "quantity", "revenue", "currency", "product_id", "productId"),
        *("revenue_type", "revenueType", "location_lat", "location_lng", "ip", "user_agent"),
        *("idfa", "idfv", "adid", "android_id", "library", "version_name", "partner_id", "plan"),
        *("ingestion_metadata", "$skip_user_properties_sync"),
    }
)


class EventsService:
    """`POST /batch` or `/2/httpapi`: `read` an upload, then `take` what it asks for.

    `eps_threshold` is how many events a second one user may have there; `wall` gives seconds.
    """

    def __init__(
        self,
        options: SandboxOptions,
        profiles: Profiles,
        stats: Stats,
        gate: Gate,
        applier: Applier,
        inserts: InsertIds,
        *,
        eps_threshold: int,
        wall: Callable[[], float],
    ) -> None:
        self._options = options
        self._profiles = profiles
        self._stats = stats
        self._gate = gate
        self._applier = applier
        self._inserts = inserts
        self._eps_threshold = eps_threshold
        self._wall = wall

    def read(self, text: str, upload: Upload) -> Order:
        """Read the order in an upload. Raises RequestRefusedError for a key that isn't taken."""
        self._gate.enter()
        self._gate.check_key(upload.api_key)
        return Order(text, upload.events, tuple(map(self._profiles.key, upload.events)), upload.min_id_length)

    def take(self, order: Order) -> Answer:
        """Check an order and apply it. Raises RequestRefusedError where a rule or a limit forbids it."""
        events = order.identifications
        if len(events) > self._options.max_events:
            raise RequestRefusedError(413, "too many events in one request")
        self._refuse_firewalled(order)
        offences = [*find_offences(events, order.min_id_length), *self._unwanted(events)]
        if offences:
            raise refusal_of(offences, self._options.offenders)
        crowd = refusal_of_crowd(events, self._options, self._gate, self._eps_threshold)
        if crowd is not None:
            raise crowd
        self._gate.admit(len(events))
        new = sum(map(self._apply, events, order.users))
        self._count_repeated_users(order)
        counted = {"all": len(events), "new": new, "none": 0}
        return self.success(counted[self._options.ingested], order.text)

    def success(self, ingested: int, text: str) -> Answer:
        """Say that so many events of the JSON `text` are in."""
        told = {
            "code": 200,
            "events_ingested": ingested,
            "payload_size_bytes": len(text.encode()),
            "server_upload_time": int(self._wall() * 1000),
        }
        return Answer(200, orjson.dumps(told).decode())

    def _refuse_firewalled(self, order: Order) -> None:
        """A firewall stands before what knows of events, so it names none."""
        if self._options.poison_status == 403 and next(self._poisoned(order.identifications), None):
            raise RequestRefusedError(403, "request blocked")

    def _unwanted(self, events: list[Identification]) -> Iterator[Offence]:
        yield from self._poisoned(events)
        for index, event in enumerate(events):
            if not self._options.silenced_users.isdisjoint(_ids(event).values()):
                yield Offence(index, SILENCED, "", "a silenced user")

    def _poisoned(self, events: list[Identification]) -> Iterator[Offence]:
        users, texts = self._options.poison_users, self._options.poison_texts
        if not (users or texts):
            return
        for index, event in enumerate(events):
            written = orjson.dumps(event).decode() if texts else ""
            fields = [field for field, given in _ids(event).items() if given in users]
            if any(text in written for text in texts):
                fields.append("user_properties")
            yield from (Offence(index, INVALID, field, "request blocked") for field in fields)

    def _apply(self, event: Identification, user: tuple[str | None, str]) -> bool:
        """Apply an event, unless its insert_id came before; whether it was new."""
        key = insert_key(event)
        if key is not None and not self._inserts.add(key):
            self._stats.repeated_inserts += 1
            return False
        identifies = event["event_type"] == IDENTIFY
        self._stats.identifications += identifies
        self._stats.events += not identifies
        change = event if identifies else _properties_only(event)
        if change is not None:
            self._applier.apply(user[0] or user[1], change, EVENT_KEYS)
        return True

    def _count_repeated_users(self, order: Order) -> None:
        """Other than the Identify API these take a user twice, but who promised not to do so is found out."""
        both = zip(order.identifications, order.users, strict=True)
        users = [user for event, user in both if event["event_type"] == IDENTIFY]
        self._stats.repeated_users += len(users) - len(set(users))


def insert_key(event: Identification) -> InsertKey | None:
    """Say what an event's insert_id is unique for: its device, or its user where it has no device."""
    insert_id = event.get("insert_id")
    if not isinstance(insert_id, str) or not insert_id:
        return None
    for field in ("device_id", "user_id"):
        owner = trimmed_id(event, field)
        if owner is not None:
            return field, owner, insert_id
    return None


def _ids(event: Identification) -> Mapping[str, str]:
    return {field: given for field in _IDS if (given := trimmed_id(event, field)) is not None}


def _properties_only(event: Identification) -> Identification | None:
    """Pick what an ordinary event changes of its user; a group's event is about nobody."""
    if not event.get("user_properties") or not _ids(event):
        return None
    return {name: event[name] for name in (*_IDS, "user_properties") if name in event}
