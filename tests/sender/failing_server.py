"""A destination in memory where requests fail by chance, in turns or for a while."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from etl.amplitude.requests import TRANSPORT_RULES, TransportRules
from etl.amplitude.responses import Accepted, TryAgain, Verdict
from etl.model import Body

FAILED = TryAgain(False, "503 no backend", status=503)


@dataclass
class FailingServer:
    """Fails the requests that `fails` says by number and time, after `failing` seconds; takes others."""

    fails: Callable[[int, float], bool]
    latency: float = 0.15
    failing: float = 0.001
    failure: Verdict = FAILED
    poison: frozenset[str] = frozenset()
    requests: list[tuple[float, int, bool]] = field(default_factory=list)
    rules: TransportRules = TRANSPORT_RULES["identify"]

    async def pack(self, body: Body) -> Body:
        return body

    async def post(self, request: Body) -> Verdict:
        users = {entry["user_id"] for entry in json.loads(b"".join(request))}
        now = asyncio.get_running_loop().time()
        good = not self.fails(len(self.requests), now) and not users & self.poison
        self.requests.append((now, len(users), good))
        await asyncio.sleep(self.latency if good else self.failing)
        return Accepted() if good else self.failure


def by_chance(share: float, seed: int = 0) -> Callable[[int, float], bool]:
    """A share of requests fails, each for itself."""
    chance = random.Random(seed).random
    return lambda number, now: chance() < share
