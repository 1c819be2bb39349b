"""A destination of which nobody knows what it does: it applies or doesn't, and answers what it likes."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs

from tests.serving import Reply, serving

# What becomes of an update: taken; refused for what it holds; answered 500 for ever, whether it is applied or
# not; or answered so once and refused from then on, for itself or (over batch) as over its quota.
Fate = Literal["well", "refused", "lost", "lost, not applied", "lost, then refused", "lost, then over quota"]
FATES: tuple[Fate, ...] = (
    *("well", "well", "refused", "lost", "lost, not applied", "lost, then refused", "lost, then over quota"),
)


@dataclass
class UnreliableServer:
    """`fates` says what becomes of the updates of a user, or of "user plan"; of others all goes well.

    `users` are the properties of each user, `owners` whose each device is; a device without a user is a user.
    """

    url: str = ""
    fates: dict[str, Fate] = field(default_factory=dict)
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    updates: int = 0
    _lost: set[str] = field(default_factory=set)

    def reset(self) -> None:
        """Forget everything."""
        self.users, self.owners = {}, {}
        self.begin({})

    def begin(self, fates: dict[str, Fate]) -> None:
        """A night with these fates begins."""
        self.fates, self._lost, self.updates = fates, set(), 0

    def answer(self, path: str, body: bytes) -> tuple[int, str]:
        """Take a request; status and text of the answer."""
        if path == "/batch":
            items = json.loads(gzip.decompress(body))["events"]
        else:
            items = json.loads(parse_qs(body.decode())["identification"][0])
        fates = {self._name(item): self._fate(item) for item in items}
        lost = {n: fate for n, fate in fates.items() if fate.startswith("lost") and n not in self._lost}
        if lost:
            self._lost.update(name for name, fate in lost.items() if "then" in fate)
            if "lost, not applied" not in lost.values():
                self.put(*items)
            return 500, "oops"
        over_quota = {name: 1 for name, fate in fates.items() if fate == "lost, then over quota"}
        if over_quota and path == "/batch":
            return 429, json.dumps({"code": 429, "error": "slow", "exceeded_daily_quota_users": over_quota})
        if over_quota or {"refused", "lost, then refused"}.intersection(fates.values()):
            return 400, "something about it is wrong"
        self.put(*items)
        self.updates += len(items)
        return 200, json.dumps({"code": 200, "events_ingested": len(items)})

    def _fate(self, item: dict[str, Any]) -> Fate:
        name, plan = self._name(item), item.get("user_properties", {}).get("$set", {}).get("plan")
        return self.fates.get(f"{name} {plan}", self.fates.get(name, "well"))

    def _name(self, item: dict[str, Any]) -> str:
        device = item.get("device_id", "")
        return str(item.get("user_id") or self.owners.get(device, device))

    def put(self, *items: dict[str, Any]) -> None:
        """Apply identifications."""
        for item in items:
            if item.get("user_id") and item.get("device_id"):
                self._link(item["device_id"], item["user_id"])
            properties = self.users.setdefault(self._name(item), {})
            for operator, values in item.get("user_properties", {}).items():
                for name, value in values.items():
                    if operator == "$unset":
                        properties.pop(name, None)
                    else:
                        properties[name] = value

    def _link(self, device: str, user: str) -> None:
        """For good; what the device had by itself goes to the user, whose own values win."""
        if device not in self.owners:
            self.owners[device] = user
            self.users[user] = {**self.users.pop(device, {}), **self.users.get(user, {})}


@contextmanager
def running_unreliable_server() -> Iterator[UnreliableServer]:
    """One that listens on this machine."""
    found, lock = UnreliableServer(), threading.Lock()

    def answer(path: str, _: Mapping[str, str], body: bytes) -> Reply:
        with lock:
            status, text = found.answer(path, body)
        return status, text.encode(), {}

    with serving(answer) as found.url:
        yield found
