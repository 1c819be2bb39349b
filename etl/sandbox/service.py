"""What the Identify and the profile API answer, from a form to a status. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import orjson

from etl.sandbox.answers import Answer, Order
from etl.sandbox.checks import RequestRefusedError, check, parse_identifications

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from etl.sandbox.applying import Applier
    from etl.sandbox.forms import Form
    from etl.sandbox.gate import Gate
    from etl.sandbox.options import SandboxOptions
    from etl.sandbox.profiles import Profiles
    from etl.sandbox.stats import Stats


class IdentifyService:
    """`POST /identify`: `read` a form, then `take` what it asks for."""

    def __init__(
        self, options: SandboxOptions, profiles: Profiles, stats: Stats, gate: Gate, applier: Applier
    ) -> None:
        self._options = options
        self._profiles = profiles
        self._stats = stats
        self._gate = gate
        self._applier = applier

    def read(self, form: Form) -> Order:
        """Read the order in a form. Raises RequestRefusedError for a key or a content that isn't taken."""
        self._gate.enter()
        self._gate.check_key(form.api_key)
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
        self._throttle(names)
        for name, identification in zip(names, order.identifications, strict=True):
            self._applier.apply(name, identification)
        self._stats.identifications += len(names)
        return Answer(200, "success")

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

    def _throttle(self, names: list[str]) -> None:
        throttled = self._gate.hot(names) or self._gate.quick(names)
        if throttled:
            raise ThrottledUsersError(throttled)
        self._gate.admit(len(names))


class ThrottledUsersError(RequestRefusedError):
    """Some users of the request are updated too often; the answer names them."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(429, "too many updates of some users", details={"throttled_users": sorted(names)})


class ProfileService:
    """`GET /v1/userprofile`: tells what is known of a user or device."""

    def __init__(self, profiles: Profiles, gate: Gate) -> None:
        self._profiles = profiles
        self._gate = gate

    def answer(self, query: Mapping[str, str], authorization: str) -> Answer:
        """Look up a profile by the query of the request. Raises RequestRefusedError."""
        self._gate.read(authorization)
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


def _names(order: Order) -> list[str]:
    return [user_id or device_id for user_id, device_id in order.users]
