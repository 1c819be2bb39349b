"""What the sandbox answers, from a form to a status, and what it keeps of it. No I/O."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from etl.amplitude import FIELDS
from etl.sandbox.checks import Identification, RequestRefusedError, check, parse_identifications
from etl.sandbox.limits import RollingCount, TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from etl.sandbox.flights import UserKey
    from etl.sandbox.forms import Form
    from etl.sandbox.options import SandboxOptions
    from etl.sandbox.profiles import Profiles
    from etl.sandbox.stats import Stats

_HOUR_SECONDS = 3600.0
_FIELDS = frozenset(FIELDS)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it goes out; JSON where `text` is an object. `reason` says why it isn't a success."""

    status: int
    text: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """What a request asks for, not yet checked: its JSON text, what was in it, and whom each is about."""

    text: str
    identifications: list[Identification]
    users: tuple[UserKey, ...]


class Service:
    """Amplitude's two doors: `read` and `take` for an identify request, `profile` for reading back."""

    def __init__(
        self, options: SandboxOptions, profiles: Profiles, stats: Stats, clock: Callable[[], float]
    ) -> None:
        self._profiles = profiles
        self._options = options
        self._stats = stats
        self._hot_tries: Counter[str] = Counter()
        self._requests = _bucket(options.requests_per_second, clock)
        self._identifications = _bucket(options.identifications_per_second, clock)
        self._reads = _bucket(options.reads_per_minute and options.reads_per_minute / 60, clock)
        per_second, window = options.user_updates_per_second, options.user_window
        self._updates = None if per_second is None else RollingCount(per_second * window, window, clock)
        hourly = options.user_updates_per_hour
        self._hourly = None if hourly is None else RollingCount(hourly, _HOUR_SECONDS, clock)

    def read(self, form: Form) -> Order:
        """Read the order in a form. Raises RequestRefusedError for a key or a content that isn't taken."""
        if self._requests is not None and not self._requests.take(1):
            raise RequestRefusedError(429, "too many requests a second")
        self._check_key(form.api_key)
        if form.identification is None:
            raise RequestRefusedError(400, "missing_event")
        found = parse_identifications(form.identification)
        return Order(form.identification, found, tuple(map(self._profiles.key, found)))

    def take(self, order: Order) -> Answer:
        """Check an order and apply it. Raises RequestRefusedError where a rule or a limit forbids it."""
        self._refuse_poison(order)
        if len(order.identifications) > self._options.max_identifications:
            raise RequestRefusedError(413, "too many identifications in one request")
        for identification in order.identifications:
            check(identification)
        names = _names(order)
        self._refuse_repeated(names, order)
        self._refuse_hot(names)
        self._throttle(names)
        for name, identification in zip(names, order.identifications, strict=True):
            self._apply(name, identification)
        self._stats.identifications += len(names)
        return Answer(200, "success")

    def profile(self, query: Mapping[str, str], authorization: str) -> Answer:
        """Answer for the profile API. Raises RequestRefusedError."""
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "api-key" or not _known(secret.strip(), self._options.secret_keys):
            raise RequestRefusedError(401, "invalid secret key")
        if self._reads is not None and not self._reads.take(1):
            raise RequestRefusedError(429, "too many reads a minute")
        user_id, device_id = query.get("user_id"), query.get("device_id")
        if not (user_id or device_id):
            raise RequestRefusedError(400, "user_id or device_id is needed")
        found = self._profiles.find(user_id or None, device_id)
        if found is None:
            raise RequestRefusedError(404, "no such user_id or device_id")
        told = found.as_json()
        if query.get("get_amp_props", "").lower() != "true":
            told["amp_props"] = None
        return Answer(200, orjson.dumps({"userData": told}).decode())

    def _check_key(self, api_key: str | None) -> None:
        if _known(api_key, self._options.api_keys):
            return
        echo = f"Invalid API key: {api_key or ''}"
        words = echo if self._options.echo_key else "invalid_api_key"
        raise RequestRefusedError(400, words, reason="invalid_api_key")

    def _refuse_poison(self, order: Order) -> None:
        options = self._options
        poisoned = any(text in order.text for text in options.poison_texts)
        if poisoned or (options.poison_users and not options.poison_users.isdisjoint(_names(order))):
            raise RequestRefusedError(options.poison_status, "request blocked")

    def _refuse_repeated(self, names: list[str], order: Order) -> None:
        repeated = len(names) - len(set(order.users))
        if repeated:
            self._stats.repeated_users += repeated
            raise ThrottledUsersError([name for name, count in Counter(names).items() if count > 1])

    def _refuse_hot(self, names: list[str]) -> None:
        hot, limit = self._options.hot_users.intersection(names), self._options.hot_tries
        self._hot_tries.update(hot)
        throttled = [name for name in hot if limit is None or self._hot_tries[name] <= limit]
        if throttled:
            raise ThrottledUsersError(throttled)

    def _throttle(self, names: list[str]) -> None:
        if self._updates is not None:
            quick = [name for name in names if self._updates.full(name)]
            if quick:
                raise ThrottledUsersError(quick)
        if self._identifications is not None and not self._identifications.take(len(names)):
            raise RequestRefusedError(429, "too many identifications a second")

    def _apply(self, name: str, identification: Identification) -> None:
        if self._updates is not None:
            self._updates.add(name)
        if self._hourly is not None:
            if self._hourly.full(name):
                self._stats.dropped_updates += 1
                return
            self._hourly.add(name)
        if not _FIELDS.issuperset(identification):
            self._stats.unknown_keys.update(identification.keys() - _FIELDS)
        self._profiles.apply(identification)


class ThrottledUsersError(RequestRefusedError):
    """Some users of the request are updated too often; the answer names them."""

    def __init__(self, names: Collection[str]) -> None:
        words = "too many updates of some users"
        told = {"code": 429, "error": words, "throttled_users": sorted(names)}
        super().__init__(429, orjson.dumps(told).decode(), reason=words)


def refusal(error: RequestRefusedError) -> Answer:
    """Answer a refused request: bare words where the service is known to use them, or JSON."""
    text = error.words
    if text not in {"missing_event", "invalid_api_key"} and not text.startswith("{"):
        text = orjson.dumps({"code": error.status, "error": text}).decode()
    return Answer(error.status, text, error.reason)


def _names(order: Order) -> list[str]:
    return [user_id or device_id for user_id, device_id in order.users]


def _known(key: str | None, valid: frozenset[str]) -> bool:
    return bool(key) and (not valid or key in valid)


def _bucket(rate: float | None, clock: Callable[[], float]) -> TokenBucket | None:
    return None if rate is None else TokenBucket(rate, clock)
