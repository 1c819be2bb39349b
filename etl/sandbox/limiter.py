"""Who is let in and how often: keys, rates and throttled users, counted over all paths together."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection
from typing import Final

from .api_rules import RequestRefusedError
from .sandbox_options import SandboxOptions

_HOUR_SECONDS: Final = 3600.0


class TokenBucket:
    """Lets `rate` tokens a second through, and at once those of a second after a pause; None: no limit."""

    def __init__(self, rate: float | None, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._capacity = max(rate or 0.0, 1.0)
        self._level = self._capacity
        self._clock = clock
        self._seen = clock()

    def take(self, tokens: int) -> bool:
        """Take all the tokens or none.

        A full bucket serves any number and goes into debt, or a request above one second's worth
        could never pass.
        """
        if self._rate is None:
            return True
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._seen) * self._rate)
        self._seen = now
        if self._level < min(tokens, self._capacity):
            return False
        self._level -= tokens
        return True


class RollingCount:
    """Counts updates by user over the last `window` seconds, against `most` of them; None means no limit."""

    def __init__(self, most: float | None, window: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._window = window
        self._clock = clock
        self._times: dict[str, deque[float]] = {}

    def full(self, user: str) -> bool:
        """Whether one more update of the user would be too many."""
        times = self._times.get(user)
        if self._most is None or times is None:
            return False
        while times and times[0] <= self._clock() - self._window:
            times.popleft()
        return len(times) + 1 > self._most

    def add(self, user: str) -> None:
        """Count one update of the user now."""
        if self._most is not None:
            self._times.setdefault(user, deque()).append(self._clock())


class Limiter:
    """Counts against the options' limits; what is above one is a RequestRefusedError."""

    def __init__(self, options: SandboxOptions, clock: Callable[[], float]) -> None:
        self._options = options
        self._hot_tries: Counter[str] = Counter()
        self._requests = TokenBucket(options.requests_per_second, clock)
        self._identifications = TokenBucket(options.identifications_per_second, clock)
        self._reads = TokenBucket(options.reads_per_minute and options.reads_per_minute / 60, clock)
        per_second, window = options.user_updates_per_second, options.user_window
        self._updates = RollingCount(per_second and per_second * window, window, clock)
        self._hourly_updates = RollingCount(options.user_updates_per_hour, _HOUR_SECONDS, clock)

    def admit_request(self) -> None:
        """Let one more request in."""
        if not self._requests.take(1):
            raise RequestRefusedError(429, "too many requests a second")

    def admit_identifications(self, count: int) -> None:
        """Let that many identifications or events in."""
        if not self._identifications.take(count):
            raise RequestRefusedError(429, "too many identifications a second")

    def admit_read(self, authorization: str) -> None:
        """Let one more read with this Authorization header in."""
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "api-key" or not secret.strip():
            raise RequestRefusedError(401, "Missing Api-Key in Authorization header")
        if not _is_right(secret.strip(), self._options.secret_keys):
            raise RequestRefusedError(401, "Invalid Api-Key")
        if not self._reads.take(1):
            raise RequestRefusedError(429, "Number of requests per minute exceeds system limit")

    def check_key(self, api_key: str | None) -> None:
        """Refuse a wrong API key; the refusal's reason never holds it."""
        if not _is_right(api_key, self._options.api_keys):
            message = f"Invalid API key: {api_key or ''}" if self._options.echo_key else "invalid_api_key"
            raise RequestRefusedError(400, message, reason="invalid_api_key")

    def hot(self, names: Collection[str]) -> list[str]:
        """Return the hot ones among the ids of one request, and count the try."""
        hot, limit = self._options.hot_users.intersection(names), self._options.hot_tries
        self._hot_tries.update(hot)
        return [name for name in hot if limit is None or self._hot_tries[name] <= limit]

    def quick(self, names: Collection[str]) -> list[str]:
        """Return those who can't have one more update now, on the average of the window."""
        return [name for name in names if self._updates.full(name)]

    def count_update(self, name: str) -> bool:
        """Count one update of a user; False where the hourly limit drops it."""
        self._updates.add(name)
        if self._hourly_updates.full(name):
            return False
        self._hourly_updates.add(name)
        return True


def _is_right(key: str | None, right_keys: frozenset[str]) -> bool:
    """Whether a key is one of the right ones; without those any key that isn't empty is right."""
    return bool(key) and (not right_keys or key in right_keys)
